// Short messages at the lower edge: what was done, with a way to take it back; what went wrong, with the remedy.

import { Icon } from "./icons.js";
import { html, useEffect, useState } from "./vendor/preact.js";

const STAYS_MS = 9000;
const BAD_STAYS_MS = 20000;
const AT_ONCE = 4;

let shown = [];
let draw = () => {};
let number = 0;

/** Show a message: {text, remedy?, bad?, action?, run?}. */
export function toast(message) {
  number += 1;
  const one = { ...message, number };
  shown = [...shown.filter((other) => !other.run || !one.run), one].slice(-AT_ONCE);
  draw();
  const stays = one.bad ? BAD_STAYS_MS : STAYS_MS;
  const later = () => {
    if (document.querySelector(`.toast[data-number="${one.number}"]:is(:hover, :focus-within)`)) setTimeout(later, 3000);
    else dismiss(one.number);
  };
  setTimeout(later, stays);
}

function dismiss(which) {
  shown = shown.filter((one) => one.number !== which);
  draw();
}

export function Toasts() {
  const [, again] = useState(0);
  useEffect(() => {
    draw = () => again((count) => count + 1);
  }, []);
  return html`<div class="toasts" role="region" aria-label="Messages">
    ${shown.map((one) => html`<div key=${one.number} data-number=${one.number} class="toast ${one.bad ? "bad" : ""}" role=${one.bad ? "alert" : null}>
      ${one.bad && html`<${Icon} name="warn" />`}
      <p><span>${one.text}</span>${one.remedy && html`<small>${one.remedy}</small>`}</p>
      ${one.run && html`<button type="button" class="link" onClick=${() => {
        dismiss(one.number);
        one.run();
      }}>${one.action}</button>`}
      <button type="button" class="bare" aria-label="Dismiss" onClick=${() => dismiss(one.number)}><${Icon} name="close" /></button>
    </div>`)}
  </div>`;
}
