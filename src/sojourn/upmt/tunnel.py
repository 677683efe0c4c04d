"""One tunnel's machine, at either end: keys, outer address, measurement, silence, keep-alive, path MTU.

Skeleton: attributes and signatures are as they will stay; behaviour follows.
"""

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.packet.frame import Frame
from sojourn.packet.seal import KeySchedule, Opened, Opener, Sealer
from sojourn.upmt.commands import Role
from sojourn.upmt.constants import KEEP_ALIVE
from sojourn.upmt.events import AnyEvent


class Epochs(Protocol):
    """Where used epochs are kept (datapath/epochs.py)."""

    def next(self, tunnel: TunnelId, at_least: int = 0) -> int: ...
    def reported(self, tunnel: TunnelId) -> int: ...
    def opened(self, tunnel: TunnelId) -> int: ...
    def note_reported(self, tunnel: TunnelId, epoch: int) -> None: ...
    def note_opened(self, tunnel: TunnelId, epoch: int) -> None: ...


class SendFrame(Struct, frozen=True):
    """Send a control frame in this tunnel."""

    frame: Frame
    destination: Endpoint
    pad_to: int = 0
    """Bytes of UDP payload to pad to; 0 = no padding."""
    fragment: bool = False
    """May go out without DF."""


class Tell(Struct, frozen=True):
    """Tell control."""

    event: AnyEvent


TunnelCommand = SendFrame | Tell


class Tunnel:
    """One path between a mobile host and its anchor. The engine's hot loop reads the attributes."""

    def __init__(
        self,
        tunnel: TunnelId,
        association: AssociationId,
        role: Role,
        *,
        sealed: bool,
        mtu: int,
        random: Callable[[int], bytes],
        wake: Callable[["Tunnel", float], None],
        keep_alive: float = KEEP_ALIVE,
    ) -> None:
        """`mtu`: the TUN's; `wake(tunnel, at)`: `tick` is wanted at `at`, which is earlier than was known."""
        self.id = tunnel
        self.association = association
        self.role = role
        self.sealed = sealed
        self.sealer: Sealer | None = None
        self.opener: Opener | None = None
        self.outer: Endpoint | None = None
        """Where packets go now."""
        self.credit: int | None = None
        """Bytes that may still go to an unproved address; None = proved. The hot loop leaves such a tunnel alone."""
        self.inner_mtu = mtu
        """The largest inner packet; larger ones are answered by ICMP."""
        self.may_fragment = True
        """Send without DF: the path is not measured yet, or carries less than 1280 inner bytes."""
        self.usable = False
        """Data may be sent: address and keys are there, and the tunnel is neither silent nor away."""
        self.fast = False
        """`usable`, and nothing is pending that needs the slow path: the hot loop may send and receive by itself
        (packets that come from `outer` and open under the opener's current epoch)."""
        self.packets_in = 0
        self.packets_out = 0
        self.bytes_in = 0
        self.bytes_out = 0

    def heard(self, now: float, packets: int, size: int) -> None:
        """Note authentic data packets, `size` bytes of UDP payload in all. Once a batch."""
        raise NotImplementedError

    def sent(self, now: float, packets: int, size: int) -> None:
        """Note data packets that went out, `size` bytes of UDP payload in all. Once a batch."""
        raise NotImplementedError

    def on_frame(
        self, frame: Frame, source: Endpoint, opened: Opened | None, size: int, now: float
    ) -> list[TunnelCommand]:
        """Take in an authentic control frame (`opened` is None in a plain tunnel)."""
        raise NotImplementedError

    def on_source(self, source: Endpoint, opened: Opened, size: int, now: float) -> list[TunnelCommand]:
        """Take note that an authentic packet came from elsewhere than `outer`. Called before `heard` or `on_frame`."""
        raise NotImplementedError

    def clock_jumped(self, gap: float, now: float) -> None:
        """Forgive `gap` seconds in which the process did not run."""
        raise NotImplementedError

    def deadline(self) -> float:
        """When `tick` is wanted next (infinite: never)."""
        raise NotImplementedError

    def tick(self, now: float) -> list[TunnelCommand]:
        """Do what is due. Early, late or twice is harmless."""
        raise NotImplementedError
