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

function withUndo(text, orders = 1) {
  announce(text);
  toast({ text, action: "Undo", run: () => undo(orders) });
}

/** Take the last order back; `orders`: those that were one to the user. */
export async function undo(orders = 1) {
  for (let more = orders; more > 1; more -= 1) if (!(await order(() => post("/api/undo")))) return null;
  return order(() => post("/api/undo"), (answer) => {
    const text = `Taken back: ${answer.undone}`;
    announce(text);
    toast(answer.undo ? { text, action: "Undo more", run: () => undo() } : { text });
  });
}

/**
 * `subject`: {app} or {flow} or {all}, with a `label` for people. `apart`: flows of an application that stand apart from
 * it by orders of their own, and go along.
 */
export async function handOver(subject, to) {
  const { label, apart = [], ...what } = subject;
  const both = apart.length > 0 && to !== "direct";
  if (both && !(await order(() => post("/api/handover", { flow: apart, to })))) return null;
  return order(() => post("/api/handover", { ...what, to }), (answer) => withUndo(said(label, to, answer), both ? 2 : 1));
}

export const everything = { all: true, label: "Everything" };
export const application = (name, apart = []) => ({ app: name, label: appName(name), apart });
export const flow = (id) => ({ flow: id, label: `The flow to ${known.flows.get(id)?.remote ?? id}` });

/** Use a network, pause it, or exclude it. */
export function useNetwork(name, use) {
  const words = { on: "is used again", paused: "is paused", excluded: "is excluded" };
  return order(() => post("/api/network", { network: name, use }), () => withUndo(`${networkName(name)} ${words[use]}`));
}
