"""The in-memory data path: the same forwarder, between lists instead of sockets. The fake that ships beside its interface.

Skeleton: attributes and signatures are as they will stay; behaviour follows.
"""

from collections.abc import Callable, Sequence

from sojourn.datapath.epochs import EpochStore
from sojourn.datapath.forwarder import Forwarder
from sojourn.model import Endpoint, TunnelId
from sojourn.upmt.commands import AnyCommand, OpenTunnel
from sojourn.upmt.events import AnyEvent
from sojourn.upmt.tunnel import Tunnel


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
        self.forwarder = Forwarder(self, emit or self.events.append, epochs or EpochStore())

    def submit(self, commands: Sequence[AnyCommand]) -> None:
        """Carry out orders, now."""
        for command in commands:
            self.forwarder.handle(command, self.clock())

    def send(
        self, tunnel: Tunnel, datagram: bytes, destination: Endpoint, *, fragment: bool = False, ecn: int = 0
    ) -> None:
        raise NotImplementedError

    def write_inner(self, packet: bytes) -> None:
        raise NotImplementedError

    def open_socket(self, command: OpenTunnel) -> None:
        raise NotImplementedError

    def close_socket(self, tunnel: TunnelId) -> None:
        raise NotImplementedError

    def random(self, size: int) -> bytes:
        raise NotImplementedError
