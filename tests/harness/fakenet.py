"""A small internet in memory: mobile hosts behind NATs, an anchor, and paths that delay, lose, reorder and die.

Everything is driven by one virtual clock and one seed: the same test gives the same packets. A
`Wire` joins one network of a host to the core; `Pair` is a host and its anchor on several wires, set
up with a secret, as control would.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

from sojourn.datapath.epochs import EpochStore
from sojourn.datapath.memory import MemoryDataPath
from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.packet.seal import Secret
from sojourn.upmt.commands import (
    AddAssociation,
    AnyCommand,
    InstallSecret,
    OpenTunnel,
    Restore,
    Role,
    SetDefault,
    Setup,
)
from sojourn.upmt.events import AnyEvent, Event
from tests.harness.clock import Clock

EventT = TypeVar("EventT", bound=Event)


@dataclass
class Wire:
    """One access network with its NAT. Rates are fractions, times seconds, `mtu` the outer packet's."""

    name: str
    address: str = "192.168.1.2"
    public: str = "198.51.100.1"
    delay: float = 0.01
    jitter: float = 0.0
    loss: float = 0.0
    reorder: bool = True
    """With jitter, later packets may overtake earlier ones."""
    mtu: int = 1500
    forgets_after: float = float("inf")
    """The NAT drops a mapping after so long without a packet from inside: inbound ones don't keep it."""
    dead_up: bool = False
    dead_down: bool = False
    next_port: int = 40000
    mappings: dict[int, tuple[Endpoint, float]] = field(default_factory=dict)
    """Public port -> (inside endpoint, when it last sent)."""
    passed_up: int = 0
    passed_down: int = 0
    refused_down: int = 0
    last_up: float = 0.0
    last_down: float = 0.0

    @property
    def dead(self) -> bool:
        """Nothing passes, and nobody is told."""
        return self.dead_up and self.dead_down

    @dead.setter
    def dead(self, dead: bool) -> None:
        self.dead_up = self.dead_down = dead

    def rebind(self) -> None:
        """Forget all mappings: what comes next from inside gets a new public port."""
        self.mappings.clear()

    def outside_of(self, inside: Endpoint, now: float) -> Endpoint:
        """Return the public endpoint of an inside one, mapping it where it is not."""
        for port, (mapped, used) in self.mappings.items():
            if mapped == inside and now - used <= self.forgets_after:
                self.mappings[port] = (inside, now)
                return Endpoint(self.public, port)
        self.next_port += 1
        self.mappings[self.next_port] = (inside, now)
        return Endpoint(self.public, self.next_port)

    def inside_of(self, port: int, now: float) -> Endpoint | None:
        """Return who a packet to a public port is for, None when the NAT doesn't know."""
        inside, used = self.mappings.get(port, (None, 0.0))
        return inside if inside is not None and now - used <= self.forgets_after else None


class FakeNet:
    """The queue of everything that is under way, and the clock."""

    def __init__(self, seed: int = 1) -> None:
        self.clock = Clock()
        self.random = Random(seed)
        self.nodes: list[MemoryDataPath] = []
        self.stopped: dict[int, tuple[float, list[Callable[[], None]]]] = {}
        """Nodes whose process does not run: by id, since when, and what waits in their sockets."""
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    @property
    def now(self) -> float:
        """The virtual time."""
        return self.clock.now

    def node(self, events: list[AnyEvent], epochs: EpochStore | None = None) -> MemoryDataPath:
        """Return a new data path whose time is this net's."""
        node = MemoryDataPath(self.clock, emit=events.append, epochs=epochs, random=self.random.randbytes)
        self.nodes.append(node)
        return node

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Do something at a virtual time."""
        self._count += 1
        heapq.heappush(self._queue, (when, self._count, what))

    def every(self, seconds: float, what: Callable[[], None], until: float) -> None:
        """Do something again and again, from now on."""

        def once() -> None:
            what()
            if self.now + seconds <= until:
                self.at(self.now + seconds, once)

        self.at(self.now, once)

    def run(self, seconds: float) -> None:
        """Let `seconds` pass."""
        end = self.now + seconds
        while True:
            awake = [node for node in self.nodes if id(node) not in self.stopped]
            deadlines = [node.forwarder.deadline() for node in awake]
            timer = min((due for due in deadlines if due is not None), default=end)
            # Sockets are read before timers are judged, as the engine does.
            packet = self._queue[0][0] if self._queue else float("inf")
            at = min(timer, packet)
            if at > end:
                break
            self.clock.now = max(self.now, at)
            if packet <= at:
                heapq.heappop(self._queue)[2]()
            else:
                for node in awake:
                    due = node.forwarder.deadline()
                    if due is not None and due <= self.now:
                        node.forwarder.tick(self.now)
        self.clock.now = end

    def stop(self, node: MemoryDataPath) -> None:
        """Take the processor away from a node: what arrives waits."""
        self.stopped[id(node)] = (self.now, [])

    def resume(self, node: MemoryDataPath) -> None:
        """Give it back: sockets first, then the clock, then timers."""
        since, waiting = self.stopped.pop(id(node))
        for deliver in waiting:
            deliver()
        node.forwarder.clock_jumped(self.now - since, self.now)

    def deliver(self, node: Callable[[], MemoryDataPath], when: float, what: Callable[[], None]) -> None:
        """Hand something to a node, as soon as it runs."""

        def arrive() -> None:
            stopped = self.stopped.get(id(node()))
            if stopped is not None:
                stopped[1].append(what)
            else:
                what()

        self.at(when, arrive)


ANCHOR = Endpoint("203.0.113.1", 1800)
VIPA = "10.201.0.2"
KEY = bytes(range(32))


class Pair:
    """A mobile host and its anchor, a tunnel on each of its wires, their data paths joined."""

    def __init__(
        self, *wires: Wire, seed: int = 1, secret: Secret | None = None, mtu: int = 1448, anchor: Endpoint = ANCHOR
    ) -> None:
        self.net = FakeNet(seed)
        self.wires = {TunnelId(0x10 + slot): wire for slot, wire in enumerate(wires)}
        self.host_events: list[AnyEvent] = []
        self.anchor_events: list[AnyEvent] = []
        self.epochs = {Role.HOST: EpochStore(), Role.ANCHOR: EpochStore()}
        """What outlives a data path that dies."""
        self.to_host: list[tuple[float, bytes]] = []
        """Inner packets that reached the host's TUN."""
        self.to_correspondent: list[tuple[float, bytes]] = []
        self.spy: Callable[[bytes, Endpoint], None] | None = None
        """Sees every datagram that reaches the anchor, with its source."""
        self._secret = secret or Secret(1, KEY, 1)
        self._mtu = mtu
        self.anchor_at = anchor
        self.host = self._start(Role.HOST)
        self.anchor = self._start(Role.ANCHOR)

    def _start(self, role: Role) -> MemoryDataPath:
        events = self.host_events if role is Role.HOST else self.anchor_events
        node = self.net.node(events, self.epochs[role])
        arrivals = self.to_host if role is Role.HOST else self.to_correspondent
        node.on_inner = lambda packet: arrivals.append((self.net.now, packet))
        node.on_outer = self._up if role is Role.HOST else self._down
        node.submit(
            [
                Setup(role, "sojourn0", self._mtu, inner_addresses=("10.201.0.1",)),
                AddAssociation(AssociationId(1), VIPA, None, tuple(self.wires)),
                InstallSecret(AssociationId(1), self._secret),
            ]
        )
        return node

    def restart(self, role: Role) -> MemoryDataPath:
        """Let a data path die and its successor take over what control knew of it."""
        died = self.host if role is Role.HOST else self.anchor
        self.net.nodes.remove(died)
        state = died.forwarder.state(self.now)
        died.on_outer = died.on_inner = None
        node = self._start(role)
        node.submit([*state.associations, *state.secrets, *state.tunnels, *state.defaults, *state.rules])
        node.submit([Restore(state.rows, state.outer)])
        if role is Role.HOST:
            self.host = node
        else:
            self.anchor = node
        return node

    @property
    def now(self) -> float:
        """The virtual time."""
        return self.net.now

    def open(self, *tunnels: TunnelId, default: bool = True) -> None:
        """Open tunnels at the host (all by default); the first is where its flows go."""
        tunnels = tunnels or tuple(self.wires)
        commands: list[AnyCommand] = []
        for tunnel in tunnels:
            wire = self.wires[tunnel]
            local = Endpoint(wire.address, 50000 + tunnel)
            commands.append(OpenTunnel(AssociationId(1), tunnel, wire.name, local, self.anchor_at))
        if default:
            commands.append(SetDefault(AssociationId(1), tunnels[0]))
        self.host.submit(commands)

    def run(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self.net.run(seconds)

    def host_told(self, kind: type[EventT]) -> list[EventT]:
        """Return the events of one kind that the host's data path emitted."""
        return [event for event in self.host_events if isinstance(event, kind)]

    def anchor_told(self, kind: type[EventT]) -> list[EventT]:
        """Return the events of one kind that the anchor's data path emitted."""
        return [event for event in self.anchor_events if isinstance(event, kind)]

    def inject(self, datagram: bytes, source: Endpoint) -> None:
        """Send the anchor a datagram from anywhere."""
        self.anchor.forwarder.from_outer(datagram, source, self.now)

    def _up(self, tunnel: TunnelId, datagram: bytes, destination: Endpoint, fragment: bool) -> None:
        wire, inside = self.wires[tunnel], self.host.sockets[tunnel].local
        source = wire.outside_of(inside, self.now)
        if destination != self.anchor_at or not self._passes(wire, datagram, fragment, wire.dead_up):
            return
        when = self._arrival(wire, wire.last_up)
        wire.last_up = when
        wire.passed_up += 1

        def arrive() -> None:
            if self.spy is not None:
                self.spy(datagram, source)
            self.anchor.forwarder.from_outer(datagram, source, self.now)

        self.net.deliver(lambda: self.anchor, when, arrive)

    def _down(self, _tunnel: TunnelId, datagram: bytes, destination: Endpoint, fragment: bool) -> None:
        wire = next((wire for wire in self.wires.values() if wire.public == destination.address), None)
        if wire is None or not self._passes(wire, datagram, fragment, wire.dead_down):
            return
        when = self._arrival(wire, wire.last_down)
        wire.last_down = when

        def arrive() -> None:
            inside = wire.inside_of(destination.port, self.now)
            socket = next((number for number, open_ in self.host.sockets.items() if open_.local == inside), None)
            if socket is None:
                wire.refused_down += 1
                return
            wire.passed_down += 1
            self.host.forwarder.from_outer(datagram, self.anchor_at, self.now, socket)

        self.net.deliver(lambda: self.host, when, arrive)

    def _passes(self, wire: Wire, datagram: bytes, fragment: bool, dead: bool) -> bool:
        lost = self.net.random.random() < wire.loss
        outer = len(datagram) + (48 if ":" in wire.address else 28)
        return not (dead or lost) and (fragment or outer <= wire.mtu)

    def _arrival(self, wire: Wire, last: float) -> float:
        when = self.now + wire.delay + self.net.random.random() * wire.jitter
        return when if wire.reorder else max(when, last)
