"""The loss of one path from the packet counts of both ends: what is proved, and what is to be expected.

`certain` is what a network that is in use is judged by: the largest loss that the packets of any window prove (the
lower end of Wilson's interval), so that 10 % are found within a second at 50 packets/s, and one lost packet proves
nothing. `mean` is that of some time, a single lost packet not counted. What is old is forgotten.

Counts are read while packets pass, by processes that may be kept from running: a packet may be counted a report too
early or too late, and packets overtake each other. So a packet is lost only when it is missing in two reports in a
row, and once missing packets are not found again; of what is missing in the first reports nothing follows.
"""

from bisect import bisect_left
from math import sqrt
from typing import Final

WINDOWS: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds. Any of them may prove a loss; a longer one proves a smaller loss."""
SLACK: Final = 0.05
"""Seconds by which a report may come late and still end a window."""
FRESH: Final = 1.0
"""Seconds for which the newest counts are taken as those of now."""
CONFIDENCE: Final = 2.3
"""Standard deviations: a loss is proved when chance makes it in one case of a hundred."""
LEAST_LOST: Final = 3
"""Packets that must be missing at least..."""
LEAST_OF_CLEAN: Final = 2
"""...where some are lost now and then; where none was lost before, this is enough."""
CLEAN: Final = 100
"""Packets without a loss that make a path clean."""
FIRST_REPORTS: Final = 3
MAX_SAMPLES: Final = 256

Counts = tuple[int, int, int, int]
"""Packets: (we sent, they received, they sent, we received)."""
Sums = tuple[int, int, int, int]
"""Packets since the path is measured: (we sent, lost of those, they sent, lost of those)."""


class Loss:
    """One path's, either way."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._sums: list[Sums] = []
        self._newest: tuple[float, Counts] | None = None
        """The last report, until the next one has confirmed it."""
        self._base = (0, 0)
        """Sent minus received, either way, when counting began."""
        self._proved: tuple[float, float | None] | None = None

    def clear(self) -> None:
        """Forget everything."""
        self._times.clear()
        self._sums.clear()
        self._newest = self._proved = None

    def take(self, counts: Counts, now: float) -> None:
        """Take in a report."""
        before, self._proved = self._newest, None
        if before is not None:
            if counts == before[1]:
                return
            if any(new < old for new, old in zip(counts, before[1], strict=True)):
                self.clear()  # an end counts anew
            else:
                self._confirm(before, counts)
        self._newest = (now, counts)

    def _confirm(self, report: tuple[float, Counts], after: Counts) -> None:
        """Take over what was missing in a report and still is."""
        at, counts = report
        lost = min(counts[0] - counts[1], after[0] - after[1])
        lost_in = min(counts[2] - counts[3], after[2] - after[3])
        if not self._sums:
            self._base = (lost, lost_in)
        elif len(self._sums) < FIRST_REPORTS:
            self._base = (max(self._base[0], lost), max(self._base[1], lost_in))
        _, before, _, before_in = self._sums[-1] if self._sums else (0, 0, 0, 0)
        self._times.append(at)
        self._sums.append(
            (counts[0], max(before, lost - self._base[0]), counts[2], max(before_in, lost_in - self._base[1]))
        )
        old = bisect_left(self._times, at - WINDOWS[-1] - SLACK)
        excess = max(old - 1, len(self._times) - MAX_SAMPLES)
        if excess > 0:
            del self._times[:excess], self._sums[:excess]

    # -- what follows

    def certain(self, now: float) -> float | None:
        """Return the loss, in the worse direction, that is proved; None when nothing is known."""
        if self._proved is None or self._proved[0] != now:  # every lane asks
            self._proved = (now, self._prove(now))
        return self._proved[1]

    def _prove(self, now: float) -> float | None:
        proved: float | None = None
        for window in WINDOWS:
            found = self.lost(window, 0.0, now)
            if found is None:
                continue
            (lost, sent), (lost_in, sent_in) = found
            proved = proved or 0.0
            if lost + lost_in >= LEAST_OF_CLEAN:
                least = LEAST_OF_CLEAN if self._was_clean(window, now) else LEAST_LOST
                either = at_least(lost + lost_in, sent + sent_in, least)
                proved = max(proved, at_least(lost, sent, least), at_least(lost_in, sent_in, least), either)
        return proved

    def _was_clean(self, since: float, now: float) -> bool:
        """Say whether nothing was lost until so many seconds ago."""
        found = self.lost(WINDOWS[-1], since, now)
        if found is None:
            return False
        (lost, sent), (lost_in, sent_in) = found
        return not lost and not lost_in and sent + sent_in >= CLEAN

    def mean(self, begin: float, end: float, now: float) -> float | None:
        """Return the mean loss from `begin` to `end` seconds ago, in the worse direction."""
        found = self.lost(begin, end, now)
        if found is None:
            return None
        return max(((lost - 1) / sent if lost > 1 else 0.0) if sent else 0.0 for lost, sent in found)

    def lost(self, begin: float, end: float, now: float) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """Return (lost, sent) for the way out and the way in, from `begin` to `end` seconds ago."""
        times = self._times
        if not times:
            return None
        newest = times[-1] if now - times[-1] < FRESH else now
        first = bisect_left(times, newest - begin - SLACK)
        last = bisect_left(times, newest - end + SLACK) - 1
        if last <= first:
            return None
        sent, lost, sent_in, lost_in = (b - a for a, b in zip(self._sums[first], self._sums[last], strict=True))
        return (lost, sent), (lost_in, sent_in)


def at_least(lost: int, sent: int, least: int = LEAST_LOST) -> float:
    """Return the loss that `lost` of `sent` packets prove, if `least` are: the lower end of Wilson's score interval."""
    if lost < least or sent <= 0:
        return 0.0
    part, z2 = min(lost / sent, 1.0), CONFIDENCE**2
    middle = part + z2 / (2 * sent)
    reach = CONFIDENCE * sqrt(part * (1 - part) / sent + z2 / (4 * sent * sent))
    return max((middle - reach) / (1 + z2 / sent), 0.0)
