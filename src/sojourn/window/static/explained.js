// Why a flow or an application is where it is, and what it would take to move it.

import { networkName } from "./actions.js";
import { post } from "./api.js";
import { span } from "./format.js";
import { useLoaded } from "./hooks.js";
import { html } from "./vendor/preact.js";

const FROM = { user: "yours", anchor: "the anchor's", order: "your order", default: "the general order" };

function One({ told }) {
  return html`<section class="told">
    ${told.flow && html`<h3>${told.flow.protocol} ${told.flow.remote}</h3>`}
    <dl>
      <dt>Policy</dt><dd>${told.policy || "everything else"} <small>(${FROM[told.came_from] ?? told.came_from}${told.line ? `, line ${told.line}` : ""})</small></dd>
      <dt>Network</dt><dd>${told.network ? networkName(told.network) : told.state}${told.since_s != null ? ` for ${span(told.since_s)}` : ""}</dd>
      <dt>Because</dt><dd>${told.reason || "nothing else was said"}</dd>
    </dl>
    <ol class="ranking">${told.networks.map((one) => html`<li class=${one.in_use ? "used" : one.fits ? "fits" : ""}>
      <b>${networkName(one.network)}</b> <span>${one.in_use ? "in use" : one.why.join("; ")}</span></li>`)}</ol>
    ${told.to_move.length > 0 && html`<h4>What would move it</h4><ul>${told.to_move.map((one) => html`<li>${one}</li>`)}</ul>`}
  </section>`;
}

const SHOWN = 5;

export function Explained({ what }) {
  const [answer, error] = useLoaded(() => post("/api/policies/explain", { what }), [what]);
  if (error) return html`<p class="bad">${error.message} ${error.remedy}</p>`;
  if (!answer) return html`<p class="quiet" aria-busy="true">Asking…</p>`;
  return html`${answer.explanations.slice(0, SHOWN).map((told) => html`<${One} told=${told} />`)}
    ${answer.flows > SHOWN && html`<p class="quiet">and ${answer.flows - SHOWN} more flows of the same kind</p>`}`;
}
