"""Everything that a data path does, one packet at a time: the engine's slow path, and all of the in-memory fake.

Skeleton: attributes and signatures are as they will stay; behaviour follows.
"""

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from sojourn.datapath.epochs import EpochStore
from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.paft import Paft
from sojourn.upmt.commands import AnyCommand, OpenTunnel, Setup
from sojourn.upmt.events import AnyEvent
from sojourn.upmt.tunnel import Tunnel


class Io(Protocol):
    """What a forwarder needs of the world."""

    def send(
        self, tunnel: Tunnel, datagram: bytes, destination: Endpoint, *, fragment: bool = False, ecn: int = 0
    ) -> None:
        """Send one UDP payload from the tunnel's socket; `fragment`: without DF; `ecn`: the outer ECN field.

        A refusal of the system is reported to `Forwarder.send_failed`, not raised.
        """
        ...

    def write_inner(self, packet: bytes) -> None:
        """Give one inner IP packet, with full checksums, to the TUN."""
        ...

    def open_socket(self, command: OpenTunnel) -> None:
        """Host: open the UDP socket of a tunnel, in place of the one that it had."""
        ...

    def close_socket(self, tunnel: TunnelId) -> None:
        """Host: close the UDP socket of a tunnel."""
        ...

    def random(self, size: int) -> bytes:
        """Return bytes that nobody can guess."""
        ...


class Association:
    """A mobile host as its anchor's data path (or its own) knows it."""

    def __init__(self, association: AssociationId) -> None:
        self.id = association
        self.vipas: frozenset[bytes] = frozenset()
        """The packed Vipas, IPv4 and IPv6."""
        self.default: TunnelId | None = None
        self.last_heard: TunnelId | None = None
        """Anchor: the tunnel that an authentic packet of the host came on last."""


class Forwarder:
    """Rows, tunnels and associations of one data path, and what is done with each packet."""

    def __init__(self, io: Io, emit: Callable[[AnyEvent], None], epochs: EpochStore) -> None:
        self.io = io
        self.emit = emit
        self.epochs = epochs
        self.setup: Setup | None = None
        self.paft = Paft()
        self.tunnels: dict[TunnelId, Tunnel] = {}
        """Those in use: at the anchor a slot gets its Tunnel with its first packet."""
        self.associations: dict[AssociationId, Association] = {}
        self.by_vipa: dict[bytes, Association] = {}
        self.refused: Counter[str] = Counter()
        """Packets that were not let through, by reason. The engine counts in it, too."""
        self.totals: Counter[str] = Counter()
        """Further totals for `Counters`. The engine counts in it, too."""

    def handle(self, command: AnyCommand, now: float) -> None:
        """Carry out one order."""
        raise NotImplementedError

    def from_inner(self, packet: bytes, now: float) -> None:
        """Take one IP packet from the TUN: whole, at most the TUN's MTU, with full checksums."""
        raise NotImplementedError

    def from_outer(
        self, datagram: bytes, source: Endpoint, now: float, tunnel: TunnelId | None = None, ecn: int = 0
    ) -> None:
        """Take one UDP payload; `tunnel` = whose socket it came on (host only), `ecn` = its outer ECN field."""
        raise NotImplementedError

    def send_failed(self, tunnel: TunnelId, why: str, now: float, *, too_big: bool = False) -> None:
        """Note that the system refused to send, or to open the socket (`too_big`: EMSGSIZE)."""
        raise NotImplementedError

    def clock_jumped(self, gap: float, now: float) -> None:
        """Forgive `gap` seconds in which the process did not run: silence must not count them."""
        raise NotImplementedError

    def deadline(self) -> float | None:
        """When `tick` is wanted next."""
        raise NotImplementedError

    def tick(self, now: float) -> None:
        """Do what is due. Cheap when nothing is."""
        raise NotImplementedError
