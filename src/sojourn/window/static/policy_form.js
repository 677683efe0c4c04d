// The form of one rule. What it does not know of a table stays in it untouched.

import { REQUIRE, WHERE, WHOM, put, shown } from "./policy_fields.js";
import { html, useState } from "./vendor/preact.js";

function Field({ field, value, change, presets }) {
  const id = `field-${field.key}`;
  if (field.flag) {
    return html`<label class="field check"><input type="checkbox" checked=${value === true} onChange=${(event) => change(event.target.checked || undefined)} /> ${field.name}</label>`;
  }
  if (field.choices) {
    const choices = field.choices === "presets" ? [["", "none"], ...presets.map((one) => [one.name, one.name])] : field.choices;
    const known = choices.some(([word]) => word === (value ?? ""));
    return html`<label class="field">${field.name}<select id=${id} onChange=${(event) => change(choices[event.target.selectedIndex]?.[0] ?? value)}>
      ${choices.map(([word, name]) => html`<option selected=${word === (value ?? "")}>${name}</option>`)}
      ${!known && html`<option selected>${shown(value)}</option>`}</select></label>`;
  }
  return html`<label class="field">${field.name}<input id=${id} type=${field.type ?? "text"} value=${shown(value)} placeholder=${field.hint ?? ""} autocomplete="off" spellcheck=${false}
    onChange=${(event) => change(field.read(event.target.value))} /></label>`;
}

function Fields({ title, fields, table, path = [], change, presets }) {
  const [asked, ask] = useState([]);
  const here = path.reduce((inner, key) => inner?.[key] ?? {}, table);
  const visible = fields.filter((field) => field.always || field.key in here || asked.includes(field.key));
  const others = fields.filter((field) => !visible.includes(field));
  return html`<fieldset><legend>${title}</legend>
    <div class="fields">${visible.map((field) => html`<${Field} key=${field.key} field=${field} value=${here[field.key]} presets=${presets}
      change=${(value) => change(put(table, [...path, field.key], value))} />`)}
    ${others.length > 0 && html`<label class="field add">Add<select aria-label=${`Add to: ${title}`} onChange=${(event) => {
      ask([...asked, event.target.value]);
      event.target.selectedIndex = 0;
    }}><option value="">choose…</option>${others.map((field) => html`<option value=${field.key}>${field.name}</option>`)}</select></label>`}</div>
  </fieldset>`;
}

export function PolicyForm({ table, change, presets }) {
  const whom = WHOM.map((field) => (field.key === "application" ? { ...field, always: true } : field));
  return html`<div class="policy-form">
    <${Fields} title="Whom it speaks of" fields=${whom} table=${table} change=${change} />
    <${Fields} title="Where they may go" fields=${WHERE} table=${table} change=${change} presets=${presets} />
    <${Fields} title="What a network must be" fields=${REQUIRE} table=${table} path=${["require"]} change=${change} />
  </div>`;
}
