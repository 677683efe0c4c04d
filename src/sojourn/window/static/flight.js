// What one sees when flows move: a thread of the application's colour is drawn from the old lane to the new one, and its
// name travels along it. Nothing here changes the picture; it flies above it and is gone afterwards.

import { el, motionWelcome } from "./dom.js";
import { threadColour } from "./palette.js";

const FLIGHT_MS = 620;
const AT_ONCE = 16;
const SVG = "http://www.w3.org/2000/svg";

let flying = 0;

/** Let `label` fly from one rectangle to another. Returns whether it did. */
export function fly(from, to, label, hue, count) {
  const sky = document.getElementById("sky");
  if (!motionWelcome() || flying >= AT_ONCE || document.hidden || !sky?.animate) return false;
  const start = { x: from.left, y: from.top + Math.min(from.height, 32) / 2 };
  const end = { x: to.left, y: to.top + Math.min(to.height, 32) / 2 };
  flying += 1;
  trail(sky, start, end, hue);
  chip(sky, start, end, label, hue, count);
  return true;
}

function trail(sky, start, end, hue) {
  const svg = document.createElementNS(SVG, "svg");
  svg.classList.add("trail");
  const path = document.createElementNS(SVG, "path");
  const bow = Math.min(60, 18 + Math.abs(end.y - start.y) / 5);
  path.setAttribute("d", `M${start.x} ${start.y}C${start.x - bow} ${start.y} ${end.x - bow} ${end.y} ${end.x} ${end.y}`);
  path.setAttribute("pathLength", "1");
  path.style.stroke = threadColour(hue, "in");
  svg.append(path);
  sky.append(svg);
  const drawn = path.animate(
    [
      { strokeDashoffset: 1, opacity: 1 },
      { strokeDashoffset: 0, opacity: 1, offset: 0.45 },
      { strokeDashoffset: 0, opacity: 0 },
    ],
    { duration: FLIGHT_MS * 2.2, easing: "cubic-bezier(.3,.7,.2,1)", fill: "forwards" },
  );
  drawn.finished.catch(() => {}).finally(() => svg.remove());
}

function chip(sky, start, end, label, hue, count) {
  const body = el("div", "flying");
  const dot = el("i", "swatch");
  dot.style.background = threadColour(hue, "in");
  body.append(dot, el("b", "", label));
  if (count > 1) body.append(el("span", "count", String(count)));
  sky.append(body);
  const at = (point, shift = 0) => `translate(${point.x - shift}px, ${point.y}px) translateY(-50%)`;
  const half = { x: (start.x + end.x) / 2, y: (start.y + end.y) / 2 };
  const bow = Math.min(44, 12 + Math.abs(end.y - start.y) / 6);
  const flight = body.animate(
    [
      { transform: at(start), opacity: 0.4 },
      { transform: at(half, bow), opacity: 1, offset: 0.5 },
      { transform: at(end), opacity: 1, offset: 0.9 },
      { transform: at(end), opacity: 0 },
    ],
    { duration: FLIGHT_MS, easing: "cubic-bezier(.4,.05,.2,1)", fill: "forwards" },
  );
  flight.finished.catch(() => {}).finally(() => {
    flying -= 1;
    body.remove();
  });
}
