// The flows of one thread, one a line, as many as can be read; the others on demand.

import { el, write } from "./dom.js";
import { bytes, plural, rate, span, NONE } from "./format.js";
import { thickness } from "./ribbon.js";
import { Icon } from "./icons.js";
import { html, render } from "./vendor/preact.js";

const FIRST = 40;
const MORE = 200;
const LOOK_EVERY_MS = 500;
const TURNS = 5; // in which each line is written once

const holder = document.createElement("div");
render(
  html`<li class="flow">
    <button type="button" class="grip flow-grip" aria-describedby="steer-help">
      <span class="proto" /><span class="remote" /><span class="mark" hidden><${Icon} name="pin" /></span>
    </button>
    <span class="rates"><span class="rate in" /><span class="rate out" /></span>
    <span class="gauge"><i /></span>
    <span class="total" /><span class="age" /><span class="under" />
    <button type="button" class="more" aria-haspopup="menu"><${Icon} name="more" /></button>
  </li>`,
  holder,
);
const TEMPLATE = holder.firstElementChild;

const UNDER = { waiting: "waits", blocked: "refused", copied: "copied" };

class FlowRow {
  constructor(flow, row) {
    this.element = TEMPLATE.cloneNode(true);
    const part = (name) => this.element.querySelector(`.${name}`);
    this.parts = {
      in: part("rate.in"), out: part("rate.out"), total: part("total"), age: part("age"),
      under: part("under"), bar: part("gauge").firstElementChild, mark: part("mark"),
    };
    this.grip = part("grip");
    write(part("proto"), flow.protocol);
    write(part("remote"), flow.peer && flow.peer !== flow.remote ? `${flow.peer} (${flow.remote})` : flow.remote);
    part("remote").title = `${flow.local} → ${flow.remote}`;
    this.grip.setAttribute("aria-label", `${row.name}, ${flow.protocol} to ${flow.remote}, on ${row.laneLabel}`);
    part("more").setAttribute("aria-label", `What to do with this flow to ${flow.remote}`);
    this.grip.row = part("more").row = row;
    this.grip.flow = part("more").flow = flow.id;
    this.seen = null;
  }

  refresh(flow, orders) {
    const { parts } = this;
    const [inward, outward] = [flow.in_bps ?? 0, flow.out_bps ?? 0];
    write(parts.in, inward < 8 && outward < 8 ? NONE : `↓ ${rate(inward)}`);
    write(parts.out, outward < 8 ? "" : `↑ ${rate(outward)}`);
    write(parts.total, bytes(flow.bytes_in + flow.bytes_out));
    write(parts.age, span(flow.age_s + (flow.seen ? (performance.now() - flow.seen) / 1000 : 0)));
    const policy = flow.policy?.startsWith("user:") ? "your order" : flow.policy ?? "";
    write(parts.under, UNDER[flow.state] ?? policy);
    const width = thickness(inward + outward).toFixed(2);
    if (width !== this.seen) {
      this.seen = width;
      parts.bar.style.transform = `scaleX(${width})`;
    }
    parts.mark.hidden = !(flow.id in orders);
  }
}

export class FlowList {
  constructor(row) {
    this.row = row;
    this.element = el("ul", "flows");
    this.element.setAttribute("aria-label", `Flows of ${row.name} on ${row.laneLabel}`);
    this.rows = new Map();
    this.limit = FIRST;
    this.rest = el("li", "rest");
    this.button = el("button", "quiet");
    this.button.type = "button";
    this.button.addEventListener("click", () => {
      this.limit += MORE;
      this.refresh(performance.now(), true);
    });
    this.rest.append(this.button);
    this.looked = 0;
    this.turn = 0;
    this.orders = {};
    this.refresh(0, true);
  }

  /** Put the list in line with the thread's flows now and then, and write the figures of a few. */
  refresh(now, atOnce = false) {
    if (atOnce || now - this.looked >= LOOK_EVERY_MS) this.#look(now);
    const { flows } = this.row.group;
    for (let left = Math.ceil(this.lines.length / TURNS); left > 0; left -= 1) {
      this.turn = (this.turn + 1) % this.lines.length;
      const [id, line] = this.lines[this.turn];
      if (flows.has(id)) line.refresh(flows.get(id), this.orders);
    }
  }

  #look(now) {
    this.looked = now;
    const { flows } = this.row.group;
    for (const [id, row] of this.rows) {
      if (!flows.has(id)) {
        row.element.remove();
        this.rows.delete(id);
      }
    }
    let added = null;
    for (const [id, flow] of flows) {
      let row = this.rows.get(id);
      if (row === undefined) {
        if (this.rows.size >= this.limit) continue;
        row = new FlowRow(flow, this.row);
        this.rows.set(id, row);
        added ??= document.createDocumentFragment();
        added.append(row.element);
        row.refresh(flow, this.orders);
      }
    }
    if (added) this.element.insertBefore(added, this.rest.parentNode ? this.rest : null);
    this.lines = [...this.rows];
    this.#rest(flows.size - this.rows.size);
  }

  #rest(hidden) {
    if (hidden > 0) {
      write(this.button, `${plural(Math.min(hidden, MORE), "more flow")} of ${hidden}`);
      if (!this.rest.parentNode) this.element.append(this.rest);
    } else {
      this.rest.remove();
    }
  }
}
