"""Two ROAM proxies and nodes in memory, under one clock; every datagram takes `delay` seconds on each leg.

a (wifi, cellular, ...) -- node -- b (wifi, cellular, ...)
"""

import heapq
import random as pseudo
from collections.abc import Callable
from itertools import count

from sojourn.errors import RemoteProtocolError
from sojourn.i3.client import Transmit
from sojourn.i3.node import RendezvousNode
from sojourn.i3.roam import RoamProxy
from sojourn.i3.roam_commands import Command, Deliver
from sojourn.i3.roam_sessions import PeerKnown, Settings
from sojourn.model import Endpoint
from sojourn.packet.ip import packed, udp_packet
from tests.i3.world import NODE, identity, seeded


class Roamer:
    """A proxy and where its paths come out."""

    def __init__(self, world: "RoamWorld", name: str, settings: Settings) -> None:
        self.world, self.name = world, name
        self.identity = identity(name)
        self.proxy = RoamProxy(self.identity, settings, seeded(name), 1.7e9)
        self.home = self.identity.address
        self.outer: dict[str, Endpoint] = {}
        self.told: list[Command] = []
        self.delivered: list[bytes] = []
        self.delivered_at: list[float] = []
        self.came: list[bytes] = []
        """What the node sent here."""

    def do(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Transmit):
                if command.path in self.outer:
                    self.world.send(command.data, self.outer[command.path], command.node)
            elif isinstance(command, Deliver):
                self.delivered.append(command.packet)
                self.delivered_at.append(self.world.now)
            else:
                self.told.append(command)

    def up(self, path: str, address: str, *, use: bool = True) -> None:
        """Get a network."""
        self.outer[path] = Endpoint(address, 4000)
        self.do(self.proxy.open_path(path, self.world.now))
        if use:
            self.use(path)

    def down(self, path: str) -> None:
        """Lose one."""
        self.outer.pop(path, None)
        self.do(self.proxy.close_path(path, self.world.now))

    def use(self, path: str) -> None:
        self.do(self.proxy.use(path, self.world.now))

    def send(self, to: "Roamer", text: str) -> None:
        """Send a datagram of an application."""
        packet = udp_packet(Endpoint(self.home, 7), Endpoint(to.home, 9), text.encode())
        try:
            self.do(self.proxy.ip_receive(packet, packed(to.home), self.world.now))
        except RemoteProtocolError as error:
            self.proxy.refused[error.reason] += 1

    def got(self) -> list[str]:
        """Return the texts that have come since the last call."""
        texts = [packet[48:].decode() for packet in self.delivered]
        self.delivered.clear()
        return texts

    def of(self, kind: type) -> list[Command]:
        return [one for one in self.told if isinstance(one, kind)]


class RoamWorld:
    """Everything there is."""

    def __init__(self, *, nodes: tuple[Endpoint, ...] = (NODE,), delay: float = 0.01, loss: float = 0.0) -> None:
        self.now = 1000.0
        self.delay, self.loss = delay, loss
        self.nodes = {place: RendezvousNode(seeded(str(place))(32), {place}) for place in nodes}
        self.farther: dict[Endpoint, float] = {}
        """What a leg to or from a node takes beyond `delay`."""
        self.roamers: list[Roamer] = []
        self.wire: list[tuple[bytes, Endpoint, Endpoint]] = []
        self.dead: set[Endpoint] = set()
        self._queue: list[tuple[float, int, bytes, Endpoint, Endpoint]] = []
        self._order = count()
        self._dice = pseudo.Random(1)
        self._at: list[tuple[float, int, Callable[[], None]]] = []

    def roamer(self, name: str, *peers: str, anyone: bool = False, keys: bool = True) -> Roamer:
        """Return a host that knows these peers."""
        known = []
        for peer in peers:
            theirs = identity(peer)
            signing, exchange = (theirs.keys.signing, theirs.keys.exchange) if keys else (b"", b"")
            known.append(PeerKnown(peer, theirs.address, signing, exchange))
        made = Roamer(self, name, Settings(tuple(self.nodes), tuple(known), anyone))
        self.roamers.append(made)
        return made

    def pair(self) -> tuple[Roamer, Roamer]:
        """Return two hosts that know each other, each on its Wi-Fi."""
        a, b = self.roamer("a", "b"), self.roamer("b", "a")
        a.up("wifi", "198.51.100.1")
        b.up("wifi", "198.51.100.2")
        self.run(0.5)
        return a, b

    def send(self, data: bytes, source: Endpoint, destination: Endpoint) -> None:
        self.wire.append((data, source, destination))
        if source in self.dead or self._dice.random() < self.loss:
            return
        takes = self.delay + self.farther.get(source, 0.0) + self.farther.get(destination, 0.0)
        heapq.heappush(self._queue, (self.now + takes, next(self._order), data, source, destination))

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Do something in so many seconds."""
        heapq.heappush(self._at, (self.now + when, next(self._order), what))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while True:
            times = [self._queue[0][0]] if self._queue else []
            times += [self._at[0][0]] if self._at else []
            times += [due for each in self.roamers if (due := each.proxy.deadline()) is not None]
            when = min(times, default=end)
            if when > end:
                break
            self.now = max(self.now, when)
            self._step()
        self.now = end

    def _step(self) -> None:
        while self._at and self._at[0][0] <= self.now:
            heapq.heappop(self._at)[2]()
        while self._queue and self._queue[0][0] <= self.now:
            _, _, data, source, destination = heapq.heappop(self._queue)
            self._arrive(data, source, destination)
        for each in self.roamers:
            due = each.proxy.deadline()
            if due is not None and due <= self.now:
                each.do(each.proxy.tick(self.now))
                after = each.proxy.deadline()
                assert after is None or after > self.now, f"{each.name}: a tick that leaves something due"
        for node in self.nodes.values():
            node.tick(self.now)

    def _arrive(self, data: bytes, source: Endpoint, destination: Endpoint) -> None:
        node = self.nodes.get(destination)
        if node is not None:
            for reply, to in node.handle(data, (source.address, source.port), self.now):
                self.send(reply, destination, Endpoint(*to))
            return
        for each in self.roamers:
            for path, outer in list(each.outer.items()):
                if outer == destination and outer not in self.dead:
                    each.came.append(data)
                    each.do(each.proxy.received(path, data, source, self.now))
