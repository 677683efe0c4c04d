// The roaming log as a timeline: what the networks did and where the flows went, one line an event. A click shows what
// was known when a decision was made, and the gap that it cost.

import { networkName } from "./actions.js";
import { get } from "./api.js";
import { cost, effectOf, headline, isMinor, tone } from "./events.js";
import { clock, day, ms, plural } from "./format.js";
import { useKnown } from "./hooks.js";
import { known } from "./store.js";
import { html, useEffect, useState } from "./vendor/preact.js";

const PAGE = 200;
const LONG_GAP_MS = 1000;

function Known({ entry }) {
  const words = Object.entries(entry.known ?? {});
  if (words.length === 0) return null;
  return html`<h4>What was known then</h4>
    <table><tbody>${words.map(([network, said]) => html`<tr class=${network === entry.network ? "used" : ""}>
      <th scope="row">${networkName(network)}</th><td>${said}</td></tr>`)}</tbody></table>`;
}

function Gap({ effect }) {
  if (effect?.gap_ms == null) return null;
  const part = Math.min(1, Math.log10(1 + effect.gap_ms) / Math.log10(1 + 10 * LONG_GAP_MS));
  return html`<h4>What it cost</h4><div class="gap ${effect.gap_ms > LONG_GAP_MS ? "long" : ""}"><span class="gauge"><i style=${{ transform: `scaleX(${part})` }} /></span>
    <b>${ms(effect.gap_ms)}</b> <span>in which ${effect.flows ? plural(effect.flows, "flow") : "the flows"} heard nothing</span></div>`;
}

function Details({ entry, effect }) {
  return html`<div class="details">
    ${entry.decision && html`<p><b>Decided:</b> ${entry.decision}</p>`}
    ${entry.reason && html`<p><b>Because:</b> ${entry.reason}</p>`}
    <${Gap} effect=${effect ?? (entry.gap_ms != null ? entry : null)} />
    <${Known} entry=${entry} />
    <p class="quiet">Entry ${entry.number}${effect ? `, effect in entry ${effect.number}` : ""}</p>
  </div>`;
}

function Line({ entry, log, open, toggle }) {
  const effect = effectOf(entry, log);
  const paid = cost(effect);
  return html`<li class="event ${tone(entry)} ${open ? "open" : ""}" id=${`entry-${entry.number}`}>
    <button type="button" aria-expanded=${String(open)} onClick=${toggle}>
      <time>${clock(entry.time)}</time><i class="dot" /><b>${headline(entry)}</b>
      <span class="because">${entry.reason}</span>${paid && html`<span class="paid">${paid}</span>`}
    </button>
    ${open && html`<${Details} entry=${entry} effect=${effect} />`}
  </li>`;
}

/** The lines of some entries (newest first), with a heading for each day. */
function daysOf(entries) {
  const days = new Map();
  for (const entry of entries) {
    const name = day(entry.time);
    if (!days.has(name)) days.set(name, []);
    days.get(name).push(entry);
  }
  return [...days];
}

const wanted = () => Number(location.hash.split("?")[1]) || null;

export function Timeline() {
  useKnown(["log"], 300);
  const [older, setOlder] = useState([]);
  const [ended, setEnded] = useState(false);
  const [open, setOpen] = useState(wanted());
  const [network, setNetwork] = useState("");
  const [every, setEvery] = useState(false);
  const [wrong, setWrong] = useState(null);
  const first = known.log[0]?.number ?? Infinity;
  const log = [...older.filter((entry) => entry.number < first), ...known.log];
  const networks = [...new Set(log.map((entry) => entry.network).filter(Boolean))];
  const shown = log.filter((entry) => (every || !isMinor(entry)) && (!network || entry.network === network)).reverse();
  useEffect(() => {
    const there = open && document.getElementById(`entry-${open}`);
    there?.scrollIntoView({ block: "center" });
    there?.querySelector("button").focus({ preventScroll: true });
  }, []);
  const more = async () => {
    try {
      const { entries } = await get(`/api/log?before=${log[0]?.number ?? 0}&limit=${PAGE}`);
      setOlder([...entries, ...older]);
      setEnded(entries.length < PAGE);
    } catch (error) {
      setWrong(error);
    }
  };
  return html`<section class="timeline" aria-labelledby="log-title">
    <header class="page-head"><div><h2 id="log-title">What happened, and why</h2>
      <p class="quiet">Choose a line to see what was known when a decision was made, and the gap that it cost.</p></div>
      <div class="filters">
        <label>Network <select value=${network} onChange=${(event) => setNetwork(event.target.value)}><option value="">all</option>
          ${networks.map((name) => html`<option value=${name}>${networkName(name)}</option>`)}</select></label>
        <label class="check"><input type="checkbox" checked=${every} onChange=${(event) => setEvery(event.target.checked)} /> every entry</label>
      </div></header>
    ${shown.length === 0 && html`<p class="teach">Nothing is written yet. As soon as a network comes, goes or falls silent, or a flow moves, it is told here with its reason.</p>`}
    ${daysOf(shown).map(([name, entries]) => html`<h3>${name}</h3><ol key=${name}>${entries.map((entry) => html`<${Line}
      key=${entry.number} entry=${entry} log=${log} open=${open === entry.number}
      toggle=${() => setOpen(open === entry.number ? null : entry.number)} />`)}</ol>`)}
    ${wrong && html`<p class="bad">${wrong.message} ${wrong.remedy}</p>`}
    ${!ended && log.length > 0 && log[0].number > 1 && html`<p><button type="button" onClick=${more}>Show what was before</button></p>`}
  </section>`;
}
