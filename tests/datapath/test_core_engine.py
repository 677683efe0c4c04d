"""What Python makes of what the core did without it. Packets through the whole engine: tests/net/test_engine.py."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from sojourn.datapath._core import Core
from sojourn.datapath.core_books import CATCH_UP_EVERY
from sojourn.datapath.core_engine import PATIENCE, CoreEngine
from sojourn.datapath.core_keys import CoreOpener
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
    packets_in: int = 0
    opener: CoreOpener | None = None

    def heard(self, now: float, packets: int, size: int) -> None:
        self.packets_in += packets

    def sent(self, now: float, packets: int, size: int) -> None:
        raise AssertionError("nothing went out")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(clock: Clock) -> Iterator[CoreEngine]:
    engine = CoreEngine(lambda _event: None, EpochStore(), clock=clock)
    yield engine
    engine.close()


def test_a_frame_is_told_how_many_packets_came_before_it_however_late_it_is_looked_at(
    engine: CoreEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine Python comes to a probe when the core has delivered more: that is no part of the answer."""
    tunnel, seen = Heard(), []
    monkeypatch.setattr(engine._books, "core", Later(engine._core, delivered=15))
    monkeypatch.setattr(engine._books, "tell", lambda *_: None)
    monkeypatch.setattr(engine, "_from_outer", lambda *_: seen.append(tunnel.packets_in))
    tunnel.opener = CoreOpener.__new__(CoreOpener)
    tunnel.opener.current = 1
    engine.forwarder.tunnels[tunnel.id] = tunnel  # type: ignore[assignment]
    for before, plaintext in ((10, b"\x01"), (15, b"\x01"), (10, b"\x45")):
        engine._on_opened((2, 7, 1, 3, 0, True, before, 0, -1, 100, 1.0, b"", 0, 0, b"", plaintext))
    assert seen == [10, 15, 15]
    assert tunnel.packets_in == 15


def test_nothing_is_looked_at_while_nothing_happens(engine: CoreEngine, clock: Clock) -> None:
    engine.tick(clock.now)
    before = engine._books.catch_up_at
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


class Later:
    """A core that has delivered packets of the tunnel since."""

    def __init__(self, core: Core, delivered: int) -> None:
        self._core, self._delivered = core, delivered
        self._taken = 0

    def activity(self, number: int) -> tuple[int, float, float, float, float, float, int, int, int, int]:
        packets, self._delivered = self._delivered, 0
        self._taken += packets
        return number, float(packets), float(packets), 0.0, 0.0, 0.0, packets, 100 * packets, 0, 0

    def taken(self, _number: int) -> tuple[int, int]:
        return self._taken, 0

    def __getattr__(self, name: str) -> object:
        found: object = getattr(self._core, name)
        return found


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
