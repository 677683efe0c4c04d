"""What is known of each network's path by measuring: round trip, loss either way, jitter, rate, and where it goes.

The data path reports five times a second while data passes. Two answers to "how much is lost" follow (loss.py):
`certain` is what a network in use is judged by, `likely` what it is judged by before it is used.

Time constants: those of loss.py, `MEAN_OVER` (mean, trend), `RATE_WINDOW` and `RATE_KEPT` (rate). No timers.
"""

from collections import deque
from typing import Final

from msgspec import Struct

from sojourn.control.loss import Loss
from sojourn.upmt.events import TunnelMeasured

MEAN_OVER: Final = 10.0
RATE_WINDOW: Final = 1.0
RATE_KEPT: Final = 600.0
"""Seconds for which a rate that was reached is believed."""
RATE_STEPS: Final = 10
DEGRADED_LOSS: Final = 0.05
"""Proved loss from which a network that works is called degraded..."""
WELL_AFTER: Final = 10.0
"""...until for so many seconds not half of it was proved."""
MAX_SAMPLES: Final = 256


class PathMeasured(Struct, frozen=True, tag=True):
    """A report of the data path about one network, by its name."""

    network: str
    measured: TunnelMeasured


class PathMeasures:
    """One network's."""

    def __init__(self) -> None:
        self.rtt: float | None = None
        self.jitter: float | None = None
        self.degraded = False
        self._loss = Loss()
        self._bad_at = float("-inf")
        self._bytes: deque[tuple[float, int, int]] = deque(maxlen=MAX_SAMPLES)
        self._best: dict[int, float] = {}
        """The best rate (bit/s) of each step of time."""

    def clear(self) -> None:
        """Forget loss, jitter and rate: the path is another one now. The round trip is the best guess there is."""
        self.jitter = None
        self._best.clear()
        self.interrupted()

    def interrupted(self) -> None:
        """Forget the counts: nothing passed for a while, and that was told as such."""
        self.degraded, self._bad_at = False, float("-inf")
        self._loss.clear()
        self._bytes.clear()

    def take(self, measured: TunnelMeasured, now: float) -> None:
        """Take in a report."""
        self.rtt = measured.srtt if measured.srtt is not None else self.rtt
        self.jitter = measured.jitter if measured.jitter is not None else self.jitter
        self._take_bytes(measured, now)
        if measured.counts is not None:
            self._loss.take(measured.counts, now)
        if (self.certain(now) or 0.0) >= (DEGRADED_LOSS / 2 if self.degraded else DEGRADED_LOSS):
            self._bad_at = now
        self.degraded = now - self._bad_at < WELL_AFTER

    def _take_bytes(self, measured: TunnelMeasured, now: float) -> None:
        last = self._bytes[-1] if self._bytes else None
        if last is not None and (measured.bytes_in < last[1] or measured.bytes_out < last[2]):
            self._bytes.clear()
        self._bytes.append((now, measured.bytes_in, measured.bytes_out))
        while len(self._bytes) > 2 and now - self._bytes[1][0] >= RATE_WINDOW:
            self._bytes.popleft()
        at, came, went = self._bytes[0]
        if now - at < RATE_WINDOW * 0.75:
            return
        rate = max(measured.bytes_in - came, measured.bytes_out - went) * 8 / (now - at)
        step = int(now * RATE_STEPS / RATE_KEPT)
        if rate > self._best.get(step, 0.0):
            self._best[step] = rate
        for old in [one for one in self._best if one < step - RATE_STEPS]:
            del self._best[old]

    # -- what follows

    def certain(self, now: float) -> float | None:
        """Return the loss, in the worse direction, that is proved; None when nothing is known."""
        return self._loss.certain(now)

    def likely(self, now: float) -> float | None:
        """Return the loss that is to be expected, in the worse direction; None when nothing is known."""
        mean, proved = self._loss.mean(MEAN_OVER, 0.0, now), self.certain(now)
        return proved if mean is None else max(mean, proved or 0.0)

    def loss(self, now: float) -> tuple[float | None, float | None]:
        """Return the mean loss of the last seconds on the way out and on the way in, for people."""
        found = self._loss.lost(MEAN_OVER, 0.0, now)
        if found is None:
            return None, None
        (lost, sent), (lost_in, sent_in) = found
        return (lost / sent if sent else None, lost_in / sent_in if sent_in else None)

    def rate(self, now: float) -> float | None:
        """Return the highest rate (bit/s, the better direction) that was carried lately."""
        step = int(now * RATE_STEPS / RATE_KEPT)
        return max((rate for at, rate in self._best.items() if at >= step - RATE_STEPS), default=None)

    def trend(self, now: float) -> float | None:
        """Return the change of loss a second over the last seconds; positive = getting worse."""
        half = MEAN_OVER / 2
        before, after = self._loss.mean(MEAN_OVER, half, now), self._loss.mean(half, 0.0, now)
        return None if before is None or after is None else (after - before) / half


class Measures:
    """All networks', by name."""

    def __init__(self) -> None:
        self._of: dict[str, PathMeasures] = {}

    def of(self, network: str) -> PathMeasures:
        """Return a network's; empty for one of which nothing is known."""
        found = self._of.get(network)
        return PathMeasures() if found is None else found

    def take(self, report: PathMeasured, now: float) -> None:
        """Take in a report."""
        self._of.setdefault(report.network, PathMeasures()).take(report.measured, now)

    def tested(self, network: str, rtt: float) -> None:
        """Note the round trip of a path's test."""
        self._of.setdefault(network, PathMeasures()).rtt = rtt

    def opened(self, network: str) -> None:
        """Note that the path is a new one."""
        if network in self._of:
            self._of[network].clear()

    def interrupted(self, network: str) -> None:
        """Note that the path was, or is, silent: what was lost then says nothing about what gets lost."""
        if network in self._of:
            self._of[network].interrupted()

    def gone(self, network: str) -> None:
        """Forget a network that went."""
        self._of.pop(network, None)
