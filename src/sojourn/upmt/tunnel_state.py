"""What is true of one tunnel now: its parts, and the attributes that the data path reads packet by packet.

Whatever changes a part calls `_changed`, the one place where `outer`, `credit`, `usable`, `fast`,
`inner_mtu` and the timer are derived.
"""

from collections.abc import Callable

from msgspec import Struct

from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.packet.frame import Frame
from sojourn.packet.path_mtu import OUTER_UDP_IPV4, OUTER_UDP_IPV6, MtuSearch
from sojourn.packet.seal import OVERHEAD_BYTES, Opener, Sealer
from sojourn.upmt.commands import Role
from sojourn.upmt.constants import KEEP_ALIVE, OLD_KEYS_AT_LEAST, PROOF_RTTS
from sojourn.upmt.events import AnyEvent, SecretNeeded, TunnelMeasured, TunnelRecovered
from sojourn.upmt.tunnel_alive import AnchorLiveness, HostLiveness, Life
from sojourn.upmt.tunnel_allowance import Allowance
from sojourn.upmt.tunnel_keys import Ends, TunnelKeys
from sojourn.upmt.tunnel_measure import Jitter, LossWindow, Probes, Rtt
from sojourn.upmt.tunnel_path import OuterPath

_NEVER = float("inf")


class SendFrame(Struct, frozen=True):
    """Send a control frame in this tunnel."""

    frame: Frame
    destination: Endpoint
    pad_to: int = 0
    """Bytes of UDP payload to pad to; 0 = no padding."""
    fragment: bool = True
    """May go out without DF. Only a path MTU probe must not."""


class Tell(Struct, frozen=True):
    """Tell control."""

    event: AnyEvent


class Ready(Struct, frozen=True):
    """The tunnel can be used again: send what waits for it."""


TunnelCommand = SendFrame | Tell | Ready


class TunnelState:
    """The parts of a tunnel, and what follows from them. The engine's hot loop reads the attributes."""

    def __init__(
        self,
        tunnel: TunnelId,
        association: AssociationId,
        role: Role,
        *,
        sealed: bool,
        mtu: int,
        random: Callable[[int], bytes],
        wake: Callable[[TunnelId, float], None],
        keep_alive: float = KEEP_ALIVE,
        ends: Ends | None = None,
    ) -> None:
        """`mtu`: the TUN's; `wake(id, at)`: `tick` is wanted at `at`, which is earlier than was known."""
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
        """`usable` and proved: the hot loop may send and receive by itself (packets that come from `outer`
        and open in the opener's current epoch)."""
        self.packets_in = 0
        self.packets_out = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.armed = _NEVER
        """The earliest time for which `wake` was called and `tick` was not."""
        self.rtt = Rtt()
        self.jitter = Jitter()
        self.losses = LossWindow()
        self.probes, self.allowance = Probes(), Allowance()
        self.live: HostLiveness | AnchorLiveness = (
            HostLiveness(self.rtt, self.probes, keep_alive)
            if role is Role.HOST
            else AnchorLiveness(self.rtt, self.probes)
        )
        self.path = OuterPath(random)
        self.keys: TunnelKeys | None = None
        self._mtu = mtu
        self._search = MtuSearch(mtu, OUTER_UDP_IPV4, OVERHEAD_BYTES if sealed else 0)
        self._wake = wake
        self._ends = ends or Ends()
        self._pending: list[TunnelCommand] = []
        self._told_epoch_at = float("-inf")
        self._closed = False
        self._failed = False
        self._report = False
        """What is measured is to be told with the next answer."""

    def spend(self, size: int) -> bool:
        """Say whether `size` bytes may go to the outer address now; charge them where it is unproved."""
        allowed = self.path.spend(size)
        self.credit = self.path.credit
        return allowed

    def measured(self) -> TunnelMeasured:
        """Return what is known of the path."""
        loss_out, loss_in = self.losses.loss()
        return TunnelMeasured(
            self.id, self.rtt.srtt, self.rtt.rttvar, self.jitter.value, loss_out, loss_in, self.inner_mtu,
            self.bytes_in, self.bytes_out, self.packets_in, self.packets_out, self.outer,
            self.live.life is Life.SILENT, self.losses.counts(),
        )  # fmt: skip

    def deadline(self) -> float:
        """When `tick` is wanted next (infinite: never)."""
        return self.armed

    # Keeping the attributes in step.

    def _heard(self, now: float) -> None:
        """Note anything authentic; `_changed` is still to be called."""
        if self.keys is not None:
            self._settle_keys(self.keys, now)
        if isinstance(self.live, AnchorLiveness) and self.live.answered(now) is Life.SILENT:
            self._pending.append(Tell(TunnelRecovered(self.id)))

    def _settle_keys(self, keys: TunnelKeys, now: float, opened: tuple[int, int] | None = None) -> None:
        keys.opened(opened)
        if keys.opened_new_epoch:
            keys.settle(now, max(PROOF_RTTS * self.rtt.late_after(), OLD_KEYS_AT_LEAST))
            self._wake_at(keys.drop_at)

    def _after_keys(self, needed: bool) -> None:
        if self.keys is not None:
            self.sealer = self.keys.sealer
        if needed:
            self._pending.append(Tell(SecretNeeded(self.association)))
            self._wake_at(float("-inf"))

    def _new_path(self, now: float) -> None:
        """Forget what was measured of another path; its delay is kept as the best guess there is."""
        self.losses.clear()
        self.probes.forgive()
        self.jitter = Jitter()
        remote = self.path.current
        overhead = OUTER_UDP_IPV6 if remote is not None and ":" in remote.address else OUTER_UDP_IPV4
        self._search = MtuSearch(self._mtu, overhead, OVERHEAD_BYTES if self.sealed else 0)

    def _changed(self, now: float) -> None:
        was = self.usable
        self.outer, self.credit = self.path.current, self.path.credit
        self.inner_mtu, self.may_fragment = self._search.inner_mtu(), self._search.may_fragment()
        self.usable = (
            self.outer is not None
            and not self._closed
            and self.live.life in (Life.UP, Life.TESTING)
            and self._can_seal()
        )
        self.fast = self.usable and self.credit is None
        if self.usable and not was:
            self._pending.append(Ready())
        self._rearm(now)
        if self._ends.changed is not None:
            self._ends.changed(self.id)

    def _rearm(self, now: float) -> None:
        at = _NEVER
        if self.outer is not None and not self._closed and self._can_seal():
            asks = min(self.live.due, self._search.due if self._search_may_run() else _NEVER)
            at = min(max(asks, self.allowance.ready_at(now)), self.path.due)
        if self.keys is not None:
            at = min(at, self.keys.drop_at)
        self._wake_at(now if self._pending else at)

    def _wake_at(self, at: float) -> None:
        if at < self.armed:
            self.armed = at
            self._wake(self.id, at)

    def _search_may_run(self) -> bool:
        return self.live.life is Life.UP and self.credit is None

    def _can_seal(self) -> bool:
        return not self.sealed or (self.keys is not None and self.keys.may_seal())

    def _opened(self) -> int:
        return self.opener.current if self.opener is not None else 0

    def _proof_rtt(self) -> float:
        return max(self.rtt.guess(), self.rtt.late_after() / 2)
