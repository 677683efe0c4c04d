// The page's frame: who this is, which part is shown, and what to do when there is nobody to talk to.

import { AnchorPage } from "./anchor.js";
import { everything, handOver, networkName, order, undo } from "./actions.js";
import { post } from "./api.js";
import { useKnown } from "./hooks.js";
import { Icon } from "./icons.js";
import { Live } from "./live.js";
import { Above, openMenu } from "./menu.js";
import { Past } from "./past.js";
import { Policies } from "./policies.js";
import { known, start } from "./store.js";
import { Timeline } from "./timeline.js";
import { Toasts } from "./toasts.js";
import { html, render, useEffect, useState } from "./vendor/preact.js";

const PARTS = {
  host: [["live", "Live", Live], ["policies", "Policies", Policies], ["past", "Past", Past], ["log", "Log", Timeline]],
  anchor: [["live", "Anchor", AnchorPage], ["log", "Log", Timeline]],
};

const partOf = () => location.hash.replace(/^#\/?/, "").split("?")[0] || "live";

function usePart() {
  const [part, set] = useState(partOf());
  useEffect(() => {
    const changed = () => {
      if (location.hash.includes("token=")) location.reload(); // another window's link was opened in this tab
      else set(partOf());
    };
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return part;
}

function moveEverything(event) {
  const open = [...known.networks.values()].filter((one) => ["up", "degraded"].includes(one.state));
  const { everything: ordered } = known.orders;
  openMenu(event.currentTarget, "Move everything", [
    { head: "Everything goes" },
    { label: "as the policies say", checked: ordered === null, run: () => handOver(everything, "policy") },
    ...open.map((one) => ({ label: `over ${networkName(one.name)}`, checked: ordered === one.name, run: () => handOver(everything, one.name) })),
    null,
    { label: "Undo the last order", icon: "why", disabled: !known.undo, note: known.undo?.what, run: () => undo() },
    known.status?.capturing === false
      ? { label: "Take traffic in again", icon: "play", run: () => order(() => post("/api/up")) }
      : { label: "Stop taking traffic in", icon: "exclude", run: () => order(() => post("/api/down")) },
  ]);
}

const LAMPS = { associated: "up", running: "up", connecting: "degraded", offline: "down" };

function Who() {
  useKnown(["status", "role", "line", "networks"]);
  const { status, about, line } = known;
  if (!status || line.state !== "live") return null;
  const where = known.role === "anchor" ? status.address : [status.vipa, status.anchor && `anchor ${status.anchor}`].filter(Boolean).join(" · ");
  return html`<p class="who"><i class="lamp ${LAMPS[status.state] ?? "down"}" />
    <span><b>${about?.hostname ?? known.role}</b> ${status.state}</span> <span class="where">${where}</span></p>`;
}

function Top({ part, parts }) {
  useKnown(["role", "questions", "orders", "line"]);
  const { everything: ordered } = known.orders;
  return html`<header class="top">
    <a class="brand" href="#/live" aria-label="Sojourn"><img src="/static/icon.svg" alt="" width="26" height="26" /><span>Sojourn</span></a>
    <nav aria-label="Parts">
      ${parts.map(([key, name]) => html`<a href=${`#/${key}`} aria-current=${key === part ? "page" : null}>${name}
        ${key === "live" && part !== "live" && known.questions.length > 0 && html`<span class="badge">${known.questions.length}</span>`}</a>`)}
    </nav>
    <${Who} />
    ${known.role === "host" && known.line.state === "live" && html`<button type="button" class="everything ${ordered ? "ordered" : ""}" aria-haspopup="menu" onClick=${moveEverything}>
      <${Icon} name="move" /><span>${ordered ? `Everything on ${networkName(ordered)}` : "Move everything"}</span></button>`}
  </header>`;
}

const LONELY = {
  none: {
    title: "This page has no key",
    text: "The key of a window is in the link that opened it, and is kept nowhere else: after a reload it is gone.",
    remedy: ["Open the link again that ", "sojourn window", " printed, or run it once more."],
  },
  away: {
    title: "The daemon is not running",
    text: "This window shows what `sojourn host` does, and it does not answer.",
    remedy: ["Start it with ", "sudo sojourn host", ", or look what it says with systemctl status sojourn-host. The picture comes back by itself."],
  },
  lost: {
    title: "Disconnected",
    text: "The window's server does not answer. Flows are not touched by that: only the picture is missing.",
    remedy: ["Run ", "sojourn window", " again if it was stopped. Otherwise this page comes back by itself."],
  },
};

function Lonely() {
  const { line, role } = known;
  if (line.state === "connecting") return html`<main class="lonely" aria-busy="true"><p class="quiet">One moment…</p></main>`;
  const said = LONELY[line.state] ?? LONELY.lost;
  const [before, command, after] = said.remedy;
  const own = role === "anchor" ? command.replace("sojourn host", "sojourn anchor") : command;
  return html`<main class="lonely">
    <${Icon} name=${line.state === "none" ? "key" : "warn"} />
    <h1>${said.title}</h1>
    <p>${line.refusal?.message && line.state !== "lost" ? line.refusal.message : said.text}</p>
    <p>${line.refusal?.kind === "stranger" ? line.refusal.remedy : html`${before}<code>${own}</code>${after}`}</p>
  </main>`;
}

/** The page stays while the line is gone for a moment; a strip says so. */
function Strip() {
  useKnown(["line"]);
  const { state, refusal } = known.line;
  if (state === "live") return null;
  const said = LONELY[state] ?? LONELY.lost;
  return html`<div class="strip" role="alert"><${Icon} name="warn" /><p><b>${said.title}.</b> ${refusal?.remedy || said.remedy.join("")}
    What you see is from before.</p></div>`;
}

function App() {
  useKnown(["line", "role"]);
  const part = usePart();
  const parts = PARTS[known.role] ?? PARTS.host;
  const [, name, Body] = parts.find(([key]) => key === part) ?? parts[0];
  useEffect(() => {
    document.title = known.about ? `${name} · ${known.about.hostname} · Sojourn` : "Sojourn";
  }, [name, known.about]);
  const never = known.status === null;
  if (never && known.line.state !== "live") return html`<${Lonely} />`;
  return html`<a class="skip" href="#main" onClick=${(event) => {
      event.preventDefault();
      document.querySelector("main").focus();
    }}>To the content</a>
    <${Top} part=${part} parts=${parts} />
    <${Strip} />
    <main id="main" tabindex="-1" class="part-${part}"><h1 class="unseen">${name}</h1><${Body} /><${Above} /></main>
    <${Toasts} />`;
}

start();
const page = document.getElementById("page");
page.replaceChildren();
render(html`<${App} />`, page);
