import os
import threading
from collections.abc import Callable, Iterator

import pytest

from sojourn.datapath.loop import LATE, Loop


class Timed:
    """Notes what it is told, with a clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.due: float | None = None
        self.told: list[str] = []
        self.gaps: list[float] = []

    def clock(self) -> float:
        return self.now

    def deadline(self) -> float | None:
        return self.due

    def tick(self, now: float) -> None:
        self.told.append("tick")
        self.due = None

    def clock_jumped(self, gap: float, now: float) -> None:
        self.told.append("jumped")
        self.gaps.append(gap)


@pytest.fixture
def timed() -> Timed:
    return Timed()


@pytest.fixture
def loop(timed: Timed) -> Iterator[Loop]:
    loop = Loop(timed, timed.clock)
    yield loop
    loop.close()


def readable(loop: Loop, callback: Callable[[], None]) -> int:
    fd = os.eventfd(1, os.EFD_NONBLOCK)
    loop.watch(fd, callback)
    return fd


def test_what_has_come_is_read_before_a_timer_is_judged(loop: Loop, timed: Timed) -> None:
    fd = readable(loop, lambda: timed.told.append("read"))
    timed.due = timed.now
    loop.turn(0)
    assert timed.told == ["read", "tick"]
    loop.unwatch(fd)
    os.close(fd)


def test_an_answer_that_was_read_in_time_leaves_no_timer_due(loop: Loop, timed: Timed) -> None:
    def read() -> None:
        timed.due = timed.now + 10

    fd = readable(loop, read)
    timed.due = timed.now
    loop.turn(0)
    assert timed.told == []
    loop.unwatch(fd)
    os.close(fd)


def test_a_process_that_was_stopped_says_so_before_anything_else(loop: Loop, timed: Timed) -> None:
    def stopped() -> float:
        # Each look at the clock finds it ten minutes later: suspend, or SIGSTOP.
        timed.now += 600
        return timed.now

    fd = readable(loop, lambda: timed.told.append("read"))
    loop._clock = stopped
    loop.turn(0)
    assert timed.told == ["jumped", "read"]
    assert timed.gaps[0] >= 600
    loop.unwatch(fd)
    os.close(fd)


def test_a_turn_that_took_long_counts_as_lateness_in_the_next(loop: Loop, timed: Timed) -> None:
    def work() -> None:
        timed.now += 4 * LATE

    fd = readable(loop, work)
    loop.turn(0)
    assert timed.told == []
    loop.unwatch(fd)
    loop.turn(0)
    assert timed.gaps == [pytest.approx(4 * LATE)]
    os.close(fd)


def test_being_on_time_is_not_worth_a_word(loop: Loop, timed: Timed) -> None:
    for _ in range(3):
        timed.now += LATE / 2
        loop.turn(0)
    assert timed.told == []


def test_a_callback_may_end_the_watch_on_another_descriptor_of_the_same_turn(loop: Loop) -> None:
    seen: list[int] = []
    fds: list[int] = []

    def only_one() -> None:
        seen.append(1)
        for fd in fds:
            loop.unwatch(fd)

    fds += [readable(loop, only_one), readable(loop, only_one)]
    loop.turn(0)
    assert seen == [1]
    for fd in fds:
        os.close(fd)


def test_stop_wakes_the_loop_from_another_thread(loop: Loop) -> None:
    thread = threading.Thread(target=loop.run)
    thread.start()
    loop.stop()
    thread.join(5)
    assert not thread.is_alive()
