// One chart of uPlot: a line a network, hair lines where flows were moved, values under the pointer.

import { networkName } from "./actions.js";
import { html, useEffect, useRef } from "./vendor/preact.js";
import uPlot from "./vendor/uPlot.js";

const HEIGHT = 168;
const TIME = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });

const sync = uPlot.sync("past");

function colourOf(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Draw a hair line at each handover. */
function marks(moves) {
  return {
    hooks: {
      drawClear: [(plot) => {
        const { ctx, bbox } = plot;
        ctx.save();
        ctx.strokeStyle = colourOf("--mark");
        ctx.lineWidth = devicePixelRatio;
        ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
        for (const { time } of moves.current) {
          const x = Math.round(plot.valToPos(time, "x", true));
          if (x < bbox.left || x > bbox.left + bbox.width) continue;
          ctx.beginPath();
          ctx.moveTo(x, bbox.top);
          ctx.lineTo(x, bbox.top + bbox.height);
          ctx.stroke();
        }
        ctx.restore();
      }],
    },
  };
}

function optionsOf({ write, least, series, colours, width, moves, range }) {
  const ink = colourOf("--ink-3");
  const line = colourOf("--line");
  const font = `11px ${getComputedStyle(document.body).fontFamily}`;
  const axis = { stroke: ink, font, grid: { stroke: line, width: 1 }, ticks: { show: false } };
  return {
    width,
    height: HEIGHT,
    padding: [8, 8, 0, 0],
    cursor: { sync: { key: sync.key }, points: { size: 6 }, drag: { x: false, y: false } },
    legend: { show: false },
    plugins: [marks(moves)],
    scales: { x: { time: true, range: () => range.current }, y: { range: (plot, low, high) => [0, Math.max((high ?? 0) * 1.15, least)] } },
    axes: [
      { ...axis, grid: { show: false }, size: 26, space: 70, values: (plot, times) => times.map((time) => TIME.format(time * 1000)) },
      { ...axis, size: 72, values: (plot, values) => values.map((value) => (value === 0 ? "0" : write(value))) },
    ],
    series: [{}, ...series.map(({ name }) => ({ label: networkName(name), stroke: colours.get(name), width: 1.6, spanGaps: false, points: { show: false } }))],
  };
}

/** `least`: what the axis reaches at least, so that a trifle does not look like a mountain. */
export function Chart({ title, about, write, least, at, series, colours, from, until, moves }) {
  const place = useRef(null);
  const said = useRef(null);
  const plot = useRef(null);
  const marked = useRef(moves);
  const range = useRef([from, until]);
  marked.current = moves;
  range.current = [from, until];
  const look = [...colours.values(), ...series.map((one) => one.name)].join();
  useEffect(() => {
    const { current: element } = place;
    said.current.textContent = about; // uPlot writes here, too: preact keeps its hands off
    const options = optionsOf({ write, least, series, colours, width: element.clientWidth, moves: marked, range });
    options.hooks = { setCursor: [(one) => {
      const index = one.cursor.idx;
      const [times, ...columns] = one.data;
      const words = index == null ? [] : columns.map((column, place_) => column[index] == null ? null : `${networkName(series[place_].name)} ${write(column[index])}`).filter(Boolean);
      said.current.textContent = words.length ? `${TIME.format(times[index] * 1000)}  ${words.join("  ")}` : about;
    }] };
    plot.current = new uPlot(options, [at, ...series.map((one) => one.column)], element);
    const sizes = new ResizeObserver(() => plot.current.setSize({ width: element.clientWidth, height: HEIGHT }));
    sizes.observe(element);
    return () => {
      sizes.disconnect();
      plot.current.destroy();
    };
  }, [look]);
  useEffect(() => plot.current.setData([at, ...series.map((one) => one.column)]), [at, series]);
  const latest = series.map(({ name, column }) => `${networkName(name)} ${write(column.findLast((value) => value != null) ?? null)}`).join(", ");
  return html`<figure class="chart"><figcaption><b>${title}</b> <span ref=${said} /></figcaption>
    <div ref=${place} role="img" aria-label=${`${title}, newest values: ${latest}`} /></figure>`;
}
