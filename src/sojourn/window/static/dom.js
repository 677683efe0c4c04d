// The little that the hand-made parts of the page share: elements, what is said aloud, and whether motion is welcome.

/** Make an element: `el("span", "count", "4")`. */
export function el(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

/** Write a text only where it changed: an unchanged node costs no layout. */
export function write(element, text) {
  if (element.firstChild?.nodeType === 3) {
    if (element.firstChild.data !== text) element.firstChild.data = text;
  } else {
    element.textContent = text;
  }
}

const regions = { polite: null, assertive: null };

/** Say something to those who listen instead of looking. */
export function announce(text, urgency = "polite") {
  regions[urgency] ??= document.getElementById(`say-${urgency}`);
  const region = regions[urgency];
  region.textContent = "";
  requestAnimationFrame(() => {
    region.textContent = text;
  });
}

const still = matchMedia("(prefers-reduced-motion: reduce)");

export const motionWelcome = () => !still.matches;
