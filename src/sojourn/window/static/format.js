// Figures as people read them: two or three digits, the unit apart, a dash for what is not known.

export const NONE = "–";

const SIZES = ["B", "kB", "MB", "GB", "TB"];
const RATES = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"];

/** Split a count into digits and a unit of `units` (steps of 1000). */
function scaled(value, units) {
  let step = 0;
  while (value >= 999.5 && step < units.length - 1) {
    value /= 1000;
    step += 1;
  }
  const digits = step === 0 || value >= 99.5 ? 0 : value >= 9.95 ? 0 : 1;
  return [value.toFixed(digits), units[step]];
}

/** Bits a second as [digits, unit]; nothing moving is a dash. */
export const rateParts = (bps) => (bps == null || bps < 8 ? [NONE, ""] : scaled(bps, RATES));

export function rate(bps) {
  return rateParts(bps).join(" ").trim();
}

export function bytes(count) {
  return count == null ? NONE : scaled(count, SIZES).join(" ");
}

/** Milliseconds as [digits, unit]. */
export function msParts(value) {
  if (value == null) return [NONE, ""];
  if (value >= 9950) return [(value / 1000).toFixed(0), "s"];
  if (value >= 1000) return [(value / 1000).toFixed(1), "s"];
  return [value >= 9.95 ? value.toFixed(0) : value.toFixed(1), "ms"];
}

export const ms = (value) => msParts(value).join(" ").trim();

/** A share (0 to 1) as [digits, unit]. */
export function shareParts(value) {
  if (value == null) return [NONE, ""];
  const percent = value * 100;
  return [percent >= 9.95 || percent === 0 ? percent.toFixed(0) : percent.toFixed(1), "%"];
}

export const share = (value) => shareParts(value).join(" ").trim();

export function span(seconds) {
  if (seconds == null) return NONE;
  if (seconds < 1) return "now";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const DAY = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const MONTH = new Intl.DateTimeFormat(undefined, { month: "long", year: "numeric" });

export const clock = (unix) => CLOCK.format(unix * 1000);
export const day = (unix) => DAY.format(unix * 1000);
export const month = (unix) => MONTH.format(unix * 1000);

export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

/** What people call a program of which nothing is known. */
export const appName = (name) => name ?? "unknown program";
