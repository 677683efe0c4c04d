// The roaming log in people's words: which entries matter, and what each says.

import { networkName } from "./actions.js";
import { ms, plural } from "./format.js";

/** event -> [headline with {n} for the network, tone]. */
const WORDS = {
  handover: ["Moved to {n}", "move"],
  "new flows": ["New flows go elsewhere", "move"],
  moved: ["Heard again on {n}", "effect"],
  confirmed: ["The anchor agrees", "effect"],
  network: ["{n} has an address", "good"],
  works: ["{n} works", "good"],
  recovered: ["{n} answers again", "good"],
  well: ["{n} is well again", "good"],
  open: ["{n} is open", "good"],
  associated: ["Associated", "good"],
  silent: ["{n} fell silent", "bad"],
  gone: ["{n} is gone", "bad"],
  failed: ["{n} failed", "bad"],
  blocked: ["{n} is blocked", "bad"],
  degraded: ["{n} loses packets", "bad"],
  captive: ["{n} wants a login", "bad"],
  question: ["A question", "ask"],
  answer: ["Answered", "ask"],
  policies: ["Policies changed", "plain"],
  push: ["The anchor's offer", "plain"],
  order: ["Ordered by you", "move"],
};

/** Entries that repeat what the one before said, and are shown only where everything is. */
const MINOR = new Set(["confirmed", "moved"]);

export const isMinor = (entry) => MINOR.has(entry.event);

export function tone(entry) {
  return (WORDS[entry.event] ?? ["", "plain"])[1];
}

export function headline(entry) {
  if (entry.event === "handover" && entry.network === null) return "Flows wait";
  const [words] = WORDS[entry.event] ?? [entry.event];
  return words.replace("{n}", entry.network ? networkName(entry.network) : "a network");
}

/** What came of a decision: the "moved" entry that follows it, if it has come. */
export function effectOf(entry, log) {
  if (entry.event !== "handover") return null;
  for (const other of log) {
    if (other.number <= entry.number) continue;
    if (other.event === "handover") return null;
    if (other.event === "moved" && other.network === entry.network) return other;
  }
  return null;
}

export function cost(effect) {
  if (!effect) return null;
  const flows = effect.flows ? plural(effect.flows, "flow") : null;
  const gap = effect.gap_ms == null ? "not heard since" : `${ms(effect.gap_ms)} gap`;
  return [flows, gap].filter(Boolean).join(", ");
}
