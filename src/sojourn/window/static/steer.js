// Picking a thread up and putting it down in another lane, by pointer, by finger (after a moment's press; let go where it
// was, that opens the menu), by keyboard.

import { application, flow, handOver } from "./actions.js";
import { announce, el } from "./dom.js";
import { close } from "./menu.js";
import { known } from "./store.js";
import { NOWHERE } from "./threads.js";

const FAR_ENOUGH = 6; // pixels until a press is a drag
const LONG_PRESS_MS = 320;
const EDGE = 64; // pixels from the window's edge within which it scrolls
const SCROLL = 14; // pixels a frame

export class Steering {
  /** `menu(grip, at)`: open the menu of what a grip stands for. */
  constructor(picture, menu) {
    this.picture = picture;
    this.menu = menu;
    this.held = null; // {grip, lane, by: "pointer" | "keys", target}
    const { root } = picture;
    const on = (name, then, options) => {
      const bound = then.bind(this);
      root.addEventListener(name, bound, options);
      this.ends.push(() => root.removeEventListener(name, bound, options));
    };
    this.ends = [];
    on("pointerdown", this.#down);
    on("pointermove", this.#move);
    on("pointerup", this.#up);
    on("pointercancel", this.#cancel);
    // The browser keeps a touch that stops a scroll for itself: it picks nothing up.
    on("touchstart", (event) => event.cancelable || this.#forget(), { passive: false });
    on("touchmove", (event) => this.held?.chip && event.preventDefault(), { passive: false });
    on("keydown", this.#key);
    on("click", this.#click);
    on("contextmenu", this.#context);
    on("focusout", (event) => this.held?.by === "keys" && event.target === this.held.grip && this.#drop(null, "left where it is"));
  }

  stop() {
    for (const end of this.ends) end();
  }

  // -- pointer

  #down(event) {
    const grip = event.target.closest(".grip");
    if (!grip || grip.disabled || event.button !== 0) return;
    this.press = { grip, x: event.clientX, y: event.clientY, id: event.pointerId, touch: event.pointerType === "touch" };
    if (this.press.touch) {
      this.press.timer = setTimeout(() => {
        if (!this.press) return;
        this.#lift(event);
        navigator.vibrate?.(12);
      }, LONG_PRESS_MS);
    }
  }

  #move(event) {
    const { press, held } = this;
    const far = press && Math.hypot(event.clientX - press.x, event.clientY - press.y) >= FAR_ENOUGH;
    if (held?.chip) {
      held.carried ||= far;
      this.#carry(event.clientX, event.clientY);
      return;
    }
    if (!far) return;
    if (press.touch) this.#forget();
    else this.#lift(event);
  }

  #lift(event) {
    const { grip, id } = this.press;
    this.picture.root.setPointerCapture?.(id);
    this.#hold(grip, "pointer");
    const chip = el("div", "carried");
    const dot = grip.row.element.querySelector(".swatch").cloneNode();
    chip.append(dot, el("b", "", this.held.subject.label));
    document.getElementById("sky").append(chip);
    this.held.chip = chip;
    this.#carry(event.clientX, event.clientY);
  }

  #carry(x, y) {
    // A finger covers what is under it: the name is carried above it.
    this.held.chip.style.transform = this.press?.touch ? `translate(${x - 24}px, ${y - 64}px)` : `translate(${x + 10}px, ${y + 8}px)`;
    const lane = this.lanes().find(({ element }) => {
      const box = element.getBoundingClientRect();
      return y >= box.top && y <= box.bottom && x >= box.left && x <= box.right;
    });
    this.#aim(lane && lane !== this.held.lane ? lane : null);
    const scroll = y < EDGE ? -SCROLL : y > innerHeight - EDGE ? SCROLL : 0;
    cancelAnimationFrame(this.scrolling);
    if (scroll) {
      this.scrolling = requestAnimationFrame(() => {
        scrollBy(0, scroll);
        if (this.held?.chip) this.#carry(x, y); // it goes on while the finger rests there
      });
    }
  }

  #up() {
    if (this.held?.chip) {
      const { target, grip, carried } = this.held;
      this.#drop(target, target ? null : "left where it is");
      this.justDragged = performance.now();
      if (this.press?.touch && !carried) this.menu(grip, grip); // pressed long, and not carried anywhere
    }
    this.#forget();
  }

  #cancel() {
    if (this.held?.chip) this.#drop(null, "left where it is");
    this.#forget();
  }

  #forget() {
    clearTimeout(this.press?.timer);
    this.press = null;
  }

  #click(event) {
    const more = event.target.closest(".threads .more");
    if (more) {
      this.menu(more, more);
      return;
    }
    const grip = event.target.closest(".grip");
    if (!grip || performance.now() - (this.justDragged ?? -1e9) < 300) return;
    if (!grip.flow) grip.row.toggle();
  }

  #context(event) {
    const at = event.target.closest(".line, .flow");
    const grip = at?.querySelector(".grip");
    if (!grip || grip.disabled) return;
    event.preventDefault();
    if (this.press?.touch) return; // a long press is ours: it picks up, and opens the menu when it is let go
    this.#cancel();
    this.menu(grip, event.clientX ? { x: event.clientX, y: event.clientY } : grip);
  }

  // -- keyboard

  #key(event) {
    const grip = event.target.closest(".grip");
    if (!grip) return;
    const then = this.held?.by === "keys" ? this.#keyWhileHeld(event, grip) : this.#keyToWalk(event, grip);
    if (then === false) return;
    event.preventDefault();
    event.stopPropagation();
  }

  #keyWhileHeld(event) {
    const lanes = this.lanes().filter((lane) => lane.open && lane !== this.held.lane);
    const at = lanes.indexOf(this.held.target);
    switch (event.key) {
      case "ArrowDown":
      case "ArrowRight":
        this.#aim(lanes[(at + 1) % lanes.length] ?? null, true);
        return true;
      case "ArrowUp":
      case "ArrowLeft":
        this.#aim(lanes[(at - 1 + lanes.length) % lanes.length] ?? null, true);
        return true;
      case "Enter":
      case " ":
        this.#drop(this.held.target, this.held.target ? null : "put down where it was");
        return true;
      case "Escape":
        this.#drop(null, "left where it is");
        return true;
      case "Tab":
        this.#drop(null, "left where it is");
        return false;
      default:
        return false;
    }
  }

  #keyToWalk(event, grip) {
    const grips = [...this.picture.root.querySelectorAll(".grip:not(:disabled)")];
    const at = grips.indexOf(grip);
    switch (event.key) {
      case "Enter":
      case " ":
        this.#hold(grip, "keys");
        return true;
      case "ArrowDown":
        grips[at + 1]?.focus();
        return true;
      case "ArrowUp":
        grips[at - 1]?.focus();
        return true;
      case "Home":
        grips[0]?.focus();
        return true;
      case "End":
        grips.at(-1)?.focus();
        return true;
      case "ArrowRight":
        if (!grip.flow) grip.row.toggle(true);
        return true;
      case "ArrowLeft":
        if (grip.flow) grip.row.grip.focus();
        else grip.row.toggle(false);
        return true;
      case "m":
      case "M":
        this.menu(grip, grip);
        return true;
      default:
        return false;
    }
  }

  // -- both

  lanes() {
    return [...this.picture.root.children].map((element) => this.picture.lanes.get(element.dataset.network)).filter((lane) => lane && lane.name !== NOWHERE);
  }

  #hold(grip, by) {
    close(false);
    const lane = this.picture.lanes.get(grip.closest(".lane").dataset.network);
    this.held = { grip, lane, by, target: null, subject: subjectOf(grip) };
    grip.classList.add("held");
    document.body.classList.add("steering");
    for (const one of this.lanes()) one.element.classList.toggle("offers", one.open && one !== lane);
    if (by === "keys") {
      const others = this.lanes().filter((one) => one.open && one !== lane);
      const text = others.length ? "Up and down choose a network, Enter puts it down." : "No other network works now.";
      announce(`${this.held.subject.label} picked up from ${lane.label}. ${text}`, "assertive");
    }
  }

  #aim(lane, aloud = false) {
    const { held } = this;
    const target = lane?.open ? lane : null;
    if (held.target === target) return;
    held.target?.element.classList.remove("aimed");
    target?.element.classList.add("aimed");
    held.target = target;
    if (aloud && target) {
      announce(`To ${target.label}`, "assertive");
      target.element.scrollIntoView({ block: "nearest" });
    }
  }

  #drop(lane, said) {
    const { held } = this;
    this.held = null;
    held.chip?.remove();
    held.grip.classList.remove("held");
    document.body.classList.remove("steering");
    for (const one of this.lanes()) one.element.classList.remove("offers", "aimed");
    if (lane) handOver(held.subject, lane.name);
    else if (held.by === "keys") announce(`${held.subject.label}: ${said}`, "assertive");
  }
}

/** What a grip stands for, as an order wants it. */
export function subjectOf(grip) {
  if (grip.flow) return flow(grip.flow);
  const { application: name, flows } = grip.row.group;
  // A program that nobody knows has no name to be ordered by: its flows of now are.
  if (name === null) return { flow: [...flows.keys()], label: "The flows of unknown programs" };
  return application(name, [...flows.keys()].filter((id) => id in known.orders.flows));
}
