"""What hosts gain and pay as rendezvous nodes grow from 1 to 10,000: simulated over the real machines.

5,000 routers as in ROAM's simulation (GT-ITM's transit-stub form; 100, 10 and 1 ms a link); nodes, hosts and the store
stand at random ones. Hosts and nodes are `RendezvousClient` and `SharedNode` themselves, the store is the book that the
real one is tested against; only wires and clock are simulated. Each host knows 32 nodes at random, measures them and
prefers the nearest, as ROAM's hosts do. A put takes two round trips to the store, as it does there: the neighbourhood's
count, then the place.

    stretch     time of a packet between two hosts, once their nodes know all, over that of the direct way
    first_ms    of the first packet, which waits for a look-up          insert_ms   from insert to its answer
    look_ups    of the store for each first packet and each later one   writes      for each insert

JSON; the same from the same seed.
"""

import argparse
import heapq
import json
import random
import statistics
from collections.abc import Callable
from itertools import count
from typing import Any

from sojourn.i3.client import Arrived, Command, RendezvousClient, Transmit, TriggerStands, Wanted
from sojourn.i3.identifier import private
from sojourn.i3.node_shared import SharedNode
from sojourn.i3.orders import LookUpTrigger, Order, PutTrigger, TriggerDone, TriggersChanged, TriggersFound
from sojourn.i3.packet import Right
from sojourn.i3.shares import Rates
from sojourn.model import Endpoint
from sojourn.store.triggers import TriggerBook

TRANSIT, STUBS, STUB_ROUTERS = 20, 10, 25
TRANSIT_S, UPLINK_S, STUB_S = 0.100, 0.010, 0.001
SAMPLES = 32
SIZES = (1, 3, 10, 32, 100, 316, 1000, 3162, 10000)


class Internet:
    """Routers by number, and the time between any two."""

    def __init__(self, draw: random.Random) -> None:
        self.routers = TRANSIT * STUBS * STUB_ROUTERS
        self._core = _graph(draw, TRANSIT, TRANSIT, TRANSIT_S)
        self._stubs = [_graph(draw, STUB_ROUTERS, STUB_ROUTERS // 2, STUB_S) for _ in range(TRANSIT * STUBS)]

    def between(self, one: int, other: int) -> float:
        """Return seconds, one way."""
        (stub, here), (far, there) = divmod(one, STUB_ROUTERS), divmod(other, STUB_ROUTERS)
        if stub == far:
            return self._stubs[stub][here][there] or STUB_S / 2
        up = self._stubs[stub][here][0] + UPLINK_S + self._stubs[far][there][0] + UPLINK_S
        return up + self._core[stub // STUBS][far // STUBS]


def _graph(draw: random.Random, size: int, extra: int, link: float) -> list[list[float]]:
    """Return the times between all of a random connected graph: a tree, and some links more."""
    pairs = [(number, draw.randrange(number)) for number in range(1, size)]
    pairs += [(draw.randrange(size), draw.randrange(size)) for _ in range(extra)]
    times = [[0.0 if a == b else float("inf") for b in range(size)] for a in range(size)]
    for a, b in pairs:
        if a != b:
            times[a][b] = times[b][a] = link
    for k in range(size):
        for a in range(size):
            for b in range(size):
                times[a][b] = min(times[a][b], times[a][k] + times[k][b])
    return times


class World:
    """One run: nodes, hosts and a store over an Internet, under one clock."""

    def __init__(self, internet: Internet, nodes: int, draw: random.Random) -> None:
        self.internet, self.draw = internet, draw
        self.now, self._queue, self._turn = 1000.0, list[tuple[float, int, Callable[[], None]]](), count()
        self.book, self.store_at = TriggerBook(b"s" * 32), draw.randrange(internet.routers)
        self.at: dict[Endpoint, int] = {}
        self.nodes: dict[Endpoint, SharedNode] = {}
        self.hosts: dict[Endpoint, Host] = {}
        for number in range(nodes):
            place = Endpoint(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1801)
            self.at[place] = draw.randrange(internet.routers)
            node = self.nodes[place] = SharedNode(b"k" * 32, (place,), Rates(1e9, 1e9))
            node.told(self.book.facts(self.now), self.now)

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + seconds, next(self._turn), what))

    def settle(self) -> None:
        while self._queue:
            self.now, _, what = heapq.heappop(self._queue)
            what()

    def send(self, data: bytes, source: Endpoint, to: Endpoint) -> None:
        if to in self.at:
            self.later(self.internet.between(self.at[source], self.at[to]), lambda: self._arrive(data, source, to))

    def _arrive(self, data: bytes, source: Endpoint, to: Endpoint) -> None:
        node = self.nodes.get(to)
        if node is None:
            self.hosts[to].arrived(data, source)
            return
        for reply, where in node.handle(data, (source.address, source.port), self.now):
            self.send(reply, to, Endpoint(*where))
        self._carry_out(to, node)

    def _carry_out(self, place: Endpoint, node: SharedNode) -> None:
        orders, node.orders = node.orders, []
        way = self.internet.between(self.at[place], self.store_at)
        for order in orders:
            counting = 2 * way if isinstance(order, PutTrigger) else 0.0
            self.later(way + counting, lambda order=order: self._store(order, place, node, way))  # type: ignore[misc]

    def _store(self, order: Order, place: Endpoint, node: SharedNode, way: float) -> None:
        def changed(of: bytes) -> None:
            self.later(way, lambda: self._told(TriggersChanged(of), place, node))

        event: TriggersFound | TriggerDone
        if isinstance(order, LookUpTrigger):
            event = TriggersFound(order.place, self.book.look_up(order.place, self.now, changed))
        else:
            kept = (self.book.put if isinstance(order, PutTrigger) else self.book.take)(order, self.now, changed)  # type: ignore[arg-type]
            event = TriggerDone(order, kept.status, kept.records)
        self.later(way, lambda: self._told(event, place, node))

    def _told(self, event: TriggersFound | TriggerDone | TriggersChanged, place: Endpoint, node: SharedNode) -> None:
        for data, to in node.told(event, self.now):
            self.send(data, place, Endpoint(*to))
        self._carry_out(place, node)


class Host:
    """A client at a router."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.place = world, Endpoint(f"192.0.{number >> 8}.{number & 255}", 4000)
        world.at[self.place] = world.draw.randrange(world.internet.routers)
        world.hosts[self.place] = self
        known = world.draw.sample(list(world.nodes), min(SAMPLES, len(world.nodes)))
        self.client = RendezvousClient(known, world.draw.randbytes)
        secret = world.draw.randbytes(16)
        self.wanted = Wanted(private(secret, world.draw.randbytes(8)), Right.KEY, secret)
        self.stood = self.came = 0.0

    def arrived(self, data: bytes, source: Endpoint) -> None:
        self.do(self.client.received("net", data, source, self.world.now))

    def do(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Transmit):
                self.world.send(command.data, self.place, command.node)
            elif isinstance(command, Arrived):
                self.came = self.world.now
            elif isinstance(command, TriggerStands):
                self.stood = self.world.now

    def begin(self) -> float:
        """Find the nearest node and insert a trigger there; return the seconds that the insert took."""
        for _ in range(2):
            self.do(self.client.measure("net", self.world.now))
            self.world.settle()
        known = self.client.measured("net", 0.0, self.world.now)
        nearest = min(known, key=lambda node: (known[node], node))
        self.do(self.client.prefer(nearest, self.world.now))
        asked = self.world.now
        self.do(self.client.insert(self.wanted, "net", asked))
        self.world.settle()
        assert self.client.stands(self.wanted.identifier)
        return self.stood - asked

    def reach(self, other: "Host") -> float:
        """Send a packet; return the seconds until it is there."""
        sent = self.world.now
        self.do(self.client.send((other.wanted.identifier,), b"x", "net", sent))
        self.world.settle()
        assert other.came >= sent, "it never came"
        return other.came - sent


def run(internet: Internet, nodes: int, pairs: int, draws: int) -> dict[str, Any]:
    """Return the figures of `pairs` hosts for each of several draws of where the nodes stand."""
    inserts, firsts, stretches, direct_ms = [], [], [], []
    writes = first_looks = later_looks = 0
    for number in range(pairs * draws):
        if not number % pairs:
            world = World(internet, nodes, random.Random(number))
        a, b = Host(world, 2 * number), Host(world, 2 * number + 1)
        direct = internet.between(world.at[a.place], world.at[b.place])
        before = world.book.writes
        inserts += [host.begin() * 1000 for host in (a, b)]
        writes += world.book.writes - before
        before = world.book.reads
        firsts.append(a.reach(b) * 1000)
        first_looks += world.book.reads - before
        a.reach(b)  # asks again, with the nonce that it has got
        before = world.book.reads
        stretches.append(a.reach(b) / direct)
        later_looks += world.book.reads - before
        direct_ms.append(direct * 1000)
    stretches.sort()
    return {
        "nodes": nodes,
        "stretch_median": round(statistics.median(stretches), 3),
        "stretch_p90": round(stretches[len(stretches) * 9 // 10], 3),
        "direct_ms": round(statistics.median(direct_ms), 1),
        "first_ms": round(statistics.median(firsts), 1),
        "insert_ms": round(statistics.median(inserts), 1),
        "writes_per_insert": round(writes / (2 * pairs * draws), 2),
        "look_ups_per_first_packet": round(first_looks / (pairs * draws), 2),
        "look_ups_per_later_packet": round(later_looks / (pairs * draws), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=50)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--most", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    internet = Internet(random.Random(given.seed))
    rows = [run(internet, size, given.pairs, given.draws) for size in SIZES if size <= given.most]
    print(json.dumps({"bench": "rendezvous_nodes", "pairs": given.pairs * given.draws, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
