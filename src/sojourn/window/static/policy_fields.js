// What a rule's form asks for, and how its words become the table of a policy (docs/guide/policies.md).

const list = (text) => {
  const words = text.split(",").map((word) => word.trim()).filter(Boolean);
  return words.length === 0 ? undefined : words.length === 1 ? words[0] : words;
};
const networks = (text) => {
  const words = text.split(",").map((word) => word.trim()).filter(Boolean);
  return words.length ? words : undefined;
};
const number = (word) => (/^\d+$/.test(word) ? Number(word) : word);
const ports = (text) => {
  const found = list(text);
  return Array.isArray(found) ? found.map(number) : found === undefined ? undefined : number(found);
};
const text = (words) => words.trim() || undefined;
const count = (words) => (words.trim() ? Number(words) : undefined);

export const WHOM = [
  { key: "application", name: "Application", hint: "zoom, or several: zoom, teams", read: list },
  { key: "executable", name: "Program file", hint: "/usr/bin/curl", read: list },
  { key: "command", name: "Command name", hint: "ssh", read: list },
  { key: "unit", name: "systemd unit", hint: "backup.service", read: list },
  { key: "container", name: "Container", hint: "docker", read: list },
  { key: "cgroup", name: "Control group", hint: "/user.slice", read: list },
  { key: "user", name: "User", hint: "alice", read: list },
  { key: "port", name: "Port of the other end", hint: "443, 5000-5100", read: ports },
  { key: "local_port", name: "Own port", hint: "5060", read: ports },
  { key: "protocol", name: "Protocol", hint: "udp", read: list },
  { key: "destination", name: "Destination", hint: "*.example.org, 192.0.2.0/24", read: list },
  { key: "peer", name: "Peer", hint: "alice, or * for all", read: list },
  { key: "match", name: "Match, as iptables has it", hint: "-p tcp --dport 22", read: text },
];

export const WHERE = [
  { key: "networks", name: "Networks, the preferred first", hint: "ethernet, wifi, cellular", read: networks, always: true },
  { key: "otherwise", name: "While none fits", choices: [["", "take any that works"], ["hold", "let them wait"], ["block", "refuse them"], ["ask", "ask me"], ["direct", "send direct"]], always: true },
  { key: "preset", name: "Preset", choices: "presets" },
  { key: "order", name: "Among those that fit", choices: [["", "as listed"], ["performance", "the fastest"], ["voip", "the best for speech"], ["sticky", "the one in use"]] },
  { key: "via", name: "Way", choices: [["", "through the anchor"], ["peer", "to peers, by rendezvous nodes"], ["direct", "direct, without mobility"]] },
  { key: "trigger", name: "Private identifiers", choices: [["", "one for each peer"], ["flow", "one for each flow"]] },
  { key: "copies", name: "Copies over networks", hint: "2", read: count, type: "number" },
  { key: "stay", name: "Running flows stay", flag: true },
  { key: "minimum_stay", name: "Stay at least", hint: "5min", read: text },
  { key: "block", name: "Never: refuse at once", flag: true },
  { key: "ask_timeout", name: "Time to answer", hint: "1min", read: text },
  { key: "ask_default", name: "Without an answer", choices: [["", "let them wait"], ["any", "any network"], ["block", "refuse them"]] },
  { key: "name", name: "Name of the rule", hint: "calls", read: text },
];

export const REQUIRE = [
  { key: "rtt", name: "Round trip at most", hint: "150ms", read: text },
  { key: "loss", name: "Loss at most", hint: "2%", read: text },
  { key: "jitter", name: "Jitter at most", hint: "30ms", read: text },
  { key: "rate", name: "Rate at least", hint: "5Mbit/s", read: text },
  { key: "signal", name: "Signal at least", hint: "40%", read: text },
  { key: "metered", name: "Metered", choices: [["", "either"], [false, "no"], [true, "yes"]] },
  { key: "cost", name: "Cost", choices: [["", "either"], ["free", "free"], ["metered", "metered"]] },
  { key: "security", name: "Security", hint: "trusted, encrypted", read: list },
  { key: "time", name: "Time", hint: "mon-fri 08:00-18:00", read: list },
  { key: "under_cap", name: "Under its data cap", flag: true },
];

export const shown = (value) => (value == null ? "" : Array.isArray(value) ? value.join(", ") : String(value));

/** Return the table with one value of the form put in; `path`: ["require", "rtt"] or ["networks"]. */
export function put(table, path, value) {
  const [key, ...rest] = path;
  const next = { ...table };
  const inner = rest.length ? put(next[key] ?? {}, rest, value) : value;
  const empty = inner === undefined || inner === "" || (rest.length > 0 && Object.keys(inner).length === 0);
  if (empty) delete next[key];
  else next[key] = inner;
  return next;
}

const OTHERWISE = { hold: "waits", block: "is refused", ask: "asks you", direct: "goes direct", any: "takes any" };

/** A rule in a line: whom it speaks of. */
export function whom(table) {
  const said = WHOM.filter(({ key }) => key in table).map(({ key }) => (key === "application" ? shown(table[key]) : `${key} ${shown(table[key])}`));
  return said.join(", ") || "everything";
}

/** A rule in a line: where it sends them. */
export function where(table) {
  const parts = [];
  if (table.block) return ["never"];
  if (table.preset) parts.push(table.preset);
  if (table.networks) parts.push(...(Array.isArray(table.networks) ? table.networks : [table.networks]).map((one) => (one === "*" ? "any other" : one)));
  return parts.length ? parts : ["the general order"];
}

/** A rule in a line: under which conditions, and what else. */
export function conditions(table) {
  const said = Object.entries(table.require ?? {}).map(([key, value]) => (key === "under_cap" ? "under its cap" : key === "metered" ? (value ? "metered" : "not metered") : `${key} ${shown(value)}`));
  if (table.copies > 1) said.push(`${table.copies} copies`);
  if (table.otherwise) said.push(`else ${OTHERWISE[table.otherwise] ?? table.otherwise}`);
  return said;
}
