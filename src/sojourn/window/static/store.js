// What the page knows. Events change it at once; those who show it hear of it once a frame, however many events came.

import { follow, get, takeToken } from "./api.js";

const KEPT_LOG = 1000;
const MAX_CHANGES = 20000;

export const known = {
  role: null,
  about: null,
  line: { state: "connecting", refusal: null }, // connecting, live, away (the daemon), lost (the server), none (no token)
  arrived: 0, // performance.now() of the newest event
  at: 0, // its unix time
  status: null,
  networks: new Map(),
  flows: new Map(),
  orders: { everything: null, applications: {}, flows: {} },
  undo: null,
  log: [],
  questions: [],
  hosts: new Map(),
  flowsTotal: 0,
  exposed: [],
};

const listeners = new Map(); // topic -> set of functions
const dirty = new Set();
/** What the picture has not taken in yet. While nobody looks it is kept small: then the picture begins anew. */
export const changes = { flows: new Set(), gone: new Set(), moves: [], fresh: false };

function forgetTooMany() {
  if (changes.gone.size + changes.moves.length < MAX_CHANGES) return;
  changes.gone.clear();
  changes.moves.length = 0;
  changes.fresh = true;
}

let scheduled = false;

/** Call `then` once a frame in which `topic` changed; returns what ends that. */
export function listen(topic, then) {
  if (!listeners.has(topic)) listeners.set(topic, new Set());
  listeners.get(topic).add(then);
  return () => listeners.get(topic).delete(then);
}

function touch(topic) {
  dirty.add(topic);
  if (scheduled) return;
  scheduled = true;
  // A hidden page has no frames: it keeps up all the same, or its heap of changes would grow.
  if (document.hidden) setTimeout(flush, 500);
  else requestAnimationFrame(flush);
}

function flush() {
  scheduled = false;
  const topics = [...dirty];
  dirty.clear();
  for (const topic of topics) for (const then of listeners.get(topic) ?? []) then();
}

/** Unix time now, by the daemon's clock. */
export const nowUnix = () => known.at + (performance.now() - known.arrived) / 1000;

function setLine(state, refusal = null) {
  known.line = { state, refusal };
  touch("line");
}

function takeNetworks(rows, order) {
  for (const row of rows) known.networks.set(row.name, row);
  if (order) {
    known.networks = new Map(order.filter((name) => known.networks.has(name)).map((name) => [name, known.networks.get(name)]));
  }
  touch("networks");
}

function takeFlow(flow) {
  flow.seen = performance.now(); // its age counts from here
  known.flows.set(flow.id, flow);
  changes.flows.add(flow.id);
  changes.gone.delete(flow.id);
}

function takeLog(entries) {
  known.log.push(...entries);
  if (known.log.length > KEPT_LOG) known.log.splice(0, known.log.length - KEPT_LOG);
  touch("log");
}

function takeSnapshot(event) {
  known.role = event.role;
  known.networks = new Map();
  known.flows = new Map();
  known.hosts = new Map();
  changes.fresh = true;
  changes.flows.clear();
  changes.gone.clear();
  changes.moves.length = 0;
  takeNetworks(event.networks ?? []);
  for (const flow of event.flows ?? []) takeFlow(flow);
  for (const host of event.hosts ?? []) known.hosts.set(host.name, host);
  known.log = [];
  takeLog(event.log ?? []);
  known.status = event.status;
  known.orders = event.orders ?? known.orders;
  known.undo = event.undo ?? null;
  known.flowsTotal = event.flows_total ?? 0;
  known.exposed = event.exposed ?? [];
  takeQuestions(event.questions ?? []);
  setLine("live");
  for (const topic of ["role", "status", "flows", "orders", "undo", "hosts", "exposed"]) touch(topic);
}

function takeQuestions(questions) {
  const until = performance.now();
  known.questions = questions.map((one) => ({ ...one, until: until + one.seconds_left * 1000 }));
  touch("questions");
}

function takeRates(rates) {
  for (const [id, bytesIn, bytesOut, inward, outward] of rates) {
    const flow = known.flows.get(id);
    if (flow === undefined) continue;
    flow.bytes_in = bytesIn;
    flow.bytes_out = bytesOut;
    flow.in_bps = inward;
    flow.out_bps = outward;
    changes.flows.add(id);
  }
  touch("flows");
}

function takeDelta(event) {
  if (event.networks || event.network_order || event.networks_gone) {
    for (const name of event.networks_gone ?? []) known.networks.delete(name);
    takeNetworks(event.networks ?? [], event.network_order);
  }
  for (const flow of event.flows ?? []) takeFlow(flow);
  for (const id of event.flows_gone ?? []) {
    known.flows.delete(id);
    changes.gone.add(id);
    changes.flows.delete(id);
  }
  if (event.moves) changes.moves.push(...event.moves);
  if (event.rates) takeRates(event.rates);
  if (event.flows || event.flows_gone || event.moves) touch("flows");
  forgetTooMany();
  for (const host of event.hosts ?? []) known.hosts.set(host.name, host);
  for (const name of event.hosts_gone ?? []) known.hosts.delete(name);
  if (event.hosts || event.hosts_gone) touch("hosts");
  if (event.log) takeLog(event.log);
  if (event.questions) takeQuestions(event.questions);
  for (const [key, name] of [["status", "status"], ["orders", "orders"], ["undo", "undo"], ["exposed", "exposed"], ["flows_total", "flowsTotal"]]) {
    if (key in event) {
      known[name] = event[key];
      touch(key === "flows_total" ? "flows" : key);
    }
  }
}

function take(name, event) {
  known.arrived = performance.now();
  if (event.at) known.at = event.at;
  if (name === "snapshot") takeSnapshot(event);
  else if (name === "delta") takeDelta(event);
  else if (name === "away") setLine("away", event.error);
}

/** Begin: take the token, and follow the events. */
export function start() {
  if (!takeToken()) {
    setLine("none");
    return;
  }
  learnAbout();
  follow(take, (refusal) => {
    setLine(refusal.kind === "token" || refusal.kind === "stranger" ? "none" : "lost", refusal);
  });
}

async function learnAbout() {
  try {
    known.about = await get("/api/about");
    known.role ??= known.about.role;
    touch("role");
  } catch {
    // The stream of events says what is wrong, and its snapshot says the role, too.
  }
}
