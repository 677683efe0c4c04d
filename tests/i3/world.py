"""Nodes and hosts in memory, under one clock: datagrams arrive in order and at once, unless a wire is cut.

host (path "wifi", "cellular", ...) -- its NAT, if it has one -- node
"""

import hashlib
from collections import deque
from collections.abc import Callable

from sojourn.i3.client import (
    Arrived,
    Command,
    RendezvousClient,
    Transmit,
    TriggerStands,
    Wanted,
)
from sojourn.i3.home import HomeIdentity
from sojourn.i3.identifier import Identifier, private
from sojourn.i3.node import RendezvousNode
from sojourn.i3.packet import Right
from sojourn.i3.shares import Rates
from sojourn.model import Endpoint

NODE = Endpoint("203.0.113.9", 5070)


def seeded(seed: str) -> Callable[[int], bytes]:
    """Return random bytes that are the same in each run."""
    state = hashlib.sha256(seed.encode()).digest()

    def draw(count: int) -> bytes:
        nonlocal state
        state = hashlib.sha256(state).digest()
        return state[:count]

    return draw


def identity(name: str) -> HomeIdentity:
    """Return a host's keys."""
    return HomeIdentity(hashlib.sha256(f"sign {name}".encode()).digest(), hashlib.sha256(name.encode()).digest())


def own(name: str, suffix: bytes = bytes(8)) -> Wanted:
    """Return a private trigger whose secret is made of a name."""
    secret = hashlib.sha256(name.encode()).digest()
    return Wanted(private(secret[:16], secret[16:24], suffix), Right.KEY, secret[:16])


class Host:
    """A client and where its paths come out."""

    def __init__(self, world: "World", name: str, paths: dict[str, Endpoint]) -> None:
        self.world, self.name = world, name
        self.identity = identity(name)
        self.client = RendezvousClient(list(world.nodes), seeded(name), self.identity)
        self.paths = paths
        """Path -> the outer address that the node sees."""
        self.told: list[Command] = []
        world.hosts.append(self)

    def do(self, commands: list[Command]) -> None:
        """Carry out what the client says."""
        for command in commands:
            if isinstance(command, Transmit):
                if command.path in self.paths:
                    self.world.put(command.data, self.paths[command.path], command.node)
            else:
                self.told.append(command)

    def insert(self, wanted: Wanted, path: str) -> None:
        self.do(self.client.insert(wanted, path, self.world.now))
        self.world.settle()

    def remove(self, wanted: Wanted, path: str, via: str | None = None) -> None:
        self.do(self.client.remove(wanted, path, self.world.now, via))
        self.world.settle()

    def send(self, to: Identifier | tuple[Identifier, ...], payload: bytes, path: str) -> None:
        stack = to if isinstance(to, tuple) else (to,)
        self.do(self.client.send(stack, payload, path, self.world.now))
        self.world.settle()

    def got(self) -> list[bytes]:
        """Return the payloads that have come since the last call."""
        came = [one.payload for one in self.told if isinstance(one, Arrived)]
        self.told = [one for one in self.told if not isinstance(one, Arrived)]
        return came

    def standing(self) -> set[tuple[Identifier, str]]:
        """Return what was told to stand."""
        return {(one.identifier, one.path) for one in self.told if isinstance(one, TriggerStands)}


class World:
    """Everything there is."""

    def __init__(self, *nodes: Endpoint, rates: Rates | None = None, max_triggers: int = 1000) -> None:
        self.now = 1000.0
        places = nodes or (NODE,)
        self.nodes = {place: self.make(place, rates, max_triggers) for place in places}
        self.hosts: list[Host] = []
        self.cut: set[Endpoint] = set()
        """Nodes and outer addresses that nothing reaches."""
        self.wire: list[tuple[bytes, Endpoint, Endpoint]] = []
        """All that was sent: datagram, source, destination."""
        self._queue: deque[tuple[bytes, Endpoint, Endpoint]] = deque()

    def make(self, place: Endpoint, rates: Rates | None, max_triggers: int) -> RendezvousNode:
        """Return the node of a place."""
        return RendezvousNode(seeded(str(place))(32), {place}, rates, max_triggers)

    def after(self, place: Endpoint) -> None:
        """Do what is to be done when a node has had a datagram."""

    @property
    def node(self) -> RendezvousNode:
        """The first node."""
        return next(iter(self.nodes.values()))

    def host(self, name: str, **paths: str) -> Host:
        """Return a host whose paths come out at these addresses (port 4000)."""
        return Host(self, name, {path: Endpoint(address, 4000) for path, address in paths.items()})

    def put(self, data: bytes, source: Endpoint, destination: Endpoint) -> None:
        """Put a datagram on the wire."""
        self.wire.append((data, source, destination))
        if source not in self.cut and destination not in self.cut:
            self._queue.append((data, source, destination))

    def settle(self) -> None:
        """Deliver until nothing is under way."""
        while self._queue:
            data, source, destination = self._queue.popleft()
            node = self.nodes.get(destination)
            if node is not None:
                for reply, to in node.handle(data, (source.address, source.port), self.now):
                    self.put(reply, destination, Endpoint(*to))
                self.after(destination)
                continue
            for host in self.hosts:
                for path, outer in host.paths.items():
                    if outer == destination:
                        host.do(host.client.received(path, data, source, self.now))

    def run(self, seconds: float, step: float = 0.25) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(self.now + step, end)
            for node in self.nodes.values():
                node.tick(self.now)
            for host in self.hosts:
                due = host.client.deadline()
                if due is not None and due <= self.now:
                    host.do(host.client.tick(self.now))
            self.settle()
