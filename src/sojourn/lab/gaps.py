"""How a stream fared, from what was sent and what arrived: lost, doubled, out of order, and the gaps between arrivals.

Pure functions of times (CLOCK_BOOTTIME, seconds) and numbers. A window is [since, until).
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

from msgspec import Struct

NOTABLE_GAP = 0.1
"""Seconds without anything from which a gap is listed by itself."""


class Gap(Struct, frozen=True, order=True):
    """A time without any arrival."""

    seconds: float
    at: float
    """When it began: the last arrival before it."""


class Packet(Struct, frozen=True):
    """A packet that arrived."""

    number: int
    sent: float
    arrived: float


class Tally(Struct, frozen=True):
    """What became of numbered packets."""

    sent: int
    lost: int
    doubled: int
    disordered: int
    """How many arrived after one with a higher number."""


def gaps(arrivals: Sequence[float], since: float, until: float, least: float = NOTABLE_GAP) -> list[Gap]:
    """Return the gaps of at least `least` seconds that touch a window, in order of time.

    A gap that began before the window counts in full, one that lasts to its end is cut there:
    so silence that never ends is seen. `arrivals` are in order of time.
    """
    first = bisect_left(arrivals, since)
    last = bisect_left(arrivals, until)
    start = arrivals[first - 1] if first else since
    edges = [start, *arrivals[first:last], until]
    return [Gap(end - begin, begin) for begin, end in pairwise(edges) if end - begin >= least]


def longest(arrivals: Sequence[float], since: float, until: float) -> Gap:
    """Return the longest gap that touches a window."""
    return max(gaps(arrivals, since, until, 0.0), default=Gap(0.0, since))


def tally(sent: Sequence[tuple[int, float]], packets: Sequence[Packet], since: float, until: float) -> Tally:
    """Count the fate of packets *sent* in a window: (number, time) pairs against `packets` in order of arrival."""
    wanted = {number for number, at in sent if since <= at < until}
    seen: set[int] = set()
    doubled = disordered = 0
    highest = -1
    for packet in packets:
        if packet.number in wanted:
            if packet.number in seen:
                doubled += 1
            elif packet.number < highest:
                disordered += 1
            seen.add(packet.number)
        highest = max(highest, packet.number)
    return Tally(len(wanted), len(wanted - seen), doubled, disordered)
