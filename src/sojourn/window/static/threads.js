// Flows put together as one sees them: an application in a lane is a thread. Sums are kept up to date flow by flow, so
// that an event costs what changed and not what there is.

export const NOWHERE = ""; // the lane of flows that are on no network: they wait, or are refused

const keyOf = (network, application) => `${network}\n${application ?? ""}`;

export class Threads {
  constructor() {
    this.groups = new Map(); // key -> {key, network, application, flows: Map, in, out, policies}
    this.places = new Map(); // flow id -> {group, in, out}
  }

  clear() {
    this.groups.clear();
    this.places.clear();
  }

  /** Take a flow as it is now. Returns the thread that it left, null if it stayed or is new. */
  take(flow) {
    const network = flow.network ?? NOWHERE;
    const key = keyOf(network, flow.application);
    let place = this.places.get(flow.id);
    let left = null;
    if (place === undefined || place.group.key !== key) {
      left = place?.group ?? null;
      if (place) this.#leave(flow.id, place);
      place = { group: this.#group(key, network, flow.application), in: 0, out: 0 };
      this.places.set(flow.id, place);
      place.group.changed = true;
    }
    const { group } = place;
    const inward = flow.in_bps ?? 0;
    const outward = flow.out_bps ?? 0;
    group.in += inward - place.in;
    group.out += outward - place.out;
    place.in = inward;
    place.out = outward;
    group.flows.set(flow.id, flow);
    return left;
  }

  /** A flow has ended. Returns its thread, null if it was not known. */
  end(id) {
    const place = this.places.get(id);
    if (place === undefined) return null;
    this.places.delete(id);
    this.#leave(id, place);
    return place.group;
  }

  #leave(id, { group, in: inward, out: outward }) {
    group.flows.delete(id);
    group.in -= inward;
    group.out -= outward;
    group.changed = true;
    if (group.flows.size === 0) {
      group.in = group.out = 0;
      this.groups.delete(group.key);
    }
  }

  #group(key, network, application) {
    let group = this.groups.get(key);
    if (group === undefined) {
      group = { key, network, application, flows: new Map(), in: 0, out: 0, changed: true };
      this.groups.set(key, group);
    }
    return group;
  }
}
