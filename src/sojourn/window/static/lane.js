// One network: a head with what is known of it, and the threads that run in it.

import { el, write } from "./dom.js";
import { bytes, ms, msParts, plural, rateParts, shareParts } from "./format.js";
import { Icon, NetworkIcon } from "./icons.js";
import { NOWHERE } from "./threads.js";
import { html, render } from "./vendor/preact.js";

const HEAD_EVERY_MS = 250;

const STATES = {
  up: "works",
  down: "down",
  degraded: "loses packets",
  captive: "wants a login",
  blocked: "blocked",
  paused: "paused",
  excluded: "excluded",
};

export const laneName = (network) => (network === undefined ? "nowhere" : network.label || network.name);

/** What kept the network from being used, with the remedy where there is one. */
function remark(network) {
  if (network.state === "captive") return `Log in: sojourn networks open ${network.name}`;
  if (network.state === "excluded") return "Never used, until you include it again.";
  if (network.state === "paused") return "Not used, until you resume it.";
  return network.reason;
}

function Figure({ name, parts, of, warn }) {
  return html`<div class="figure ${warn ? "warn" : ""}" title=${of}>
    <dt>${name}</dt><dd><b>${parts[0]}</b> <span>${parts[1]}</span></dd>
  </div>`;
}

function Cap({ used, cap, over }) {
  const part = Math.min(1, used / cap);
  return html`<div class="cap ${over ? "over" : ""}">
    <span class="gauge"><i style=${{ transform: `scaleX(${part})` }} /></span>
    <small>${bytes(used)} of ${bytes(cap)} this month</small>
  </div>`;
}

function Head({ network, id, onMenu }) {
  const tunnel = network.tunnel ?? {};
  const down = !["up", "degraded"].includes(network.state);
  const said = remark(network);
  const tags = [
    network.default && html`<span class="tag">default</span>`,
    network.metered && html`<span class="tag warn">metered</span>`,
    network.roaming && html`<span class="tag warn">roaming</span>`,
    network.technology && html`<span class="tag">${network.technology}</span>`,
    network.security === "open" && html`<span class="tag warn">open</span>`,
  ];
  return html`
    <div class="lane-title">
      <${NetworkIcon} kind=${network.kind} signal=${network.signal} down=${down} />
      <h2 id=${id}>${laneName(network)}</h2>
      <button type="button" class="more" aria-haspopup="menu" aria-label=${`What to do with ${laneName(network)}`} onClick=${onMenu}>
        <${Icon} name="more" />
      </button>
    </div>
    <p class="lane-state"><i class="lamp ${network.state}" /><span>${STATES[network.state] ?? network.state}</span>
      ${network.signal != null && html`<span class="signal">signal ${Math.round(network.signal * 100)} %</span>`}
      ${network.label && network.label !== network.name && html`<span class="device">${network.interface}</span>`}
      ${tags}
    </p>
    ${said && html`<p class="lane-reason">${said}</p>`}
    ${!down && html`<dl class="figures">
      <${Figure} name="RTT" parts=${msParts(tunnel.rtt_ms)} of=${`Round trip; jitter ${ms(tunnel.jitter_ms)}`} />
      <${Figure} name="Loss" parts=${shareParts(tunnel.loss)} of="Of the worse direction" warn=${tunnel.loss > 0.02} />
      <${Figure} name="In" parts=${rateParts(tunnel.in_bps)} of="Received now" />
      <${Figure} name="Out" parts=${rateParts(tunnel.out_bps)} of="Sent now" />
    </dl>`}
    ${network.cap_bytes && html`<${Cap} used=${network.used_bytes} cap=${network.cap_bytes} over=${network.over_cap} />`}
  `;
}

function Nowhere({ id }) {
  return html`
    <div class="lane-title"><${Icon} name="hold" class="kind" /><h2 id=${id}>On no network</h2></div>
    <p class="lane-reason">These flows wait, or are refused: a rule or you said so, or no network works.</p>
  `;
}

let counter = 0;

export class Lane {
  constructor(name, onMenu) {
    this.name = name;
    this.id = `lane-${(counter += 1)}`;
    this.element = el("section", "lane");
    this.element.dataset.network = name;
    this.element.setAttribute("aria-labelledby", this.id);
    this.head = el("header", "lane-head");
    this.body = el("div", "lane-body");
    this.threads = el("ul", "threads");
    this.empty = el("p", "lane-note");
    this.body.append(this.threads, this.empty);
    this.element.append(this.head, this.body);
    this.onMenu = onMenu;
    this.rows = new Map(); // application -> ThreadRow
    this.written = -Infinity;
    this.network = undefined;
    this.dirty = true;
  }

  get label() {
    return this.name === NOWHERE ? "no network" : laneName(this.network);
  }

  /** Whether flows may be put here. */
  get open() {
    return this.network !== undefined && ["up", "degraded"].includes(this.network.state);
  }

  /** Whether it has another state than its head says: that is told at once. */
  get urgent() {
    return this.written === -Infinity;
  }

  update(network) {
    if (network.state !== this.network?.state) this.written = -Infinity;
    this.network = network;
    this.dirty = true;
    this.element.dataset.state = network.state;
  }

  /** Write the head if it changed and it is time for it. Returns whether it was. */
  refresh(now) {
    if (!this.dirty || now - this.written < HEAD_EVERY_MS) return false;
    this.written = now;
    this.dirty = false;
    const menu = (event) => this.onMenu(this, event.currentTarget);
    const head = this.name === NOWHERE ? html`<${Nowhere} id=${this.id} />` : html`<${Head} network=${this.network} id=${this.id} onMenu=${menu} />`;
    render(head, this.head);
    this.threads.setAttribute("aria-label", `Applications on ${this.label}`);
    return true;
  }

  /** Say what an empty lane is for. */
  note(anything) {
    const living = [...this.rows.values()].filter((row) => !row.ghostUntil).length;
    this.threads.hidden = this.rows.size === 0;
    this.empty.hidden = this.rows.size > 0;
    if (this.rows.size > 0) return;
    const text = !this.open
      ? "Nothing goes here while it is so."
      : anything
        ? "Nothing runs here now. Drag an application onto this lane to move it."
        : "Ready.";
    write(this.empty, text);
    this.element.dataset.threads = plural(living, "thread");
  }

  /** Put a row where the alphabet wants it. */
  place(row) {
    const name = row.name.toLowerCase();
    let before = null;
    for (const other of this.threads.children) {
      if ((other.row?.name.toLowerCase() ?? "") > name) {
        before = other;
        break;
      }
    }
    row.element.row = row;
    this.threads.insertBefore(row.element, before);
  }
}
