// A thread of one application in one lane, as a ribbon: it leaves the name on the left and drifts to the right, toward
// the anchor. Its thickness at the left end is the rate now, further right that of the seconds before. What is sent
// lies above the middle, what is received below. When the flows leave the lane the ribbon comes off and drifts away.
//
// Only the newest columns are drawn; the rest is the same picture, moved. A ribbon that was idle for its whole length
// costs nothing.

import { threadColour } from "./palette.js";

const SPEED = 22; // CSS pixels a second
const EASE = 0.22; // seconds in which a change of rate is two thirds done
const LOWEST = 1e3;
const DECADES = 6; // from 1 kbit/s to 1 Gbit/s
const QUIET = 8; // bit/s

/** Half a ribbon's thickness (0 to 1) for a rate in bit/s: logarithmic, because rates are. */
export function thickness(bps) {
  if (bps < QUIET) return 0;
  if (bps < LOWEST) return 0.09;
  return 0.09 + 0.91 * Math.min(1, Math.log10(bps / LOWEST) / DECADES);
}

export class Ribbon {
  constructor(canvas, hue) {
    this.canvas = canvas;
    this.hue = hue;
    this.attached = true;
    this.target = [0, 0];
    this.current = [0, 0];
    this.carry = 0;
    this.idle = Infinity;
    this.context = canvas.getContext("2d", { alpha: true });
  }

  /** Take the size that the layout gives; what was drawn is kept at the left end. */
  resize(width, height, density) {
    const [w, h] = [Math.max(1, Math.round(width * density)), Math.max(1, Math.round(height * density))];
    this.density = density;
    if (this.canvas.width === w && this.canvas.height === h) return;
    this.canvas.width = w;
    this.canvas.height = h;
    this.idle = 0;
    this.fresh = true;
  }

  set(inward, outward) {
    this.target[0] = thickness(outward);
    this.target[1] = thickness(inward);
  }

  /** The ribbon comes off its name: nothing new, and what was drifts on. */
  detach() {
    this.attached = false;
    this.idle = 0;
  }

  attach() {
    this.attached = true;
    this.idle = 0;
  }

  /** Go on by `seconds`; returns whether anything was drawn. */
  step(seconds) {
    const { context, canvas, current, target } = this;
    const eased = 1 - Math.exp(-seconds / EASE);
    current[0] += (target[0] - current[0]) * eased;
    current[1] += (target[1] - current[1]) * eased;
    this.carry += SPEED * seconds * (this.density ?? 1);
    let columns = Math.floor(this.carry);
    if (columns < 1) return false;
    this.carry -= columns;
    if (this.fresh) {
      this.fresh = false;
      current.fill(0);
      columns = canvas.width;
    }
    const moving = this.attached && current[0] + current[1] > 0.02;
    this.idle = moving ? 0 : this.idle + columns;
    if (this.idle > canvas.width + columns) return false;
    context.globalCompositeOperation = "copy";
    context.drawImage(canvas, columns, 0);
    context.globalCompositeOperation = "source-over";
    this.column(columns);
    return true;
  }

  column(columns) {
    if (!this.attached) return;
    const { context, canvas, current } = this;
    const middle = canvas.height / 2;
    const hair = Math.max(1, this.density ?? 1);
    const full = middle - hair;
    context.fillStyle = threadColour(this.hue, "idle");
    context.fillRect(0, middle - hair / 2, columns, hair);
    if (current[0] > 0.01) {
      context.fillStyle = threadColour(this.hue, "out");
      context.fillRect(0, middle - full * current[0], columns, full * current[0]);
    }
    if (current[1] > 0.01) {
      context.fillStyle = threadColour(this.hue, "in");
      context.fillRect(0, middle, columns, full * current[1]);
    }
  }
}
