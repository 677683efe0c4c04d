"""What Python makes of what the core did without it. Packets through the whole engine: tests/net/test_engine.py."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from sojourn.datapath._core import Core
from sojourn.datapath.core_engine import CATCH_UP_EVERY, PATIENCE, CoreEngine
from sojourn.datapath.epochs import EpochStore
from sojourn.model import AssociationId, TunnelId
from sojourn.paft import Mode, Row
from tests.harness.clock import Clock

KEY = bytes((17, 10, 201, 0, 2, 192, 0, 2, 80, 0, 1, 0, 2))


@dataclass
class Heard:
    """Stands for a tunnel: what is told to it, in order."""

    id: TunnelId = field(default_factory=lambda: TunnelId(7))
    association: AssociationId = field(default_factory=lambda: AssociationId(1))
    told: list[tuple[str, float, int]] = field(default_factory=list)

    def heard(self, now: float, packets: int, size: int) -> None:
        self.told.append(("in", now, packets))

    def sent(self, now: float, packets: int, size: int) -> None:
        self.told.append(("out", now, packets))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(clock: Clock) -> Iterator[CoreEngine]:
    engine = CoreEngine(lambda _event: None, EpochStore(), clock=clock)
    yield engine
    engine.close()


def replayed(engine: CoreEngine, *activity: float) -> list[tuple[str, float, int]]:
    tunnel = Heard()
    engine._replay(tunnel, activity)  # type: ignore[arg-type]
    return tunnel.told


def test_what_happened_is_told_in_the_order_in_which_it_happened(engine: CoreEngine) -> None:
    # in at 1 and 4, out at 2, 5 and 9: the first one out after the last one in is what an answer is expected to.
    told = replayed(engine, 7, 1.0, 4.0, 2.0, 5.0, 9.0, 3, 300, 5, 500)
    assert told == [("in", 1.0, 3), ("out", 2.0, 5), ("in", 4.0, 0), ("out", 5.0, 0), ("out", 9.0, 0)]


def test_a_single_packet_is_told_once(engine: CoreEngine) -> None:
    assert replayed(engine, 7, 0.0, 0.0, 2.0, 2.0, 2.0, 0, 0, 1, 100) == [("out", 2.0, 1)]
    assert replayed(engine, 7, 3.0, 3.0, 0.0, 0.0, 0.0, 1, 100, 0, 0) == [("in", 3.0, 1)]


def test_nothing_is_looked_at_while_nothing_happens(engine: CoreEngine, clock: Clock) -> None:
    engine.tick(clock.now)
    before = engine._catch_up_at
    assert before == float("inf")
    assert CATCH_UP_EVERY < 0.03


def test_timers_wait_for_a_receiving_thread_that_is_behind_and_then_forgive(
    engine: CoreEngine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgiven: list[float] = []
    monkeypatch.setattr(engine.forwarder, "clock_jumped", lambda gap, _now: forgiven.append(gap))
    monkeypatch.setattr(engine, "_core", Behind(engine._core))
    began = clock.now
    assert not engine._all_heard(clock.now)
    clock.now = began + PATIENCE / 2
    assert not engine._all_heard(clock.now)
    clock.now = began + PATIENCE + 0.01
    assert engine._all_heard(clock.now)
    assert forgiven == [pytest.approx(PATIENCE + 0.01)]


class Behind:
    """A core whose receiving thread does not get to run."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def behind(self) -> int:
        return 6

    def __getattr__(self, name: str) -> object:
        found: object = getattr(self._core, name)
        return found


def test_a_row_in_the_table_is_the_cores_and_keeps_its_counts(engine: CoreEngine) -> None:
    row = Row(AssociationId(1), TunnelId(7), 5.0)
    row.packets_in, row.bytes_in, row.last_used = 3, 300, 5.0
    paft = engine.forwarder.paft
    paft.add(KEY, row)
    assert paft.rows[KEY] is row
    assert (row.packets_in, row.bytes_in, row.tunnel, row.last_used) == (3, 300, 7, 5.0)
    row.packets_in += 1
    paft.place(row, TunnelId(8), 6.0)
    assert (row.packets_in, row.tunnel, row.left, row.left_at) == (4, 8, 7, 6.0)
    paft.place(row, TunnelId(8), 6.0, (TunnelId(9),))
    twin: Any = row.shadow
    assert row.mode is Mode.COPIES
    assert twin.slow
    paft.place(row, None, 7.0)
    assert (row.tunnel, twin.slow) == (None, False)
    paft.remove(KEY)
    paft.add(KEY, Row(AssociationId(1), None, 8.0))
