// Menus by pointer and keyboard, and dialogs. One at a time; focus goes back to where it came from.

import { Icon } from "./icons.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "./vendor/preact.js";

let open = null; // {items, at, label} or {dialog}
let draw = () => {};
let before = null;

function show(next) {
  if (!open) before = document.activeElement;
  open = next;
  draw();
}

/** Close what is open. `back`: put the focus where it was. */
export function close(back = true) {
  if (!open) return;
  open = null;
  draw();
  if (back && before?.isConnected) before.focus({ preventScroll: true });
}

/**
 * Open a menu. `at`: an element or {x, y}. `items`: {label, icon, run, checked?, disabled?, danger?} or {head} or null (a line).
 */
export function openMenu(at, label, items) {
  show({ items, at, label });
}

/** Open a dialog: `Body` is a component that gets `close`. */
export function openDialog(title, Body, props = {}) {
  show({ title, Body, props });
}

/** Ask before something that cannot be undone. */
export function confirm({ title, text, action, run }) {
  openDialog(title, ({ close: end }) => html`<p>${text}</p>
    <div class="buttons">
      <button type="button" onClick=${end}>Cancel</button>
      <button type="button" class="danger" onClick=${() => {
        end();
        run();
      }}>${action}</button>
    </div>`);
}

const POINT = ({ x, y }) => ({ left: x, right: x, top: y, bottom: y });

function Menu({ items, at, label }) {
  const ref = useRef(null);
  useLayoutEffect(() => {
    const menu = ref.current;
    const place = at.getBoundingClientRect ? at.getBoundingClientRect() : POINT(at);
    const { width, height } = menu.getBoundingClientRect();
    const left = Math.min(place.left, innerWidth - width - 8);
    const below = place.bottom + 4 + height < innerHeight;
    menu.style.left = `${Math.max(8, left)}px`;
    menu.style.top = `${Math.max(8, below ? place.bottom + 4 : Math.min(place.top - 4, innerHeight - 8) - height)}px`;
    choices(menu)[0]?.focus({ preventScroll: true });
  }, [items]);
  const keys = (event) => {
    const all = choices(ref.current);
    const here = all.indexOf(document.activeElement);
    const steps = { ArrowDown: here + 1, ArrowUp: here - 1 + all.length, Home: 0, End: all.length - 1 };
    if (event.key in steps) all[steps[event.key] % all.length]?.focus();
    else if (event.key === "Escape" || event.key === "Tab") close();
    else if (event.key.length === 1 && event.key !== " ") {
      all.slice(here + 1).concat(all).find((one) => one.textContent.trim().toLowerCase().startsWith(event.key.toLowerCase()))?.focus();
      return;
    } else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return html`<div class="menu" role="menu" aria-label=${label} ref=${ref} onKeyDown=${keys}>
    ${items.map((item) => {
      if (!item) return html`<hr role="separator" />`;
      if (item.head) return html`<div class="menu-head" role="presentation">${item.head}</div>`;
      const role = item.checked === undefined ? "menuitem" : "menuitemradio";
      return html`<button type="button" role=${role} aria-checked=${item.checked === undefined ? null : String(item.checked)}
        tabindex="-1" class=${item.danger ? "danger" : ""} aria-disabled=${item.disabled ? "true" : null}
        onClick=${() => {
          if (item.disabled) return;
          close();
          item.run();
        }}>
        <${Icon} name=${item.checked ? "check" : item.icon ?? "none"} class=${item.icon || item.checked ? "" : "blank"} />
        <span>${item.label}</span>${item.note && html`<small>${item.note}</small>`}
      </button>`;
    })}
  </div>`;
}

const choices = (menu) => [...menu.querySelectorAll('[role^="menuitem"]')];

function Dialog({ title, Body, props }) {
  const ref = useRef(null);
  useEffect(() => {
    const dialog = ref.current;
    dialog.showModal();
    return () => dialog.close();
  }, []);
  return html`<dialog ref=${ref} aria-labelledby="dialog-title" onCancel=${(event) => {
    event.preventDefault();
    close();
  }}>
    <header><h2 id="dialog-title">${title}</h2>
      <button type="button" class="bare" aria-label="Close" onClick=${() => close()}><${Icon} name="close" /></button></header>
    <div class="dialog-body"><${Body} close=${() => close()} ...${props} /></div>
  </dialog>`;
}

/** What is open above the page. */
export function Above() {
  const [, again] = useState(0);
  useEffect(() => {
    draw = () => again((count) => count + 1);
    const outside = (event) => {
      if (open?.items && !event.target.closest(".menu")) close(false);
    };
    addEventListener("pointerdown", outside, true);
    addEventListener("resize", () => open?.items && close(false));
    return () => removeEventListener("pointerdown", outside, true);
  }, []);
  if (!open) return null;
  return open.items ? html`<${Menu} ...${open} />` : html`<${Dialog} ...${open} />`;
}
