// What happened last, beside the picture: the roaming log's newest lines, and where the rest of it is.

import { cost, effectOf, headline, isMinor, tone } from "./events.js";
import { clock } from "./format.js";
import { useKnown } from "./hooks.js";
import { html } from "./vendor/preact.js";

const SHOWN = 14;

export function News() {
  const { log } = useKnown(["log"], 200);
  const newest = log.filter((entry) => !isMinor(entry)).slice(-SHOWN).reverse();
  return html`<section class="news" aria-labelledby="news-title">
    <h2 id="news-title">What happened</h2>
    ${newest.length === 0 && html`<p class="quiet">Nothing yet. Each move and its reason appear here.</p>`}
    <ol>${newest.map((entry) => {
      const paid = cost(effectOf(entry, log));
      return html`<li key=${entry.number} class="event ${tone(entry)}">
        <a href=${`#/log?${entry.number}`}><b>${headline(entry)}</b><time>${clock(entry.time)}</time></a>
        ${entry.reason && html`<p>${entry.reason}</p>`}
        ${paid && html`<p class="paid">${paid}</p>`}
      </li>`;
    })}</ol>
    ${newest.length > 0 && html`<a class="link" href="#/log">The whole log</a>`}
  </section>`;
}
