"""Machine <-> event loop: one clock, one timer a machine, and tasks that never fail unseen.

`now` (linux/clock.py) is the only clock of protocols. CLOCK_BOOTTIME goes on during suspend; how far
CLOCK_MONOTONIC stays behind it tells that the machine slept (`SleepWatch`).
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from sojourn.linux.clock import now as now
from sojourn.machine import Machine

EventT = TypeVar("EventT")
CommandT = TypeVar("CommandT")

SLEPT_AT_LEAST = 1.0
"""Seconds of suspend that are worth an event."""
STOPPED_AT_LEAST = 5.0
"""Seconds for which the loop was not run at all (SIGSTOP, a frozen container): networks may be others now."""
SLEEP_CHECK = 1.0
TOLD_FOR = 5.0
"""Seconds after a wake that the clocks told for which logind's word is no news."""
EARLY_ENOUGH = 0.001
"""Seconds that a timer may ring late."""

_log = logging.getLogger(__name__)


class Tasks:
    """Background tasks of a daemon: a failure is logged and ends the daemon, not just the task."""

    def __init__(self, on_failure: Callable[[BaseException], None]) -> None:
        self._on_failure = on_failure
        self._running: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run `work` beside everything else."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Cancel what still runs and wait for it."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            _log.error("task %s failed", task.get_name(), exc_info=error)
            self._on_failure(error)


class Driver(Generic[EventT, CommandT]):
    """Feeds a machine, carries out what it says, and keeps its one timer armed."""

    def __init__(self, machine: Machine[EventT, CommandT], execute: Callable[[CommandT], None]) -> None:
        self._machine = machine
        self._execute = execute
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def feed(self, event: EventT) -> None:
        """Hand one event in. Commands are carried out before this returns."""
        if self._closed:
            return
        for command in self._machine.handle(event, now()):
            self._execute(command)
        self._arm()

    def close(self) -> None:
        """Stop the timer; later events are ignored."""
        self._closed = True
        self._stop_timer()

    def _tick(self) -> None:
        self._timer = None
        if self._closed:
            return
        for command in self._machine.tick(now()):
            self._execute(command)
        self._arm()

    def _arm(self) -> None:
        deadline = self._machine.deadline() if not self._closed else None
        if deadline is None:
            self._stop_timer()
            return
        loop = asyncio.get_running_loop()
        # At least a millisecond: a deadline that is due and not cleared must not spin the loop.
        at = loop.time() + max(deadline - now(), 0.001)
        # A timer that rings too early is harmless. One that rings too late is left from before
        # the machine slept: the loop's clock has stood still meanwhile.
        if self._timer is None or self._timer.when() > at + EARLY_ENOUGH:
            self._stop_timer()
            self._timer = loop.call_at(at, self._tick)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class SleepWatch:
    """Tells when the machine was suspended, or this process was stopped for long."""

    def __init__(self, on_wake: Callable[[float], None]) -> None:
        self._on_wake = on_wake
        self._boot = now()
        self._lag = now() - time.monotonic()
        self._woke_at = float("-inf")

    async def run(self) -> None:
        """Look once a second, for ever."""
        while True:
            await asyncio.sleep(SLEEP_CHECK)
            self.look()

    def look(self, *, woken: bool = False) -> None:
        """Compare the clocks. `woken`: logind says that the machine has just woken up; a wake is told once."""
        boot, lag = now(), now() - time.monotonic()
        slept, stopped = lag - self._lag, boot - self._boot - SLEEP_CHECK
        self._boot, self._lag = boot, lag
        told = boot - self._woke_at < TOLD_FOR
        if slept >= SLEPT_AT_LEAST or stopped >= STOPPED_AT_LEAST or (woken and not told):
            self._woke_at = boot
            self._on_wake(max(slept, stopped, 0.0))
