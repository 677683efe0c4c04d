// The anchor's page: who is associated and over what, what they carry, who was refused, and the owner's orders.

import { order } from "./actions.js";
import { post } from "./api.js";
import { announce } from "./dom.js";
import { appName, bytes, ms, plural, rate, share, span, NONE } from "./format.js";
import { useKnown } from "./hooks.js";
import { Icon } from "./icons.js";
import { confirm, openDialog, openMenu } from "./menu.js";
import { known } from "./store.js";
import { toast } from "./toasts.js";
import { html, useEffect, useRef, useState } from "./vendor/preact.js";

const LAMPS = { associated: "up", away: "degraded", invited: "idle", revoked: "down" };
const BUSIEST = 50;

function Load() {
  const { status, hosts, flowsTotal } = known;
  const load = status.load ?? {};
  const here = [...hosts.values()].filter((host) => host.state === "associated").length;
  const figures = [
    ["Associated", String(here), `of ${plural(hosts.size, "host")}`],
    ["Flows", String(flowsTotal || status.flows), ""],
    ["From hosts", rate(load.in_bps), load.in_pps ? `${Math.round(load.in_pps)} packets/s` : ""],
    ["To hosts", rate(load.out_bps), load.out_pps ? `${Math.round(load.out_pps)} packets/s` : ""],
  ];
  return html`<dl class="board">${figures.map(([name, value, note]) => html`<div><dt>${name}</dt><dd><b>${value}</b> <small>${note}</small></dd></div>`)}</dl>`;
}

function hostMenu(host, at) {
  const end = (path, words) => () => order(() => post(path, { name: host.name }), () => {
    announce(`${host.name} ${words}`);
    toast({ text: `${host.name} ${words}` });
  });
  openMenu(at, host.name, [
    { head: host.name },
    { label: "End the association", icon: "close", disabled: !["associated", "away"].includes(host.state), run: () => confirm({
      title: `End ${host.name}'s association?`, action: "End it", run: end("/api/anchor/end", "is no longer associated"),
      text: "Its flows stop until it associates again, which it does by itself. Its credentials stay.",
    }) },
    { label: "Revoke", note: "for good", icon: "block", danger: true, disabled: host.state === "revoked", run: () => confirm({
      title: `Revoke ${host.name}?`, action: "Revoke", run: end("/api/anchor/revoke", "is revoked"),
      text: "Its flows end and its credentials are void. To let it back in, make a join token under another name.",
    }) },
  ]);
}

function Host({ host }) {
  return html`<li class="host">
    <header><i class="lamp ${LAMPS[host.state] ?? "down"}" /><h3>${host.name}</h3><span class="quiet">${host.state}</span>
      <span class="where">${[host.vipa, host.vipa6].filter(Boolean).join(" · ")}</span>
      <button type="button" class="more" aria-haspopup="menu" aria-label=${`What to do with ${host.name}`} onClick=${(event) => hostMenu(host, event.currentTarget)}><${Icon} name="more" /></button></header>
    <p class="host-facts">${plural(host.flows ?? 0, "flow")}<span>↓ ${rate(host.out_bps)}</span><span>↑ ${rate(host.in_bps)}</span>
      ${host.lease_s != null && html`<span>lease ${span(host.lease_s)}</span>`}</p>
    ${(host.paths ?? []).length > 0 && html`<div class="scroll" tabindex="0" role="region" aria-label=${`Tunnels of ${host.name}`}><table class="numbers">
      <thead><tr><th scope="col">Tunnel</th><th scope="col">From</th><th scope="col" class="number">RTT</th><th scope="col" class="number">Loss</th><th scope="col" class="number">In</th><th scope="col" class="number">Out</th><th scope="col" class="number">Carried</th></tr></thead>
      <tbody>${host.paths.map((path) => html`<tr><th scope="row">${path.id}${path.default ? " · default" : ""}</th><td>${path.outer ?? NONE}</td>
        <td class="number" data-name="RTT">${ms(path.rtt_ms)}</td><td class="number" data-name="Loss">${share(path.loss)}</td><td class="number" data-name="In">${rate(path.in_bps)}</td>
        <td class="number" data-name="Out">${rate(path.out_bps)}</td><td class="number" data-name="Carried">${bytes((path.bytes_in ?? 0) + (path.bytes_out ?? 0))}</td></tr>`)}</tbody></table></div>`}
  </li>`;
}

function Token({ close }) {
  const [made, set] = useState(null);
  const [wrong, setWrong] = useState(null);
  const field = useRef(null);
  useEffect(() => field.current?.focus(), []);
  const make = async (event) => {
    event.preventDefault();
    try {
      set(await post("/api/anchor/token", { name: field.current.value.trim() }));
      setWrong(null);
    } catch (error) {
      setWrong(error);
    }
  };
  if (made) {
    const image = made.qr_svg.startsWith("data:") ? made.qr_svg : `data:image/svg+xml;utf8,${encodeURIComponent(made.qr_svg)}`;
    return html`<p>Whoever has this token can join as <b>${made.name}</b>, once. It is shown here only now.</p>
      <img class="qr" src=${image} alt="The join token as a QR code" width="220" height="220" />
      <p class="token"><code>sudo sojourn join ${made.token}</code></p>
      <div class="buttons"><button type="button" onClick=${() => navigator.clipboard.writeText(made.token).then(() => announce("Copied"), () => announce("It cannot be copied here: select it by hand"))}>Copy the token</button>
        <button type="button" class="primary" onClick=${close}>Done</button></div>`;
  }
  return html`<form onSubmit=${make}><label class="field">Name of the new host <input ref=${field} required maxlength="63" placeholder="phone" autocomplete="off" /></label>
    ${wrong && html`<p class="bad" role="alert">${wrong.message} ${wrong.remedy}</p>`}
    <div class="buttons"><button type="button" onClick=${close}>Cancel</button><button type="submit" class="primary">Make a token</button></div></form>`;
}

function Expose({ close }) {
  const [wrong, setWrong] = useState(null);
  const send = async (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    const body = { protocol: form.get("protocol"), port: Number(form.get("port")), public_port: Number(form.get("public")), host: form.get("host") };
    try {
      await post("/api/anchor/expose", body);
      close();
    } catch (error) {
      setWrong(error);
    }
  };
  const hosts = [...known.hosts.values()].filter((host) => host.state !== "revoked");
  return html`<form onSubmit=${send} class="fields">
    <label class="field">Host <select name="host">${hosts.map((host) => html`<option>${host.name}</option>`)}</select></label>
    <label class="field">Protocol <select name="protocol"><option>tcp</option><option>udp</option></select></label>
    <label class="field">Its port <input name="port" type="number" min="1" max="65535" required placeholder="22" /></label>
    <label class="field">Port of the anchor <input name="public" type="number" min="1" max="65535" required placeholder="2222" /></label>
    ${wrong && html`<p class="bad" role="alert">${wrong.message} ${wrong.remedy}</p>`}
    <div class="buttons"><button type="button" onClick=${close}>Cancel</button><button type="submit" class="primary">Forward it</button></div></form>`;
}

function Forwards() {
  const { exposed, hosts } = known;
  const named = new Map([...hosts.values()].map((host) => [host.user, host.name]));
  const remove = (one) => confirm({
    title: `Close ${one.protocol}/${one.public_port}?`, action: "Close it", text: "New connections to it are refused from then on.",
    run: () => order(() => post("/api/anchor/unexpose", { protocol: one.protocol, public_port: one.public_port })),
  });
  return html`<section class="card" aria-labelledby="forwards-title"><header class="page-head"><h2 id="forwards-title">Port forwards</h2>
      <button type="button" onClick=${() => openDialog("Forward a port", Expose)}>Forward a port</button></header>
    ${exposed.length === 0 ? html`<p class="quiet">None. A forward lets the world reach a port of a host at the anchor's address, wherever the host is.</p>`
      : html`<ul class="plain">${exposed.map((one) => html`<li><b>${one.protocol}/${one.public_port}</b> <span>to ${named.get(one.host) ?? one.host}, port ${one.port}</span>
        ${one.kept === "file" ? html`<small class="quiet">from the file</small>` : html`<button type="button" class="bare" aria-label=${`Close ${one.protocol}/${one.public_port}`} onClick=${() => remove(one)}><${Icon} name="trash" /></button>`}</li>`)}</ul>`}
  </section>`;
}

function Refusals() {
  const refused = Object.entries(known.status.refused ?? {}).filter(([, count]) => count > 0).sort(([, one], [, other]) => other - one);
  const most = refused[0]?.[1] ?? 1;
  return html`<section class="card" aria-labelledby="refused-title"><h2 id="refused-title">Refused</h2>
    ${refused.length === 0 ? html`<p class="quiet">Nothing was refused since the anchor started.</p>`
      : html`<table class="numbers"><tbody>${refused.map(([reason, count]) => html`<tr><th scope="row">${reason}</th>
        <td class="bar-column"><span class="stack"><i style=${{ width: `${(100 * count) / most}%` }} /></span></td><td class="number">${count}</td></tr>`)}</tbody></table>`}
  </section>`;
}

function Flows() {
  const both = (flow) => (flow.in_bps ?? 0) + (flow.out_bps ?? 0);
  const busiest = [...known.flows.values()].sort((one, other) => both(other) - both(one)).slice(0, BUSIEST);
  return html`<section class="card wide" aria-labelledby="flows-title"><h2 id="flows-title">Flows <small>the busiest ${busiest.length} of ${known.flowsTotal}</small></h2>
    ${busiest.length === 0 ? html`<p class="quiet">Nothing is carried now.</p>` : html`<div class="scroll" tabindex="0" role="region" aria-label="Flows, a table"><table class="numbers">
      <thead><tr><th scope="col">Host</th><th scope="col">Flow</th><th scope="col">Tunnel</th><th scope="col" class="number">From host</th><th scope="col" class="number">To host</th><th scope="col" class="number">Carried</th></tr></thead>
      <tbody>${busiest.map((flow) => html`<tr key=${flow.id}><th scope="row">${flow.host ?? NONE}</th><td><span class="proto">${flow.protocol}</span> ${flow.remote} ${flow.application ? html`<small>${appName(flow.application)}</small>` : null}</td>
        <td data-name="Tunnel">${flow.network ?? NONE}</td><td class="number" data-name="From host">${rate(flow.in_bps)}</td><td class="number" data-name="To host">${rate(flow.out_bps)}</td><td class="number" data-name="Carried">${bytes(flow.bytes_in + flow.bytes_out)}</td></tr>`)}</tbody></table></div>`}
  </section>`;
}

export function AnchorPage() {
  useKnown(["hosts", "flows", "exposed", "status"], 500);
  const hosts = [...known.hosts.values()].sort((one, other) => one.name.localeCompare(other.name));
  return html`<${Load} /><div class="anchor">
    <section class="card wide" aria-labelledby="hosts-title"><header class="page-head"><h2 id="hosts-title">Associations</h2>
      <button type="button" class="primary" onClick=${() => openDialog("A token for one more host", Token)}>Make a join token</button></header>
      ${hosts.length === 0 ? html`<p class="teach">No host yet. Make a join token, and give it to <code>sojourn join</code> on the computer that shall roam.</p>`
        : html`<ul class="hosts">${hosts.map((host) => html`<${Host} key=${host.name} host=${host} />`)}</ul>`}</section>
    <${Forwards} /><${Refusals} /><${Flows} /></div>`;
}
