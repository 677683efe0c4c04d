// One colour an application, the same in every lane and as long as the page is open; one a network in the charts.

const HUES = [255, 25, 155, 310, 75, 200, 350, 120, 285, 50, 230, 180];
const taken = new Map();

const night = matchMedia("(prefers-color-scheme: dark)");

function hash(text) {
  let value = 2166136261;
  for (const character of text) value = Math.imul(value ^ character.codePointAt(0), 16777619);
  return value >>> 0;
}

/** Return a hue (degrees); the first twelve applications get twelve different ones. */
export function hueOf(name) {
  const key = name ?? "";
  let hue = taken.get(key);
  if (hue === undefined) {
    const start = hash(key) % HUES.length;
    const used = new Set(taken.values());
    hue = HUES[start];
    for (let step = 0; step < HUES.length && used.has(hue); step += 1) hue = HUES[(start + step) % HUES.length];
    if (taken.size < 512) taken.set(key, hue);
  }
  return hue;
}

/** The colour of a thread: `part` is "in", "out" or "idle". */
export function threadColour(hue, part) {
  if (part === "idle") return night.matches ? `oklch(0.52 0.04 ${hue})` : `oklch(0.8 0.035 ${hue})`;
  if (part === "out") return night.matches ? `oklch(0.66 0.115 ${hue})` : `oklch(0.71 0.105 ${hue})`;
  return night.matches ? `oklch(0.78 0.115 ${hue})` : `oklch(0.58 0.13 ${hue})`;
}

const OF_KIND = {
  wifi: ["#1d63b8", "#7db4f5"],
  cellular: ["#b04a00", "#f0a35e"],
  ethernet: ["#1b7a55", "#63cfa0"],
  other: ["#7a3fa0", "#c79af0"],
};
const SPARE = [["#a1276f", "#f08fc4"], ["#0f7285", "#62c8da"], ["#6b6300", "#d3c852"], ["#53606e", "#aab6c3"]];

/** Return the chart colours of some networks, each its own: by kind first. */
export function networkColours(networks) {
  const used = new Set();
  const colours = new Map();
  let spare = 0;
  for (const { name, kind } of networks) {
    let pair = OF_KIND[kind] ?? OF_KIND.other;
    if (used.has(pair)) pair = SPARE[spare++ % SPARE.length];
    used.add(pair);
    colours.set(name, pair[night.matches ? 1 : 0]);
  }
  return colours;
}

/** Call `then` when the colours change because day turns to night. */
export function onNight(then) {
  night.addEventListener("change", then);
  return () => night.removeEventListener("change", then);
}
