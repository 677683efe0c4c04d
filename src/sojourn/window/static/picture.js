// The live picture: lanes and the threads in them, kept in line with what is known.
//
// One loop, once a frame, with a budget: take in what changed, let the ribbons drift, write a few texts. What does not
// fit into a frame waits for the next one, so that a thousand flows never make the page stop.

import { el, motionWelcome } from "./dom.js";
import { fly } from "./flight.js";
import { ms } from "./format.js";
import { Lane } from "./lane.js";
import { onNight } from "./palette.js";
import { changes, known, listen } from "./store.js";
import { ThreadRow } from "./thread_row.js";
import { NOWHERE, Threads } from "./threads.js";

const BUDGET_MS = 7;
const WRITE_EVERY_MS = 100; // whatever is written costs a layout and all layers anew: not every frame, and not all at once
const TURNS = 3; // in which each thread's figures are written once
const RIBBON_EVERY_MS = 33;
const RIBBON_EVERY_MS_STILL = 1000;
const REASON_WITHIN_S = 4;

export class Picture {
  /** `menus`: what to do when a menu is asked for, `{thread, lane}`. */
  constructor(root, menus) {
    this.root = root;
    this.menus = menus;
    this.threads = new Threads();
    this.lanes = new Map();
    this.recent = []; // moves of the last seconds, until their reason and their gap are known
    this.turn = 0;
    this.wroteAt = -Infinity;
    this.ribbonsAt = this.last = performance.now();
    this.sizes = new ResizeObserver(() => {
      this.measure = true;
    });
    this.sizes.observe(root);
    this.seen = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.target.row) entry.target.row.visible = entry.isIntersecting;
    });
    this.ends = [
      listen("networks", () => this.#networks()),
      listen("orders", () => this.#orders()),
      listen("log", () => this.#log()),
      onNight(() => this.rows((row) => row.paint())),
    ];
    changes.fresh = true;
    this.#networks();
    this.frame = this.frame.bind(this);
    this.running = requestAnimationFrame(this.frame);
  }

  stop() {
    cancelAnimationFrame(this.running);
    this.sizes.disconnect();
    this.seen.disconnect();
    for (const end of this.ends) end();
  }

  rows(then) {
    for (const lane of this.lanes.values()) for (const row of lane.rows.values()) then(row, lane);
  }

  // -- once a frame

  frame(now) {
    this.running = requestAnimationFrame(this.frame);
    const until = performance.now() + BUDGET_MS;
    if (changes.fresh) this.#begin();
    if (changes.flows.size || changes.gone.size) this.#take(now, until);
    if (this.measure) this.#measure();
    this.#drift(now);
    this.#write(now, until);
  }

  #begin() {
    changes.fresh = false;
    this.threads.clear();
    this.recent.length = 0;
    for (const lane of this.lanes.values()) {
      for (const row of lane.rows.values()) this.#drop(lane, row);
    }
    changes.gone.clear();
    changes.flows = new Set(known.flows.keys());
    this.silent = true; // what is there from the beginning has not come from anywhere
  }

  #take(now, until) {
    const moved = new Map();
    const whys = new Map(changes.moves.map((move) => [move.flow, move.why]));
    changes.moves.length = 0;
    for (const id of changes.gone) this.#ended(this.threads.end(id), now);
    changes.gone.clear();
    let count = 0;
    for (const id of changes.flows) {
      changes.flows.delete(id);
      const flow = known.flows.get(id);
      if (flow === undefined) continue;
      const left = this.threads.take(flow);
      if (left !== null) note(moved, left, this.threads.places.get(id).group, whys.get(id));
      if ((count += 1) % 64 === 0 && performance.now() > until) break;
    }
    this.#structure(now);
    if (moved.size) this.#show(moved, now);
    if (changes.flows.size === 0) this.silent = false;
  }

  /** Make rows for threads that have none. */
  #structure(now) {
    for (const group of this.threads.groups.values()) {
      if (!group.changed) continue;
      const lane = this.#lane(group.network);
      const row = lane.rows.get(group.application);
      if (row === undefined) this.#add(lane, group);
      else if (row.group !== group || row.ghostUntil) {
        row.revive(group, now);
        row.ordered(known.orders.applications[group.application]);
      } else row.structure();
      group.changed = false;
    }
    this.#notes();
  }

  #add(lane, group) {
    const row = new ThreadRow(group, lane.label);
    row.ordered(known.orders.applications[group.application]);
    lane.rows.set(group.application, row);
    lane.place(row);
    this.seen.observe(row.element);
    this.measure = true;
    return row;
  }

  #drop(lane, row) {
    this.seen.unobserve(row.element);
    const focused = row.element.contains(document.activeElement);
    row.element.remove();
    lane.rows.delete(row.group.application);
    if (focused) this.root.querySelector(".grip")?.focus();
    this.noteSoon = true;
  }

  #ended(group, now) {
    if (group === null || group.flows.size > 0) return;
    this.lanes.get(group.network)?.rows.get(group.application)?.leave(null, now);
  }

  #notes() {
    const anything = this.threads.places.size > 0;
    for (const lane of this.lanes.values()) {
      if (lane.name === NOWHERE) lane.element.hidden = lane.rows.size === 0;
      lane.note(anything);
    }
    this.noteSoon = false;
  }

  // -- moves

  /** Let what moved be seen moving. Places are read twice, before and after all is written: two layouts, however many. */
  #show(moved, now) {
    const flights = [];
    for (const { from, to, count, why } of moved.values()) {
      const source = this.lanes.get(from.network)?.rows.get(from.application);
      const target = this.lanes.get(to.network)?.rows.get(to.application);
      if (!target) continue;
      flights.push({ from, to, count, source, target, start: source?.grip.getBoundingClientRect() });
      this.recent.push({ application: to.application, from: from.network, to: to.network, why, gap: null, at: now });
    }
    for (const { from, to, source, target } of flights) {
      const focused = source?.element.contains(document.activeElement);
      if (source && from.flows.size === 0) source.leave(`moved to ${this.#label(to.network)}`, now);
      if (focused && source.ghostUntil) target.grip.focus({ preventScroll: true });
    }
    if (this.recent.length > 200) this.recent.splice(0, this.recent.length - 200);
    this.#log();
    if (this.silent) return;
    const ends = flights.map(({ target }) => target.grip.getBoundingClientRect());
    flights.forEach(({ count, target, start }, at) => {
      if (start) fly(start, ends[at], target.name, target.hue, count);
      flash(target.element);
    });
  }

  /** Put reasons and gaps, which may come after the move, beside what moved. */
  #log() {
    const now = performance.now();
    this.recent = this.recent.filter((move) => now - move.at < REASON_WITHIN_S * 1000);
    const since = known.at - REASON_WITHIN_S;
    const entries = known.log.slice(-40).filter((entry) => entry.time >= since);
    for (const move of this.recent) {
      const decision = entries.findLast((entry) => entry.event === "handover" && (entry.network === move.to || entry.network === null));
      const effect = entries.findLast((entry) => entry.event === "moved" && entry.network === move.to && entry.gap_ms != null);
      const why = move.why || decision?.reason;
      const gap = effect && effect.number > (decision?.number ?? 0) ? `heard again after ${ms(effect.gap_ms)}` : null;
      const row = this.lanes.get(move.to)?.rows.get(move.application);
      const text = [`from ${this.#label(move.from)}`, why, gap].filter(Boolean).join(" · ");
      if (row && row.whyText !== text) row.explain(text, now);
    }
  }

  #label(network) {
    return this.lanes.get(network)?.label ?? (network || "no network");
  }

  // -- ribbons and texts

  #drift(now) {
    const every = motionWelcome() ? RIBBON_EVERY_MS : RIBBON_EVERY_MS_STILL;
    if (now - this.ribbonsAt < every) return;
    const seconds = Math.min((now - this.ribbonsAt) / 1000, 1);
    this.ribbonsAt = now;
    this.rows((row) => {
      if (!row.visible) return;
      row.ribbon.set(row.group.in, row.group.out);
      row.ribbon.step(seconds);
    });
  }

  #write(now, until) {
    const due = now - this.wroteAt >= WRITE_EVERY_MS;
    for (const lane of this.lanes.values()) if ((due || lane.urgent) && lane.refresh(now)) break;
    if (!due) return;
    this.wroteAt = now;
    const all = [];
    this.rows((row, lane) => {
      if (row.ghostUntil && now > row.ghostUntil) this.#drop(lane, row);
      else all.push(row);
      if (row.visible) row.list?.refresh(now);
    });
    let left = Math.ceil(all.length / TURNS);
    for (let step = 0; step < all.length; step += 1) {
      this.turn = (this.turn + 1) % all.length;
      const row = all[this.turn];
      if (row.visible && !row.ghostUntil && row.refresh(now)) left -= 1;
      if (row.whyUntil && now > row.whyUntil) row.explain(null, now);
      if (left === 0 || performance.now() > until) break;
    }
    if (this.noteSoon) this.#networks();
  }

  /** Give every ribbon the size of its place: all are read, then all are written. */
  #measure() {
    this.measure = false;
    const density = Math.min(devicePixelRatio || 1, 2);
    const sizes = [];
    this.rows((row) => sizes.push([row, row.ribbon.canvas.parentNode.clientWidth, row.ribbon.canvas.parentNode.clientHeight]));
    for (const [row, width, height] of sizes) row.ribbon.resize(width, height, density);
  }

  // -- lanes

  #lane(name) {
    let lane = this.lanes.get(name);
    if (lane === undefined) {
      lane = new Lane(name, (one, anchor) => this.menus.lane(one, anchor));
      if (name !== NOWHERE) lane.update(known.networks.get(name) ?? { name, interface: name, kind: "other", state: "down" });
      this.lanes.set(name, lane);
      this.root.append(lane.element);
      lane.refresh(performance.now());
      this.#order();
    }
    return lane;
  }

  /** Lanes stand as the networks do; one whose network is gone keeps its place as long as it has anything to show. */
  #order() {
    const names = [...known.networks.keys()];
    let before = -1;
    for (const { dataset } of this.root.children) {
      if (!known.networks.has(dataset.network) && dataset.network !== NOWHERE) names.splice(before + 1, 0, dataset.network);
      before = Math.max(before, names.indexOf(dataset.network));
    }
    let place = this.root.firstElementChild;
    for (const name of [...names, NOWHERE]) {
      const element = this.lanes.get(name)?.element;
      if (element === undefined) continue;
      if (element === place) place = place.nextElementSibling;
      else this.root.insertBefore(element, place);
    }
  }

  #networks() {
    for (const network of known.networks.values()) this.#lane(network.name).update(network);
    for (const [name, lane] of this.lanes) {
      if (name === NOWHERE || known.networks.has(name)) continue;
      if (lane.rows.size === 0) {
        lane.element.remove();
        this.lanes.delete(name);
      } else {
        lane.update({ ...lane.network, state: "down", default: false, reason: "it is gone", tunnel: null });
      }
    }
    this.#order();
    this.#notes();
  }

  #orders() {
    this.rows((row) => {
      row.ordered(known.orders.applications[row.group.application]);
      if (row.list) row.list.orders = known.orders.flows;
    });
  }
}

function note(moved, from, to, why) {
  const key = `${from.key}\n\n${to.key}`;
  const one = moved.get(key) ?? { from, to, count: 0, why };
  one.count += 1;
  one.why ??= why;
  moved.set(key, one);
}

function flash(element) {
  element.animate?.([{ backgroundColor: "var(--arrived)" }, { backgroundColor: "transparent" }], { duration: 2400, easing: "ease-in" });
}

/** An element that says where keyboard users are told how to steer. */
export function steerHelp() {
  const help = el("p", "unseen");
  help.id = "steer-help";
  help.textContent =
    "Enter picks it up, up and down choose a network, Enter puts it down, Escape leaves it. Right shows its flows. M opens the menu.";
  return help;
}
