"""What is known of each network's path by measuring: round trip, loss either way, jitter, rate, and where it goes.

The data path reports packet counts of both ends five times a second while data passes. Two answers to
"how much is lost" follow from them. `certain` is what a network that is in use is judged by: the largest
loss that the packets of any window prove (the lower end of Wilson's interval), so that 10 % are found
within a second at 50 packets/s, and one lost packet proves nothing. `likely` is what a network is
judged by before it is used: the mean, and never less than what is certain. What is old is forgotten.

Time constants: `WINDOWS` (loss), `MEAN_OVER` (mean, trend), `RATE_WINDOW` and `RATE_KEPT` (rate). No timers.
"""

from bisect import bisect_left
from collections import deque
from math import sqrt
from typing import Final

from msgspec import Struct

from sojourn.upmt.events import TunnelMeasured

WINDOWS: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds. Any of them may prove a loss; a longer one proves a smaller loss."""
SLACK: Final = 0.05
"""Seconds by which a report may come late and still end a window."""
CONFIDENCE: Final = 2.3
"""Standard deviations: a loss is proved when chance makes it in one case of a hundred."""
LEAST_LOST: Final = 2
"""Packets that must be missing at least: of a single one nothing follows."""
MEAN_OVER: Final = 10.0
RATE_WINDOW: Final = 1.0
RATE_KEPT: Final = 600.0
"""Seconds for which a rate that was reached is believed."""
RATE_STEPS: Final = 10
DEGRADED_LOSS: Final = 0.05
"""Proved loss from which a network that works is called degraded..."""
WELL_AFTER: Final = 10.0
"""...until for so many seconds not half of it was proved."""
FIRST_REPORTS: Final = 3
MAX_SAMPLES: Final = 256

Counts = tuple[int, int, int, int]
"""Packets: (we sent, they received, they sent, we received)."""
Sums = tuple[int, int, int, int]
"""Packets since the path is measured: (we sent, lost of those, they sent, lost of those)."""


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
        self._bad_at = float("-inf")
        self._times: list[float] = []
        self._counts: Counts | None = None
        """The newest."""
        self._base = (0, 0)
        """Sent minus received, either way, when counting began."""
        self._sums: list[Sums] = []
        self._proved: tuple[float, float | None] | None = None
        self._bytes: deque[tuple[float, int, int]] = deque(maxlen=MAX_SAMPLES)
        self._best: dict[int, float] = {}
        """The best rate (bit/s) of each step of time."""

    def clear(self) -> None:
        """Forget loss and jitter: the path is another one now. The round trip is the best guess there is."""
        self.jitter = None
        self._best.clear()
        self.interrupted()

    def interrupted(self) -> None:
        """Forget the counts: nothing passed for a while, and that was told as such."""
        self.degraded, self._bad_at, self._proved = False, float("-inf"), None
        self._times.clear()
        self._sums.clear()
        self._counts = None
        self._bytes.clear()

    def take(self, measured: TunnelMeasured, now: float) -> None:
        """Take in a report."""
        self.rtt = measured.srtt if measured.srtt is not None else self.rtt
        self.jitter = measured.jitter if measured.jitter is not None else self.jitter
        self._take_bytes(measured, now)
        if measured.counts is not None:
            self._take_counts(measured.counts, now)
        if (self.certain(now) or 0.0) >= (DEGRADED_LOSS / 2 if self.degraded else DEGRADED_LOSS):
            self._bad_at = now
        self.degraded = now - self._bad_at < WELL_AFTER

    def _take_counts(self, counts: Counts, now: float) -> None:
        """Take in counts.

        What is received may be counted before what was sent earlier is known to be: a data path that was kept from
        running reads its counters late. So what is missing now and was there before is not lost; and of what is
        missing in the very first reports nothing follows.
        """
        self._proved = None
        sent, arrived, they_sent, came = counts
        if self._counts is None or any(new < old for new, old in zip(counts, self._counts, strict=True)):
            self._times.clear()  # an end counts anew
            self._sums.clear()
            self._base = (sent - arrived, they_sent - came)
        elif counts == self._counts:
            return
        elif len(self._sums) < FIRST_REPORTS:
            self._base = (max(self._base[0], sent - arrived), max(self._base[1], they_sent - came))
        _, lost, _, lost_in = self._sums[-1] if self._sums else (0, 0, 0, 0)
        self._counts = counts
        self._times.append(now)
        lost, lost_in = max(lost, sent - arrived - self._base[0]), max(lost_in, they_sent - came - self._base[1])
        self._sums.append((sent, lost, they_sent, lost_in))
        old = bisect_left(self._times, now - WINDOWS[-1] - SLACK)
        excess = max(old - 1, len(self._times) - MAX_SAMPLES)
        if excess > 0:
            del self._times[:excess], self._sums[:excess]

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
        if self._proved is None or self._proved[0] != now:  # every lane asks
            self._proved = (now, self._prove(now))
        return self._proved[1]

    def _prove(self, now: float) -> float | None:
        proved: float | None = None
        for window in WINDOWS:
            found = self._lost(now - window, now)
            if found is None:
                continue
            (lost_out, sent_out), (lost_in, sent_in) = found
            least = max(
                at_least(lost_out, sent_out),
                at_least(lost_in, sent_in),
                at_least(lost_out + lost_in, sent_out + sent_in),
            )
            proved = least if proved is None else max(proved, least)
        return proved

    def likely(self, now: float) -> float | None:
        """Return the loss that is to be expected, in the worse direction; None when nothing is known."""
        mean = self._mean(now - MEAN_OVER, now)
        proved = self.certain(now)
        return proved if mean is None else max(mean, proved or 0.0)

    def loss(self, now: float) -> tuple[float | None, float | None]:
        """Return the mean loss of the last seconds on the way out and on the way in, for people."""
        found = self._lost(now - MEAN_OVER, now)
        if found is None:
            return None, None
        (lost_out, sent_out), (lost_in, sent_in) = found
        return (lost_out / sent_out if sent_out else None, lost_in / sent_in if sent_in else None)

    def rate(self, now: float) -> float | None:
        """Return the highest rate (bit/s, the better direction) that was carried lately."""
        step = int(now * RATE_STEPS / RATE_KEPT)
        return max((rate for at, rate in self._best.items() if at >= step - RATE_STEPS), default=None)

    def trend(self, now: float) -> float | None:
        """Return the change of loss a second over the last seconds; positive = getting worse."""
        half = MEAN_OVER / 2
        before, after = self._mean(now - MEAN_OVER, now - half), self._mean(now - half, now)
        return None if before is None or after is None else (after - before) / half

    def _lost(self, since: float, until: float) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """Return (lost, sent) for the way out and the way in of the packets counted between two times."""
        times = self._times
        first, last = bisect_left(times, since - SLACK), bisect_left(times, until + SLACK) - 1
        if last <= first:
            return None
        sent, lost, they_sent, lost_in = (
            new - old for old, new in zip(self._sums[first], self._sums[last], strict=True)
        )
        return (lost, sent), (lost_in, they_sent)

    def _mean(self, since: float, until: float) -> float | None:
        """Return the mean loss of the worse direction; a single lost packet is not counted."""
        found = self._lost(since, until)
        if found is None:
            return None
        return max(((lost - 1) / sent if lost >= LEAST_LOST else 0.0) if sent else 0.0 for lost, sent in found)


def at_least(lost: int, sent: int) -> float:
    """Return the loss that `lost` of `sent` packets prove: the lower end of Wilson's score interval."""
    if lost < LEAST_LOST or sent <= 0:
        return 0.0
    part, z2 = min(lost / sent, 1.0), CONFIDENCE**2
    middle = part + z2 / (2 * sent)
    reach = CONFIDENCE * sqrt(part * (1 - part) / sent + z2 / (4 * sent * sent))
    return max((middle - reach) / (1 + z2 / sent), 0.0)


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
