// Questions that policies leave to the user, with what happens if nobody answers and when.

import { networkName, order } from "./actions.js";
import { post } from "./api.js";
import { announce } from "./dom.js";
import { useClock, useKnown } from "./hooks.js";
import { known } from "./store.js";
import { html, useEffect, useState } from "./vendor/preact.js";

const WORDS = { hold: "Let them wait", block: "Refuse them", any: "Any network", direct: "Send direct" };
const KEEP = { once: "this once", session: "until a restart", ever: "for ever" };

const choiceName = (choice) => (known.networks.has(choice) ? networkName(choice) : WORDS[choice] ?? choice);

function Question({ question }) {
  useClock(500);
  const [remember, keep] = useState("once");
  const left = Math.max(0, (question.until - performance.now()) / 1000);
  const whole = Math.max(question.seconds_left, 1);
  const answer = (choice) => order(
    () => post("/api/answer", { id: question.id, choice, remember }),
    () => announce(`Answered: ${choiceName(choice)}`),
  );
  return html`<section class="question" aria-label=${`Question about ${question.policy || "everything else"}`}>
    <h3>${question.policy || "Everything else"}</h3>
    <p>${question.text}</p>
    <div class="choices">${question.choices.map((choice) => html`<button type="button" onClick=${() => answer(choice)}
      class=${choice === question.default ? "default" : ""}>${choiceName(choice)}</button>`)}</div>
    <label class="keep">Remember <select value=${remember} onChange=${(event) => keep(event.target.value)}>
      ${question.remember.map((one) => html`<option value=${one}>${KEEP[one] ?? one}</option>`)}</select></label>
    <div class="left"><span class="gauge"><i style=${{ transform: `scaleX(${Math.min(1, left / whole)})` }} /></span>
      <small>${choiceName(question.default)} in ${Math.ceil(left)} s</small></div>
  </section>`;
}

export function Questions() {
  const { questions } = useKnown(["questions"]);
  const newest = questions.at(-1)?.id;
  useEffect(() => {
    if (newest !== undefined) announce(`Sojourn asks: ${questions.at(-1).text}`, "assertive");
  }, [newest]);
  if (questions.length === 0) return null;
  return html`<div class="questions"><h2>Sojourn asks</h2>
    ${questions.map((one) => html`<${Question} key=${one.id} question=${one} />`)}</div>`;
}
