// The past: how the networks were, and what went over them.

import { networkName } from "./actions.js";
import { get } from "./api.js";
import { Chart } from "./chart.js";
import { appName, bytes, month, ms, rate, share } from "./format.js";
import { useKnown, useLoaded } from "./hooks.js";
import { networkColours, onNight } from "./palette.js";
import { known, nowUnix } from "./store.js";
import { html, useEffect, useState } from "./vendor/preact.js";

const SPANS = [[900, "15 min"], [3600, "1 h"], [6 * 3600, "6 h"], [24 * 3600, "24 h"]];
const POINTS = 360;
const AGAIN_MS = 10000;

const CHARTS = [
  { title: "Round trip", of: (one) => one.rtt_ms, write: ms, least: 10, about: "milliseconds to the anchor and back" },
  { title: "Loss", of: (one) => one.loss, write: share, least: 0.02, about: "of the worse direction" },
  { title: "Jitter", of: (one) => one.jitter_ms, write: ms, least: 5, about: "how unevenly packets come" },
  { title: "Rate", of: (one) => one.in_bps.map((value, at) => (value == null ? null : value + (one.out_bps[at] ?? 0))), write: rate, least: 1000, about: "both ways together" },
];

/** Columns on one axis of time, a series a network. */
function columnsOf(history, of) {
  const names = Object.keys(history.networks);
  const at = [...new Set(names.flatMap((name) => history.networks[name].at))].sort((one, other) => one - other);
  const places = new Map(at.map((time, place) => [time, place]));
  const series = names.map((name) => {
    const column = new Array(at.length).fill(null);
    const values = of(history.networks[name]);
    history.networks[name].at.forEach((time, place) => {
      column[places.get(time)] = values[place] ?? null;
    });
    return { name, column };
  });
  return { at, series };
}

function Charts({ seconds }) {
  const load = () => {
    const until = nowUnix();
    return get(`/api/history?from=${until - seconds}&until=${until}&points=${POINTS}`);
  };
  const [history, error, again] = useLoaded(load, [seconds]);
  const [, repaint] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => document.hidden || again(), AGAIN_MS);
    return () => clearInterval(timer);
  }, [seconds]);
  useEffect(() => onNight(() => repaint((count) => count + 1)), []);
  if (error && !history) return html`<p class="bad">${error.message} ${error.remedy}</p>`;
  if (!history) return html`<p class="quiet" aria-busy="true">Loading…</p>`;
  const names = Object.keys(history.networks);
  if (names.length === 0) {
    return html`<p class="teach">Nothing was measured in this time. The networks are measured every 5 seconds from now on, and a day of it is kept.</p>`;
  }
  const colours = networkColours(names.map((name) => ({ name, kind: known.networks.get(name)?.kind ?? "other" })));
  const first = Math.min(...names.flatMap((name) => history.networks[name].at.slice(0, 1)));
  const from = Math.max(history.from, first - history.step_s);
  const moves = known.log.filter((entry) => entry.event === "handover" && entry.time >= history.from && entry.time <= history.until);
  return html`<ul class="legend" aria-label="Networks">${names.map((name) => html`<li><i style=${{ background: colours.get(name) }} />${networkName(name)}</li>`)}
      ${moves.length > 0 && html`<li class="mark"><i />handover</li>`}</ul>
    <div class="charts">${CHARTS.map((one) => {
      const { at, series } = columnsOf(history, one.of);
      return html`<${Chart} key=${one.title} ...${one} at=${at} series=${series} colours=${colours} from=${from} until=${history.until} moves=${moves} />`;
    })}</div>`;
}

function Usage() {
  const [usage, error] = useLoaded(() => get("/api/usage?months=6"), []);
  const [chosen, choose] = useState(null);
  if (error) return html`<p class="bad">${error.message} ${error.remedy}</p>`;
  if (!usage) return html`<p class="quiet" aria-busy="true">Loading…</p>`;
  const months = [...new Set([usage.month, ...usage.rows.map((row) => row.month)])].sort().reverse();
  const shown = chosen ?? usage.month;
  const rows = usage.rows.filter((row) => row.month === shown);
  const networks = [...new Set(rows.map((row) => row.network))];
  const apps = new Map();
  for (const row of rows) {
    const app = apps.get(row.application) ?? { total: 0, of: {} };
    const both = row.bytes_in + row.bytes_out;
    app.total += both;
    app.of[row.network] = (app.of[row.network] ?? 0) + both;
    apps.set(row.application, app);
  }
  const sorted = [...apps].sort(([, one], [, other]) => other.total - one.total);
  const most = sorted[0]?.[1].total || 1;
  const colours = networkColours(networks.map((name) => ({ name, kind: known.networks.get(name)?.kind ?? "other" })));
  const sum = (network) => sorted.reduce((all, [, app]) => all + (app.of[network] ?? 0), 0);
  return html`<section class="usage" aria-labelledby="usage-title">
    <header class="page-head"><h2 id="usage-title">Data used</h2>
      <label>Month <select value=${shown} onChange=${(event) => choose(event.target.value)}>
        ${months.map((one) => html`<option value=${one}>${month(Date.parse(`${one}-15`) / 1000)}</option>`)}</select></label></header>
    ${sorted.length === 0
      ? html`<p class="teach">Nothing was carried in this month.</p>`
      : html`<div class="scroll" tabindex="0" role="region" aria-label="Data used, a table"><table class="numbers">
        <thead><tr><th scope="col">Application</th><th scope="col" class="bar-column"><span class="unseen">Share</span></th>
          ${networks.map((name) => html`<th scope="col" class="number">${name === null ? "No network's" : networkName(name)}</th>`)}<th scope="col" class="number">Together</th></tr></thead>
        <tbody>${sorted.map(([name, app]) => html`<tr><th scope="row">${appName(name)}</th>
          <td class="bar-column"><span class="stack">${networks.map((network) => html`<i style=${{ width: `${(100 * (app.of[network] ?? 0)) / most}%`, background: colours.get(network) }} />`)}</span></td>
          ${networks.map((network) => html`<td class="number">${app.of[network] ? bytes(app.of[network]) : ""}</td>`)}
          <td class="number"><b>${bytes(app.total)}</b></td></tr>`)}</tbody>
        <tfoot><tr><th scope="row">All</th><td class="bar-column" />${networks.map((network) => html`<td class="number">${bytes(sum(network))}</td>`)}
          <td class="number"><b>${bytes(networks.reduce((all, network) => all + sum(network), 0))}</b></td></tr></tfoot>
      </table></div>`}
  </section>`;
}

export function Past() {
  useKnown(["role"]);
  const [seconds, choose] = useState(3600);
  return html`<section class="past" aria-labelledby="past-title">
    <header class="page-head"><h2 id="past-title">How the networks were</h2>
      <div class="segments" role="group" aria-label="Time shown">${SPANS.map(([one, name]) => html`<button type="button"
        aria-pressed=${String(one === seconds)} onClick=${() => choose(one)}>${name}</button>`)}</div></header>
    <${Charts} seconds=${seconds} />
  </section><${Usage} />`;
}
