// The rules: in their order, with the flows that each has now; edited here, tested, and then written to the file.

import { networkName } from "./actions.js";
import { get, post } from "./api.js";
import { announce } from "./dom.js";
import { appName, plural } from "./format.js";
import { useLoaded } from "./hooks.js";
import { Icon } from "./icons.js";
import { conditions, where, whom } from "./policy_fields.js";
import { PolicyForm } from "./policy_form.js";
import { toast } from "./toasts.js";
import { html, useEffect, useRef, useState } from "./vendor/preact.js";

const FROM = { anchor: "offered by the anchor", default: "for everything else", order: "ordered by you" };

let keys = 0;
const draftOf = (loaded) => loaded.policies.map((one) => ({ key: (keys += 1), table: one.table, name: one.name }));

function Moves({ tested }) {
  const { moves, errors, warnings, flows } = tested;
  const ref = useRef(null);
  useEffect(() => ref.current.scrollIntoView({ block: "nearest" }), [tested]);
  if (errors.length) {
    return html`<div class="tested bad" role="alert" ref=${ref}><h3>${plural(errors.length, "mistake")}</h3>
      <ul>${errors.map((one) => html`<li>${one.text}</li>`)}</ul></div>`;
  }
  return html`<div class="tested" role="status" ref=${ref}><h3>${moves.length === 0 ? `None of the ${plural(flows, "flow")} of now would move` : `${plural(moves.length, "flow")} would move`}</h3>
    ${warnings.length > 0 && html`<ul class="warnings">${warnings.map((one) => html`<li>${one.text}</li>`)}</ul>`}
    ${moves.length > 0 && html`<ul class="moves">${moves.map((one) => html`<li><b>${appName(one.flow.application)}</b> <span class="remote">${one.flow.remote}</span>
      <span class="hop">${one.from ? networkName(one.from) : "nowhere"} <${Icon} name="direct" /> ${one.to ? networkName(one.to) : "nowhere"}</span><small>${one.why}</small></li>`)}</ul>`}</div>`;
}

function Rule({ one, at, last, rule, open, toggle, change, remove, move, presets, drag }) {
  const { table } = one;
  const name = table.name ?? one.name ?? whom(table);
  const walk = (event) => {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    if (at + step >= 0 && at + step <= last) move(at, at + step, name);
  };
  return html`<li class="rule ${open ? "open" : ""} ${drag.at === at ? "lifted" : ""} ${drag.over === at && drag.at !== null ? "over" : ""}" data-at=${at}>
    <div class="rule-line">
      <button type="button" class="handle" id=${`handle-${one.key}`} aria-label=${`Rule ${at + 1}, ${name}: up and down change its place`} onKeyDown=${walk} ...${drag.on(at, name)}><${Icon} name="grip" /></button>
      <span class="place">${at + 1}</span>
      <button type="button" class="rule-words" aria-expanded=${String(open)} onClick=${toggle}>
        <b>${whom(table)}</b>
        <span class="networks">${where(table).map((word, step) => html`${step > 0 && html`<i aria-hidden="true">then</i>`}<span class="chip">${word}</span>`)}</span>
        <span class="conditions">${conditions(table).map((word) => html`<span class="tag">${word}</span>`)}</span>
      </button>
      <span class="rule-flows">${rule ? plural(rule.flows, "flow") : "new"}</span>
      <button type="button" class="bare" aria-label=${`Remove rule ${at + 1}, ${name}`} onClick=${remove}><${Icon} name="trash" /></button>
    </div>
    ${open && html`<${PolicyForm} table=${table} change=${change} presets=${presets} />`}
  </li>`;
}

/** Reordering by pointer: what is dragged, over what it is, and the handlers of a handle. */
function useDrag(move) {
  const [state, set] = useState({ at: null, over: null });
  const end = () => set({ at: null, over: null });
  const on = (at, name) => ({
    onPointerDown: (event) => {
      event.currentTarget.setPointerCapture(event.pointerId);
      set({ at, over: at });
    },
    onPointerMove: (event) => {
      if (state.at === null) return;
      const under = document.elementFromPoint(event.clientX, event.clientY)?.closest(".rule[data-at]");
      if (under && Number(under.dataset.at) !== state.over) set({ ...state, over: Number(under.dataset.at) });
    },
    onPointerUp: () => {
      if (state.at !== null && state.over !== state.at) move(state.at, state.over, name);
      end();
    },
    onPointerCancel: end,
  });
  return { ...state, on };
}

function Fixed({ rules }) {
  if (rules.length === 0) return null;
  return html`<ol class="rules fixed">${rules.map((rule) => html`<li class="rule"><div class="rule-line"><span class="handle" /><span class="place" />
    <div class="rule-words"><b>${rule.covers}</b><span class="networks">${rule.networks.map((word) => html`<span class="chip">${word === "*" ? "any other" : word}</span>`)}</span>
      <span class="conditions"><span class="tag">${FROM[rule.from] ?? rule.from}</span></span></div><span class="rule-flows">${plural(rule.flows, "flow")}</span></div></li>`)}</ol>`;
}

function Editor({ loaded, again }) {
  const [draft, setDraft] = useState(() => draftOf(loaded));
  const [edits, setEdits] = useState([]);
  const [raw, setRaw] = useState(null);
  const [open, setOpen] = useState(null);
  const [tested, setTested] = useState(null);
  const [wrong, setWrong] = useState(null);
  const focus = useRef(null);
  useEffect(() => {
    if (focus.current) document.getElementById(focus.current)?.focus();
    focus.current = null;
  });
  const edit = (next, one) => {
    setDraft(next);
    setEdits([...edits, one]);
    setTested(null);
  };
  const set = (at) => (table) => edit(draft.map((one, place) => (place === at ? { ...one, table } : one)), { op: "set", at, table });
  const remove = (at) => edit(draft.filter((_, place) => place !== at), { op: "remove", at });
  const move = (at, to, name) => {
    const next = [...draft];
    next.splice(to, 0, ...next.splice(at, 1));
    focus.current = `handle-${next[to].key}`;
    edit(next, { op: "move", at, to });
    announce(`${name} is now rule ${to + 1}`, "assertive");
  };
  const add = () => {
    const table = { application: "name", networks: loaded.order.length ? [...loaded.order] : ["*"] };
    const one = { key: (keys += 1), table, name: null };
    edit([...draft, one], { op: "add", at: draft.length, table });
    setOpen(one.key);
  };
  const drag = useDrag(move);
  const body = () => (raw === null ? { hash: loaded.hash, edits } : { hash: loaded.hash, text: raw });
  const send = async (path, then) => {
    try {
      setWrong(null);
      then(await post(path, body()));
    } catch (error) {
      setWrong(error);
    }
  };
  const test = () => send("/api/policies/test", setTested);
  const save = () => send("/api/policies/save", (answer) => {
    const text = `Saved: ${plural(answer.policies, "rule")}, in force now`;
    announce(text);
    toast({ text });
    again();
  });
  const showText = async () => {
    if (raw !== null) {
      setRaw(null);
      setTested(null);
      return;
    }
    if (edits.length === 0) setRaw(loaded.text);
    else await send("/api/policies/test", (answer) => setRaw(answer.text));
  };
  const changed = edits.length > 0 || (raw !== null && raw !== loaded.text);
  const ruleOf = (one) => one.name && loaded.rules.find((rule) => rule.name === one.name);
  const orders = loaded.rules.filter((rule) => rule.from === "order");
  const others = loaded.rules.filter((rule) => rule.from === "anchor" || rule.from === "default");
  return html`
    <header class="page-head"><div><h2 id="policies-title">Which application, over which network</h2>
      <p class="quiet">The first rule that covers a flow decides. <span class="file">${loaded.file}</span></p></div>
      <div class="buttons"><button type="button" aria-pressed=${String(raw !== null)} onClick=${showText}>As text</button></div></header>
    ${loaded.errors.length > 0 && html`<div class="tested bad" role="alert"><h3>The file has mistakes; what was valid before is in force</h3><ul>${loaded.errors.map((one) => html`<li>${one.text}</li>`)}</ul></div>`}
    ${raw !== null
      ? html`<label class="field raw"><span class="unseen">The file's text</span><textarea spellcheck=${false} value=${raw} onInput=${(event) => {
          setRaw(event.target.value);
          setTested(null);
        }} /></label>`
      : html`<${Fixed} rules=${orders} />
        ${draft.length === 0 && html`<p class="teach">No rule of yours yet: every flow takes the best network that works. A rule says otherwise for an application, a port, a user, a destination.</p>`}
        <ol class="rules">${draft.map((one, at) => html`<${Rule} key=${one.key} one=${one} at=${at} last=${draft.length - 1} rule=${ruleOf(one)} open=${open === one.key}
          toggle=${() => setOpen(open === one.key ? null : one.key)} change=${set(at)} remove=${() => remove(at)} move=${move} presets=${loaded.presets} drag=${drag} />`)}</ol>
        <${Fixed} rules=${others} />
        <p><button type="button" onClick=${add}>Add a rule</button></p>`}
    ${wrong && html`<div class="tested bad" role="alert"><h3>${wrong.kind === "changed" ? "The file was changed meanwhile" : "Refused"}</h3><p>${wrong.message} ${wrong.remedy}</p>
      ${wrong.kind === "changed" && html`<button type="button" onClick=${again}>Load it again, without what was changed here</button>`}</div>`}
    ${tested && html`<${Moves} tested=${tested} />`}
    <div class="save ${changed ? "wanted" : ""}"><span class="quiet">${changed ? "Not saved yet." : "As the file has it."}</span>
      <button type="button" disabled=${!changed} onClick=${again}>Discard</button>
      <button type="button" disabled=${!changed} onClick=${test}>Test</button>
      <button type="button" class="primary" disabled=${!changed} onClick=${save}>Save</button></div>`;
}

export function Policies() {
  const [loaded, error, load] = useLoaded(() => get("/api/policies"), []);
  const turn = useRef({ loaded: null, count: 0 }).current;
  if (turn.loaded !== loaded) {
    turn.loaded = loaded;
    turn.count += 1;
  }
  if (error) return html`<p class="bad">${error.message} ${error.remedy}</p>`;
  if (!loaded) return html`<p class="quiet" aria-busy="true">Loading…</p>`;
  return html`<section class="policies" aria-labelledby="policies-title"><${Editor} key=${turn.count} loaded=${loaded} again=${load} /></section>`;
}
