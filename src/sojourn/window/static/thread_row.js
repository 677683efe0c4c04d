// One thread on the page: the application's name, its rates, its ribbon, and below them its flows when they are asked
// for. Made by hand and not by preact: there may be many, and what changes ten times a second are a few texts.

import { el, write } from "./dom.js";
import { FlowList } from "./flow_list.js";
import { appName, plural, rate, NONE } from "./format.js";
import { Icon } from "./icons.js";
import { hueOf, threadColour } from "./palette.js";
import { Ribbon } from "./ribbon.js";
import { html, render } from "./vendor/preact.js";

const WRITE_EVERY_MS = 250;
const CALM = 0.45; // what of a change of rate is shown at once: figures that jump cannot be read
const WHY_MS = 14000;
const GHOST_MS = 9000;

const holder = document.createElement("div");
render(
  html`<li class="thread">
    <div class="line">
      <button type="button" class="grip" aria-expanded="false" aria-describedby="steer-help">
        <${Icon} name="chevron" class="chevron" /><i class="swatch" /><span class="name" /><span class="count" />
        <span class="mark" hidden><${Icon} name="pin" /></span>
      </button>
      <span class="rates"><span class="rate in" /><span class="rate out" /></span>
      <div class="course"><canvas aria-hidden="true" /></div>
      <button type="button" class="more" aria-haspopup="menu"><${Icon} name="more" /></button>
    </div>
    <p class="why" hidden />
  </li>`,
  holder,
);
const TEMPLATE = holder.firstElementChild;

export class ThreadRow {
  /** `laneLabel`: what people call the lane. */
  constructor(group, laneLabel) {
    this.group = group;
    this.element = TEMPLATE.cloneNode(true);
    const part = (name) => this.element.querySelector(`.${name}`);
    this.grip = part("grip");
    this.more = part("more");
    this.why = part("why");
    [this.count, this.inward, this.outward, this.mark] = [part("count"), part("rate.in"), part("rate.out"), part("mark")];
    this.name = appName(group.application);
    this.hue = hueOf(group.application);
    this.ribbon = new Ribbon(part("course").firstElementChild, this.hue);
    this.paint();
    write(part("name"), this.name);
    part("name").title = this.name;
    this.element.dataset.app = group.application ?? "";
    this.laneLabel = laneLabel;
    this.grip.row = this;
    this.more.row = this;
    this.written = 0;
    this.ghostUntil = 0;
    this.shown = { in: group.in, out: group.out };
    this.list = null;
    this.visible = true;
    this.structure();
  }

  paint() {
    this.element.querySelector(".swatch").style.background = threadColour(this.hue, "in");
  }

  get expanded() {
    return this.list !== null;
  }

  /** The number of flows has changed. */
  structure() {
    const count = this.group.flows.size;
    const said = plural(count, "flow");
    write(this.count, String(count));
    this.grip.setAttribute("aria-label", `${this.name}, ${said} on ${this.laneLabel}`);
    this.more.setAttribute("aria-label", `What to do with ${this.name} on ${this.laneLabel}`);
    this.group.changed = false;
  }

  toggle(open = !this.expanded) {
    if (open === this.expanded) return;
    this.grip.setAttribute("aria-expanded", String(open));
    if (open) {
      this.list = new FlowList(this);
      this.element.append(this.list.element);
    } else {
      this.list.element.remove();
      this.list = null;
    }
  }

  /** Write the figures if it is time for it. Returns whether it was. */
  refresh(now) {
    if (now - this.written < WRITE_EVERY_MS) return false;
    this.written = now;
    if (this.group.changed) this.structure();
    this.shown.in += (this.group.in - this.shown.in) * CALM;
    this.shown.out += (this.group.out - this.shown.out) * CALM;
    const { in: inward, out: outward } = this.shown;
    write(this.inward, inward < 8 && outward < 8 ? NONE : `↓ ${rate(inward)}`);
    write(this.outward, outward < 8 ? "" : `↑ ${rate(outward)}`);
    if (this.whyUntil && now > this.whyUntil) this.explain(null, now);
    return true;
  }

  /** Mark the thread as one that the user put where it is. */
  ordered(place) {
    this.mark.hidden = place == null || this.ghostUntil > 0;
    if (place != null) this.mark.title = "You put it here";
  }

  /** Say beside the thread why it came here, for a while. */
  explain(text, now) {
    this.why.hidden = !text;
    this.whyText = text;
    if (text) write(this.why, text);
    this.whyUntil = text ? now + WHY_MS : 0;
  }

  /** Its flows have left, and `text` says where to; the ribbon drifts away. */
  leave(text, now) {
    this.toggle(false);
    this.ghostUntil = now + (text ? GHOST_MS : 2500);
    this.mark.hidden = true;
    this.ribbon.detach();
    this.element.classList.add("ghost");
    this.grip.disabled = this.more.disabled = true;
    write(this.count, "");
    write(this.inward, "");
    write(this.outward, "");
    if (text) this.explain(text, now);
    else this.explain(null, now);
  }

  /** Flows of the same application have come again. */
  revive(group, now) {
    this.group = group;
    this.ghostUntil = 0;
    this.element.classList.remove("ghost");
    this.grip.disabled = this.more.disabled = false;
    this.ribbon.attach();
    this.explain(null, now);
    this.written = 0;
    this.shown = { in: group.in, out: group.out };
    this.structure();
  }
}

/** A short line that is not a thread. */
export const note = (text) => el("p", "lane-note", text);
