"""When the machine stood still: intervals in which no process could run on one of its processors.

On a shared machine the hypervisor, or a limit of the container, takes processors away for 100 ms to a second. What a
test measures in seconds then is the machine. A `Standstill` has one thread on each processor, which sleeps for
`STEP` and notes by how much it woke up late; a pause is counted without what of it was such a time (`without`). A
program that waits for something that does not answer, or works too long, delays nobody else's waking up and is
measured in full.
"""

import math
import os
import threading
import time
from collections.abc import Iterable
from itertools import pairwise
from types import TracebackType
from typing import Final, Self

STEP: Final = 0.01
LATE: Final = 0.03
"""Seconds: being woken up this much late happens where processes wait for one another, too, and is not counted."""
AFTER: Final = 0.02
"""Seconds for which the work that has piled up in a standstill lasts beyond it, counted with it."""


class Standstill:
    """Watch from `with` on until its end. Times are time.monotonic()'s, which all processes and namespaces share."""

    def __init__(self) -> None:
        self._stood: list[tuple[float, float]] = []
        self._seen: dict[int, float] = {}
        """By processor: up to when its thread has looked."""
        self._end = threading.Event()
        self._watchers = [
            threading.Thread(target=self._watch, args=(cpu,), daemon=True) for cpu in os.sched_getaffinity(0)
        ]

    def __enter__(self) -> Self:
        self._seen = dict.fromkeys(os.sched_getaffinity(0), 0.0)
        for watcher in self._watchers:
            watcher.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end.set()
        for watcher in self._watchers:
            watcher.join()

    def _watch(self, cpu: int) -> None:
        os.sched_setaffinity(0, {cpu})
        while not self._end.is_set():
            due = time.monotonic() + STEP
            time.sleep(STEP)
            if (woken := time.monotonic()) > due + LATE:
                self._stood.append((due, woken + AFTER))
            self._seen[cpu] = woken
        self._seen[cpu] = math.inf

    def within(self, begin: float, end: float) -> float:
        """Return for how many seconds of an interval at least one processor stood still.

        Waits until each processor's thread has looked that far: one that is just over may not be noted yet.
        """
        while min(self._seen.values(), default=math.inf) < end:
            time.sleep(STEP / 10)
        return covered(self._stood, begin, end)

    def without(self, begin: float, end: float) -> float:
        """Return an interval's length apart from the time that the machine stood still."""
        return end - begin - self.within(begin, end)

    def longest(self, times: Iterable[float]) -> float:
        """Return the longest pause between times that follow one another, each counted by `without`."""
        return max((self.without(earlier, later) for earlier, later in pairwise(times)), default=0.0)


def covered(stretches: Iterable[tuple[float, float]], begin: float, end: float) -> float:
    """Return how much of an interval is covered by stretches, which may overlap."""
    total, reached = 0.0, begin
    for since, until in sorted(stretches):
        since, until = max(since, reached), min(until, end)
        if until > since:
            total += until - since
            reached = until
    return total
