"""The epochs of one tunnel: when a sender steps, how far it may, and when old keys go (DESIGN §3.2, Keys).

a host seals with a new secret at once; an anchor once it has opened a packet sealed with it
a sender steps after 2^23 packets, after 120 s of sending data or an hour of control frames alone, and at every start
it stays within two epochs of the newest that its peer has reported; beyond, only a new secret helps
a receiver keeps the keys of the epoch before for 3 RTT
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from sojourn.model import TunnelId
from sojourn.packet.seal import (
    EPOCHS_AHEAD,
    SECONDS_PER_EPOCH,
    SECONDS_PER_IDLE_EPOCH,
    Direction,
    KeySchedule,
    Opened,
    Opener,
    Sealer,
)
from sojourn.upmt.commands import Role
from sojourn.upmt.constants import SECRET_NEEDED_EVERY

_NEVER = float("inf")


class Epochs(Protocol):
    """Where epochs are kept so that none is used twice (datapath/epochs.py)."""

    def next(self, tunnel: TunnelId, at_least: int = 0) -> int:
        """Return an epoch never used before; it is stored when this returns."""
        ...

    def used(self, tunnel: TunnelId) -> int:
        """Return the newest epoch given out, 0 for none."""
        ...

    def reported(self, tunnel: TunnelId) -> int:
        """Return the newest of our epochs that the peer has opened, 0 for none."""
        ...

    def opened(self, tunnel: TunnelId) -> tuple[int, int]:
        """Return the newest epoch of the peer that we have opened, 0 for none, and the highest counter in it or -1."""
        ...

    def note_reported(self, tunnel: TunnelId, epoch: int) -> None:
        """Remember what the peer reported."""
        ...

    def note_opened(self, tunnel: TunnelId, epoch: int, counter: int) -> None:
        """Remember how far the peer has come."""
        ...


class Ends(NamedTuple):
    """Who seals and opens: a data path may have its own (datapath/core_keys.py)."""

    sealer: Callable[[KeySchedule, TunnelId, Direction, int], Sealer] = Sealer
    opener: Callable[[KeySchedule, TunnelId, Direction, int, int], Opener] = Opener
    changed: Callable[[TunnelId], None] | None = None
    """Called when an attribute of the tunnel may have changed, for a data path that keeps a copy of them."""


class TunnelKeys:
    """Sealer and opener of one tunnel, and the rules of their epochs."""

    def __init__(
        self, tunnel: TunnelId, role: Role, schedule: KeySchedule, epochs: Epochs, ends: Ends | None = None
    ) -> None:
        out, into = Direction.HOST_TO_ANCHOR, Direction.ANCHOR_TO_HOST
        if role is Role.ANCHOR:
            out, into = into, out
        self.tunnel = tunnel
        self.schedule = schedule
        self._ends = ends or Ends()
        self.sealer: Sealer | None = None
        opened, seen = epochs.opened(tunnel)
        first = schedule.secrets[0].from_epoch
        self.opener = self._ends.opener(schedule, tunnel, into, max(opened, first), seen if opened >= first else -1)
        self.opener.on_new_epoch = self._on_new_epoch
        self.opened_new_epoch = False
        """The opener has stepped since the last `settle`."""
        self.step_at = _NEVER
        """When the present epoch has been used for data for its 120 s; the hot loop compares."""
        self.rest_at = _NEVER
        """When it ends at the latest, if only control frames use it."""
        self.drop_at = _NEVER
        """When the keys of the opener's previous epoch go."""
        self._role = role
        self._out = out
        self._epochs = epochs
        self._needed_at = float("-inf")
        self._heard_of = 0
        """What the peer has reported last: each of its frames says it again."""

    def begin(self, now: float) -> bool:
        """Make the sealer ready, if the rules allow one; say whether a new secret is needed first."""
        if self.sealer is not None:
            return False
        return self._step(now, self._at_least())

    def installed(self, now: float) -> bool:
        """Take note of a new secret in the schedule; say whether one is needed still."""
        self.opener.refresh()
        if self._role is Role.ANCHOR:
            return False
        return self._step(now, self.schedule.newest().from_epoch)

    def adopt(self, now: float) -> bool:
        """Anchor: seal with the newest secret now, since the host does."""
        newest = self.schedule.newest()
        if self.sealer is None or self.sealer.generation == newest.generation:
            return False
        return self._step(now, newest.from_epoch)

    def in_use(self, opened: Opened) -> bool:
        """Say whether a packet was sealed with the newest secret."""
        return opened.epoch >= self.schedule.newest().from_epoch

    def sent(self, now: float) -> bool:
        """Note that data was sealed; step where it is time. Say whether a new secret is needed."""
        if self.sealer is not None and self.step_at == _NEVER:
            self.step_at = now + SECONDS_PER_EPOCH
        return self.frame_sent(now)

    def frame_sent(self, now: float) -> bool:
        """Note that anything was sealed; step where it is time. Say whether a new secret is needed."""
        if self.sealer is None:
            return False
        if self.rest_at == _NEVER:
            self.rest_at = now + SECONDS_PER_IDLE_EPOCH
        if now < self.step_at and now < self.rest_at and self.sealer.counter < self.sealer.step_after:
            return False
        return self._step(now, 0)

    def frame_may_step(self, now: float) -> bool:
        """Say whether `frame_sent` has to be asked, for a frame that the core has sealed; of packets the core knows."""
        return now >= self.step_at or now >= self.rest_at or self.rest_at == _NEVER

    def reported(self, epoch: int) -> None:
        """Take in which of our epochs the peer has opened."""
        if epoch == self._heard_of or self.sealer is None or epoch > self.sealer.epoch:
            return
        if epoch > self._newest_reported():
            self._epochs.note_reported(self.tunnel, epoch)
        self._heard_of = epoch

    def may_seal(self) -> bool:
        """Say whether the present epoch may seal another packet."""
        return self.sealer is not None and not self.sealer.exhausted()

    def opened(self, upto: tuple[int, int] | None = None) -> None:
        """Store how far the peer has come, so that a restart does not take old packets for new ones. Once a batch.

        `upto`: the newest epoch and its highest counter, where the caller knows them; else the opener is asked.
        """
        epoch, counter = upto or (self.opener.current, self.opener.top())
        self._epochs.note_opened(self.tunnel, epoch, counter)

    def settle(self, now: float, old_keys_for: float) -> None:
        """After the opener has stepped: see the old keys off."""
        self.opened_new_epoch = False
        self.drop_at = now + old_keys_for

    def tick(self, now: float) -> None:
        """Drop the keys of the previous epoch when their time has come."""
        if now >= self.drop_at:
            self.drop_at = _NEVER
            self.opener.drop_previous()

    def _on_new_epoch(self, _epoch: int) -> None:
        self.opened_new_epoch = True

    def _at_least(self) -> int:
        newest = self.schedule.newest()
        if self._role is Role.HOST or self.opener.current >= newest.from_epoch:
            return newest.from_epoch
        return self.schedule.secrets[0].from_epoch

    def _newest_reported(self) -> int:
        """Return what the peer has opened; of a secret that it has, it opens the first epoch without having said so."""
        governing = self.schedule.at(self.sealer.epoch) if self.sealer is not None else None
        return max(self._epochs.reported(self.tunnel), governing.from_epoch if governing is not None else 0)

    def _step(self, now: float, at_least: int) -> bool:
        epoch = max(self._epochs.used(self.tunnel) + 1, at_least)
        secret = self.schedule.at(epoch)
        if secret is None:
            return self._ask_for_secret(now)
        if epoch > max(self._epochs.reported(self.tunnel), secret.from_epoch) + EPOCHS_AHEAD:
            return self._ask_for_secret(now)
        if self._role is Role.ANCHOR and not at_least and self.sealer and secret.generation != self.sealer.generation:
            return self._ask_for_secret(now)  # The host has not sealed with it yet.
        epoch = self._epochs.next(self.tunnel, at_least)
        if self.sealer is None:
            self.sealer = self._ends.sealer(self.schedule, self.tunnel, self._out, epoch)
        else:
            self.sealer.step(epoch)
        self.step_at = self.rest_at = _NEVER
        return False

    def _ask_for_secret(self, now: float) -> bool:
        if now < self._needed_at + SECRET_NEEDED_EVERY:
            return False
        self._needed_at = now
        return True
