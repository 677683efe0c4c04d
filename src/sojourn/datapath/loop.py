"""The engine's loop: descriptors first, timers second, and an honest account of its own lateness.

The clock is CLOCK_BOOTTIME, which goes on during suspend. What waits in a socket is read before a
timer is judged, so that an answer that has come is never taken for a missing one.
"""

import os
import select
import time
from collections.abc import Callable
from typing import Final, Protocol

LATE: Final = 0.05
"""A turn that is so much later than it should be was kept from running: by suspend, SIGSTOP or load."""
LONGEST_WAIT: Final = 10.0


class Timed(Protocol):
    """Whatever has deadlines; it is told of lateness before it is told anything else of a turn."""

    def deadline(self) -> float | None:
        """When `tick` is wanted next."""
        ...

    def tick(self, now: float) -> None:
        """Do what is due."""
        ...

    def clock_jumped(self, gap: float, now: float) -> None:
        """Forgive `gap` seconds in which the process did not run."""
        ...


def boot_time() -> float:
    """Return seconds of CLOCK_BOOTTIME."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Loop:
    """Calls back for readable descriptors, and ticks one `Timed`."""

    def __init__(self, timed: Timed, clock: Callable[[], float] = boot_time) -> None:
        self._timed = timed
        self._clock = clock
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._stopped = False
        self._stop = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._stop, select.EPOLLIN)
        self._turn_began = clock()

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call `callback` in each turn that finds `fd` readable."""
        self._callbacks[fd] = callback
        self._epoll.register(fd, select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        """Forget a descriptor; before it is closed."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def run(self) -> None:
        """Turn until stopped."""
        self._turn_began = self._clock()
        while not self._stopped:
            self.turn()

    def stop(self) -> None:
        """Let `run` return. From anywhere: a callback, a signal handler, another thread."""
        self._stopped = True
        os.eventfd_write(self._stop, 1)

    def turn(self, longest: float = LONGEST_WAIT) -> None:
        """Wait for a descriptor or a deadline, `longest` seconds at most, and do what is due."""
        before = self._clock()
        due = self._timed.deadline()
        wait = longest if due is None else min(max(due - before, 0.0), longest)
        ready = self._epoll.poll(wait)
        now = self._clock()
        self._account(before - self._turn_began, now - before - wait, now)
        # Forgiving takes time where much is waited for. It is not forgiven in turn: that would never end.
        self._turn_began = self._clock()
        for fd, _events in ready:
            callback = self._callbacks.get(fd)
            if callback is not None:
                callback()
        due = self._timed.deadline()
        now = self._clock()
        if due is not None and due <= now:
            self._timed.tick(now)

    def _account(self, worked: float, overslept: float, now: float) -> None:
        gap = (worked if worked > LATE else 0.0) + (overslept if overslept > LATE else 0.0)
        if gap:
            self._timed.clock_jumped(gap, now)

    def close(self) -> None:
        """Give up the loop's own descriptors."""
        self._epoll.close()
        os.close(self._stop)
