"""Garbage is collected when nothing else is to do, and signals arrive as bytes."""

import gc
import os
import signal
import socket
import time
from collections.abc import Iterator

import pytest

from sojourn.datapath import housekeeping


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    signals = {number: signal.getsignal(number) for number in range(1, 32) if number not in {9, 19}}
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.set_wakeup_fd(-1)
    for number, handler in signals.items():
        if handler is not None:
            signal.signal(number, handler)
    gc.unfreeze()
    gc.enable()


def litter(count: int) -> None:
    for _ in range(count):
        ring: list[object] = []
        ring.append(ring)


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_garbage_waits_while_there_is_work_and_goes_when_there_is_none() -> None:
    collector = housekeeping.GarbageCollector()
    assert not gc.isenabled()
    litter(housekeeping.IDLE_OBJECTS * 2)
    burn(housekeeping.IDLE_SHARE * housekeeping.TICK * 1.5)
    collector.tick()
    assert gc.get_count()[0] > housekeeping.IDLE_OBJECTS
    collector.tick()
    assert gc.get_count()[0] < housekeeping.IDLE_OBJECTS


def test_too_much_garbage_goes_whatever_there_is_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "GARBAGE_OBJECTS", 1000)
    collector = housekeeping.GarbageCollector()
    litter(2000)
    burn(housekeeping.IDLE_SHARE * housekeeping.TICK * 1.5)
    collector.tick()
    assert gc.get_count()[0] < 1000


def test_signals_and_the_tick_are_bytes_on_a_socket() -> None:
    reading, wakeup = socket.socketpair()
    with reading, wakeup:
        housekeeping.catch_signals(wakeup)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
            os.kill(os.getpid(), number)
        got = reading.recv(10)
        assert set(got) == {signal.SIGTERM, signal.SIGALRM}
        assert signal.getitimer(signal.ITIMER_REAL)[1] == housekeeping.TICK
