// The live page: the picture, the questions, and beside it what happened last.

import { everything, handOver, networkName, useNetwork } from "./actions.js";
import { post } from "./api.js";
import { useKnown } from "./hooks.js";
import { openDialog, openMenu } from "./menu.js";
import { News } from "./news.js";
import { Picture, steerHelp } from "./picture.js";
import { Explained } from "./explained.js";
import { Questions } from "./questions.js";
import { Steering, subjectOf } from "./steer.js";
import { known } from "./store.js";
import { html, useEffect, useRef } from "./vendor/preact.js";

const open = () => [...known.networks.values()].filter((one) => ["up", "degraded"].includes(one.state));

/** The menu of a thread or of a flow. */
function threadMenu(grip, at) {
  const subject = subjectOf(grip);
  const here = grip.closest(".lane").dataset.network;
  const ordered = subject.app ? known.orders.applications[subject.app] : known.orders.flows[subject.flow];
  const to = (place) => () => handOver(subject, place);
  openMenu(at, subject.label, [
    { head: subject.label },
    ...open().map((one) => one.name === here
      ? { label: `Pin to ${networkName(one.name)}`, icon: "pin", checked: ordered === one.name || undefined, run: to(one.name) }
      : { label: `Move to ${networkName(one.name)}`, icon: "move", run: to(one.name) }),
    null,
    { label: "Hold: let it wait", icon: "hold", checked: ordered === "hold" || undefined, run: to("hold") },
    { label: "Block: refuse it", icon: "block", checked: ordered === "block" || undefined, run: to("block") },
    subject.app && { label: "Send direct", note: "new connections", icon: "direct", checked: ordered === "direct" || undefined, run: to("direct") },
    { label: "Back to the policies", icon: "policy", disabled: ordered === undefined && !subject.apart?.length, run: to("policy") },
    null,
    { label: "Why is it here?", icon: "why", run: () => openDialog(subject.label, Explained, { what: subject.app ?? (Array.isArray(subject.flow) ? subject.flow[0] : subject.flow) }) },
  ].filter((item) => item !== undefined && item !== false));
}

function laneMenu(lane, at) {
  const { network } = lane;
  const use = network.use ?? "on";
  openMenu(at, lane.label, [
    { head: lane.label },
    { label: "Move everything here", icon: "move", disabled: !lane.open, run: () => handOver(everything, network.name) },
    null,
    use === "on"
      ? { label: "Pause", note: "until you resume it", icon: "hold", run: () => useNetwork(network.name, "paused") }
      : { label: use === "excluded" ? "Include again" : "Resume", icon: "play", run: () => useNetwork(network.name, "on") },
    use !== "excluded" && { label: "Exclude", note: "remembered", icon: "block", run: () => useNetwork(network.name, "excluded") },
  ].filter(Boolean));
}

function Stage() {
  const ref = useRef(null);
  useEffect(() => {
    const picture = new Picture(ref.current, { lane: laneMenu });
    const steering = new Steering(picture, threadMenu);
    ref.current.after(steerHelp());
    return () => {
      steering.stop();
      picture.stop();
    };
  }, []);
  return html`<div class="lanes" ref=${ref} />`;
}

function Ends() {
  useKnown(["status", "role"]);
  const { status, about } = known;
  return html`<div class="ends" aria-hidden="true"><span>${about?.hostname ?? "this computer"}</span><i />
    <span>${status?.anchor ? `anchor ${status.anchor}` : "anchor"}</span></div>`;
}

/** What is missing for a picture, and how to get it. */
function Teach() {
  useKnown(["networks", "flows", "status"], 500);
  const { status } = known;
  if (known.networks.size === 0) {
    return html`<section class="teach"><h2>No network yet</h2>
      <p>Plug in a cable, join a Wi-Fi, or switch mobile data on. Each network that has an address appears here as a lane, and all of them are ready at once.</p></section>`;
  }
  if (status?.state !== "associated") {
    return html`<section class="teach"><h2>${status?.state === "connecting" ? "Looking for the anchor" : "Not associated"}</h2>
      <p>${status?.reason || `The anchor ${status?.anchor ?? ""} has not answered yet.`} <code>sojourn doctor</code> says what is missing.</p></section>`;
  }
  if (status.capturing === false) {
    return html`<section class="teach"><h2>Nothing is taken in</h2><p>Traffic goes as it would without Sojourn.
      <button type="button" class="link" onClick=${() => post("/api/up")}>Take it in again</button></p></section>`;
  }
  if (known.flows.size === 0) {
    return html`<section class="teach"><h2>Quiet</h2>
      <p>Open a page, a call or a shell: what it sends appears as a thread in the lane that carries it. Drag a thread to another lane to move it. Connections that were open before stay where they are.</p></section>`;
  }
  return null;
}

export function Live() {
  return html`<div class="live">
    <div class="stage"><${Teach} /><${Ends} /><${Stage} /></div>
    <aside class="side" aria-label="Questions and news"><${Questions} /><${News} /></aside>
  </div>`;
}
