// The page's end of the line to its server: the token, one request, the stream of events.
//
// The token comes in the address's fragment and lives in this module alone. Before it is sent anywhere, whoever answers
// must prove that he knows it, too: after the window's process has ended, somebody else's may sit on its port.

const QUIET_MS = 25000; // the server says something every 10 s
const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 8000;

let token = null;
let proved = false;

/** An answer that says no: what is wrong (`message`) and what to do (`remedy`). */
export class Refusal extends Error {
  constructor({ kind = "failed", message = "", remedy = "" } = {}) {
    super(message || "The window's server gave an answer that cannot be read.");
    this.kind = kind;
    this.remedy = remedy;
  }
}

/** Take the token out of the address, and the address out of the history. Says whether there is one. */
export function takeToken() {
  const found = /[#&]token=([^&]+)/.exec(location.hash);
  if (found) {
    token = decodeURIComponent(found[1]);
    proved = false;
    history.replaceState(null, "", location.pathname);
  }
  return token !== null;
}

const hex = (buffer) => Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");

async function proofOf(nonce) {
  const text = new TextEncoder();
  const key = await crypto.subtle.importKey("raw", text.encode(token), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  return hex(await crypto.subtle.sign("HMAC", key, text.encode(`sojourn window ${nonce}`)));
}

/** Make sure that whoever answers knows the token, without telling it. */
async function greet() {
  const nonce = hex(crypto.getRandomValues(new Uint8Array(16)));
  let answer = null;
  try {
    answer = await (await fetch(`/api/hello?nonce=${nonce}`, { cache: "no-store" })).json();
  } catch (error) {
    if (error instanceof TypeError) throw lost();
  }
  if (answer?.proof !== (await proofOf(nonce))) {
    throw new Refusal({
      kind: "stranger",
      message: "What answers here is not your window any more.",
      remedy: "Close this page, run `sojourn window` again and open the link that it prints.",
    });
  }
  proved = true;
}

function lost() {
  return new Refusal({
    kind: "lost",
    message: "The window's server does not answer.",
    remedy: "If `sojourn window` was stopped, run it again; otherwise this page comes back by itself.",
  });
}

async function send(path, options = {}) {
  if (!proved) await greet();
  let response;
  try {
    response = await fetch(path, {
      cache: "no-store",
      ...options,
      headers: { ...options.headers, Authorization: `Bearer ${token}` },
    });
  } catch (error) {
    proved = false;
    throw error.name === "AbortError" ? error : lost();
  }
  if (!response.ok) {
    let said = {};
    try {
      said = (await response.json()).error;
    } catch {
      // no JSON: the status is all there is
    }
    throw new Refusal(said);
  }
  return response;
}

/** Ask for something. */
export async function get(path) {
  return (await send(path)).json();
}

/** Order something; throws Refusal when it was refused. */
export async function post(path, body = {}) {
  const headers = { "Content-Type": "application/json" };
  return (await send(path, { method: "POST", headers, body: JSON.stringify(body) })).json();
}

/** Follow the events for as long as the page lives. `on(name, data)` for each; `state(refusal)` while there are none. */
export async function follow(on, state) {
  let wait = FIRST_WAIT_MS;
  for (;;) {
    try {
      proved = false;
      await read(on, () => {
        wait = FIRST_WAIT_MS;
      });
      state(lost());
    } catch (error) {
      const refusal = error instanceof Refusal ? error : lost();
      state(refusal);
      if (refusal.kind === "token" || refusal.kind === "stranger") return;
    }
    await pause(wait * (0.8 + Math.random() * 0.4));
    wait = Math.min(wait * 2, LONGEST_WAIT_MS);
  }
}

/** Wait; less where somebody comes back to the page, or the machine back to a network. */
function pause(milliseconds) {
  return new Promise((done) => {
    const end = () => {
      clearTimeout(timer);
      removeEventListener("focus", end);
      done();
    };
    const timer = setTimeout(end, milliseconds);
    addEventListener("focus", end);
  });
}

async function read(on, alive) {
  const abort = new AbortController();
  let timer = setTimeout(() => abort.abort(), QUIET_MS);
  try {
    const response = await send("/api/events", { signal: abort.signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => abort.abort(), QUIET_MS);
      rest = events(rest + value, (name, data) => {
        alive();
        on(name, data);
      });
    }
  } finally {
    clearTimeout(timer);
    abort.abort();
  }
}

/** Hand on each whole event of a text; return what is left of it. */
function events(text, on) {
  let from = 0;
  for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n", from)) {
    let name = "message";
    let data = "";
    for (const line of text.slice(from, end).split("\n")) {
      if (line.startsWith("event:")) name = line.slice(6).trim();
      else if (line.startsWith("data:")) data += line.slice(5).trimStart();
    }
    from = end + 2;
    if (data) on(name, JSON.parse(data));
  }
  return text.slice(from);
}
