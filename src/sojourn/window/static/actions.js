// What a person can order, and what the page says when it was done or refused.

import { post, Refusal } from "./api.js";
import { announce } from "./dom.js";
import { appName, plural } from "./format.js";
import { known } from "./store.js";
import { toast } from "./toasts.js";

/** Carry out an order; a refusal is shown with its remedy. Returns the answer, or null. */
export async function order(work, done) {
  try {
    const answer = await work();
    if (done) done(answer);
    return answer;
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    toast({ text: error.message, remedy: error.remedy, bad: true });
    return null;
  }
}

const places = { policy: "back to the policies", hold: "on hold", block: "blocked", direct: "past the tunnels from its next connection on" };

export function networkName(name) {
  const network = known.networks.get(name);
  return network?.label || name;
}

function said(what, to, answer) {
  const where = places[to] ?? `on ${networkName(to)}`;
  if (to === "policy") return `${what}: ${where}`;
  if (answer.moved === 0 && answer.unchanged > 0) return `${what} already ${where}`;
  return `${what} is now ${where}${answer.moved > 1 ? `: ${plural(answer.moved, "flow")} moved` : ""}`;
}

function withUndo(text) {
  announce(text);
  toast({ text, action: "Undo", run: undo });
}

/** Take the last order back. */
export function undo() {
  return order(() => post("/api/undo"), (answer) => {
    const text = `Taken back: ${answer.undone}`;
    announce(text);
    toast(answer.undo ? { text, action: "Undo more", run: undo } : { text });
  });
}

/** `subject`: {app} or {flow} or {all}, with a `label` for people. */
export function handOver(subject, to) {
  const { label, ...what } = subject;
  return order(() => post("/api/handover", { ...what, to }), (answer) => withUndo(said(label, to, answer)));
}

export const everything = { all: true, label: "Everything" };
export const application = (name) => ({ app: name, label: appName(name) });
export const flow = (id) => ({ flow: id, label: `The flow to ${known.flows.get(id)?.remote ?? id}` });

/** Use a network, pause it, or exclude it. */
export function useNetwork(name, use) {
  const words = { on: "is used again", paused: "is paused", excluded: "is excluded" };
  return order(() => post("/api/network", { network: name, use }), () => withUndo(`${networkName(name)} ${words[use]}`));
}
