"""The in-memory data path: the same forwarder between lists instead of sockets, the fake beside its interface.

Nothing here waits: its user calls `tick` when `forwarder.deadline()` has come, and hands packets in
by `forwarder.from_inner` and `forwarder.from_outer`.
"""

from collections.abc import Callable, Sequence

from sojourn.datapath.epochs import EpochStore
from sojourn.datapath.forwarder import Forwarder
from sojourn.model import Endpoint, TunnelId
from sojourn.upmt.commands import AnyCommand, OpenTunnel
from sojourn.upmt.events import AnyEvent
from sojourn.upmt.peer_commands import OpenRendezvous
from sojourn.upmt.tunnel import Tunnel

OUTSIDE = TunnelId(0)
"""Stands for no tunnel: indices are never 0."""


class MemoryDataPath:
    """A `DataPath` whose clock, network and TUN are its user's (tests/harness/fakenet.py joins several)."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        emit: Callable[[AnyEvent], None] | None = None,
        epochs: EpochStore | None = None,
        random: Callable[[int], bytes] | None = None,
    ) -> None:
        self.clock = clock
        self.events: list[AnyEvent] = []
        """What was emitted, unless `emit` took it."""
        self.delivered: list[bytes] = []
        """Inner packets that went to the TUN, unless `on_inner` takes them."""
        self.outbox: list[tuple[TunnelId, bytes, Endpoint]] = []
        """Datagrams sent, unless `on_outer` takes them."""
        self.on_inner: Callable[[bytes], None] | None = None
        self.on_outer: Callable[[TunnelId, bytes, Endpoint, bool], None] | None = None
        """Called with (tunnel, datagram, destination, fragment)."""
        self.sockets: dict[TunnelId, OpenTunnel] = {}
        """Host: the sockets that are open now."""
        self.rendezvous: dict[str, OpenRendezvous] = {}
        """Host: the networks that have a socket for peers."""
        self.to_nodes: list[tuple[str, bytes, Endpoint]] = []
        """What was sent to rendezvous nodes, unless `on_rendezvous` takes it."""
        self.on_rendezvous: Callable[[str, bytes, Endpoint], None] | None = None
        self._random = random
        self._counted = 0
        self.forwarder = Forwarder(self, emit or self.events.append, epochs or EpochStore())

    def submit(self, commands: Sequence[AnyCommand]) -> None:
        """Carry out orders, now."""
        for command in commands:
            self.forwarder.handle(command, self.clock())

    def send(
        self, tunnel: Tunnel, datagram: bytes, destination: Endpoint, *, fragment: bool = False, ecn: int = 0
    ) -> None:
        """Put a datagram into the outbox, or hand it to `on_outer`."""
        if self.on_outer is not None:
            self.on_outer(tunnel.id, datagram, destination, fragment)
        else:
            self.outbox.append((tunnel.id, datagram, destination))

    def write_inner(self, packet: bytes) -> None:
        """Put an inner packet where the TUN would be."""
        if self.on_inner is not None:
            self.on_inner(packet)
        else:
            self.delivered.append(packet)

    def open_socket(self, command: OpenTunnel) -> None:
        """Note the socket that a tunnel now has."""
        self.sockets[command.tunnel] = command

    def close_socket(self, tunnel: TunnelId) -> None:
        """Note that a tunnel has no socket any more."""
        self.sockets.pop(tunnel, None)

    def keep_way_back(self, source: Endpoint) -> None:
        """Do nothing: there is one way to every address here."""

    def send_outside(self, datagram: bytes, destination: Endpoint) -> None:
        """Send a datagram that belongs to no tunnel: its tunnel is `OUTSIDE`."""
        if self.on_outer is not None:
            self.on_outer(OUTSIDE, datagram, destination, True)
        else:
            self.outbox.append((OUTSIDE, datagram, destination))

    def open_rendezvous(self, command: OpenRendezvous) -> str:
        """Note the socket that a network now has for peers."""
        self.rendezvous[command.network] = command
        return ""

    def rendezvous_local(self, network: str) -> Endpoint | None:
        """Return the address that the socket would have: its port is the network's only one."""
        command = self.rendezvous.get(network)
        return Endpoint(command.local.address, command.local.port or 4000) if command is not None else None

    def close_rendezvous(self, network: str) -> None:
        """Note that a network has none any more."""
        self.rendezvous.pop(network, None)

    def send_rendezvous(self, network: str, datagram: bytes, node: Endpoint, *, whole: bool = False) -> None:
        """Put a datagram into `to_nodes`, or hand it to `on_rendezvous`."""
        if self.on_rendezvous is not None:
            self.on_rendezvous(network, datagram, node)
        else:
            self.to_nodes.append((network, datagram, node))

    def random(self, size: int) -> bytes:
        """Return bytes from the source that the user gave, or count up."""
        if self._random is not None:
            return self._random(size)
        self._counted += 1
        return self._counted.to_bytes(size)
