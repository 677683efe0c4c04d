// The icons, drawn on a 20 px grid with a stroke of 1.5. They say nothing that words beside them do not say.

import { html } from "./vendor/preact.js";

const PATHS = {
  wifi: null,
  cellular: null,
  ethernet: ["M4.5 3.5h11v8h-11z", "M7.5 11.5v2.5h5v-2.5", "M10 14v3", "M7.5 6v2.5M10 6v2.5M12.5 6v2.5"],
  other: ["M10 3.5a6.5 6.5 0 1 0 0 13a6.5 6.5 0 0 0 0-13z", "M3.5 10h13", "M10 3.5c2.6 2 2.6 11 0 13c-2.6-2-2.6-11 0-13z"],
  more: ["M4.6 10h.01M10 10h.01M15.4 10h.01"],
  chevron: ["M7.5 5l5 5l-5 5"],
  close: ["M5.5 5.5l9 9M14.5 5.5l-9 9"],
  move: ["M3.5 6.5h9M9.5 3.5l3 3l-3 3", "M16.5 13.5h-9M10.5 10.5l-3 3l3 3"],
  pin: ["M7 3.5h6l-.8 5.2l2.3 2.6h-9l2.3-2.6z", "M10 11.5v5"],
  hold: ["M7.5 5v10M12.5 5v10"],
  play: ["M6.5 4.5l9 5.5l-9 5.5z"],
  block: ["M10 3.5a6.5 6.5 0 1 0 0 13a6.5 6.5 0 0 0 0-13z", "M5.5 5.5l9 9"],
  direct: ["M3.5 10h13M12.5 6l4 4l-4 4"],
  policy: ["M4 5h12M4 10h12M4 15h7"],
  why: ["M10 3.5a6.5 6.5 0 1 0 0 13a6.5 6.5 0 0 0 0-13z", "M8.2 8c.2-1.200 3.800-1.400 3.800.5c0 1.300-2 1.300-2 2.800", "M10 13.6h.01"],
  exclude: ["M4 10h12"],
  up: ["M10 16V4.500M5.500 9L10 4.500L14.500 9"],
  down: ["M10 4v11.500M5.500 11L10 15.500L14.500 11"],
  warn: ["M10 3.5l7.200 12.800h-14.400z", "M10 8.500v3.500M10 14.200h.01"],
  grip: ["M8 5h.01M12 5h.01M8 10h.01M12 10h.01M8 15h.01M12 15h.01"],
  check: ["M4.500 10.500l3.800 3.800l7.500-8.600"],
  trash: ["M4.500 6h11M8 6V4h4v2M6 6l.7 10.500h6.600L14 6"],
  key: ["M12.500 4a3.500 3.500 0 1 1-2.600 5.800L4 15.700v.8h2.500v-2h2v-2"],
};

/** One icon; decorative unless a label says otherwise. */
export function Icon({ name, class: extra = "" }) {
  const paths = PATHS[name] ?? PATHS.other;
  return html`<svg class="icon ${extra}" viewBox="0 0 20 20" aria-hidden="true" focusable="false">
    ${paths.map((d) => html`<path d=${d} />`)}
  </svg>`;
}

const ARCS = ["M10 15.4h.01", "M7.300 12.300a3.900 3.900 0 0 1 5.400 0", "M4.900 9.700a7.300 7.300 0 0 1 10.200 0", "M2.500 7a10.700 10.700 0 0 1 15 0"];
const BARS = [[3, 13], [7, 10], [11, 7], [15, 4]];

/** A network's icon; of radio networks as many arcs or bars are lit as the signal (0 to 1) has quarters. */
export function NetworkIcon({ kind, signal, down }) {
  const lit = down ? 0 : signal == null ? 4 : Math.max(1, Math.ceil(signal * 4));
  if (kind === "wifi") {
    return html`<svg class="icon kind" viewBox="0 0 20 20" aria-hidden="true" focusable="false">
      ${ARCS.map((d, at) => html`<path d=${d} class=${at < lit ? "" : "faint"} />`)}
    </svg>`;
  }
  if (kind === "cellular") {
    return html`<svg class="icon kind" viewBox="0 0 20 20" aria-hidden="true" focusable="false">
      ${BARS.map(([x, y], at) => html`<path d=${`M${x + 1} ${y}V16`} class="bar ${at < lit ? "" : "faint"}" />`)}
    </svg>`;
  }
  return html`<${Icon} name=${kind === "ethernet" ? "ethernet" : "other"} class="kind" />`;
}
