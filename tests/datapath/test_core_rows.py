"""Rows that the core holds are what rows are anywhere: the same orders do the same to both tables."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.datapath._core import Core
from sojourn.datapath._core import Row as Twin
from sojourn.datapath.core_rows import CoreTable
from sojourn.model import AssociationId, TunnelId
from sojourn.paft import MoveResult, Paft, Row

ME = AssociationId(1)
TUNNELS = st.sampled_from([None, *map(TunnelId, (1, 2, 3))])
COPIES = st.sampled_from([(), (), (TunnelId(3),)])
COUNT = 4

orders = st.tuples(
    st.lists(st.integers(0, COUNT - 1), unique=True),
    TUNNELS,
    st.integers(0, 5),
    COPIES,
    st.sampled_from([False, False, True]),
)
learned = st.tuples(st.integers(0, COUNT - 1), st.sampled_from([TunnelId(1), TunnelId(2)]))


def table(*, core: bool) -> Paft:
    paft = Paft()
    if core:
        shadow = CoreTable(Core())
        paft.shadow, paft.bulk = shadow, shadow.move
    for number in range(COUNT):
        paft.add(bytes((17, *[number] * 12)), Row(ME, TunnelId(1), 1.0))
    return paft


def places(paft: Paft) -> list[tuple[object, ...]]:
    return [
        (row.tunnel, row.left, row.left_at, row.copies, row.mode, row.blocked, row.move) for row in paft.rows.values()
    ]


@settings(deadline=None)
@given(st.lists(orders | learned, max_size=12))
def test_many_rows_at_once_move_as_each_alone_does_and_as_rows_without_a_core_do(
    steps: list[tuple[list[int], TunnelId | None, int, tuple[TunnelId, ...], bool] | tuple[int, TunnelId]],
) -> None:
    plain, cored = table(core=False), table(core=True)
    alone = table(core=True)
    for at, step in enumerate(steps, 2):
        now = at * 2.0
        if len(step) == 2:
            who, to = step
            assert len({paft.learn(list(paft.rows.values())[who], to, now) for paft in (plain, cored, alone)}) == 1
            continue
        chosen, tunnel, number, copies, blocked = step
        results = []
        for paft in (plain, cored):
            rows = list(paft.rows.values())
            results.append(paft.move_rows([rows[one] for one in chosen], tunnel, number, now, copies, blocked))
        rows = list(alone.rows.values())
        results.append([alone.move_row(rows[one], tunnel, number, now, copies, blocked) for one in chosen])
        assert results[0] == results[1] == results[2]
        assert places(plain) == places(cored) == places(alone)


def test_whoever_must_know_of_every_row_that_moves_is_told_of_each() -> None:
    paft, told = table(core=True), list[Row]()
    paft.on_placed = told.append
    rows = list(paft.rows.values())
    assert paft.move_rows(rows, TunnelId(2), 1, 5.0) == [MoveResult.MOVED] * COUNT
    assert told == rows


def test_only_rows_of_the_core_can_be_moved_by_it() -> None:
    core = Core()
    with pytest.raises(TypeError, match="not a row"):
        core.move([Twin(core, 1), object()], 2, 1, 5.0)
    assert core.move([], None, 1, 5.0) == b""


def test_that_packets_have_passed_both_ways_is_fetched_once() -> None:
    paft, fetched = table(core=True), []

    class Counting:
        def drain(self) -> tuple[int, int, int, int] | None:
            fetched.append(1)
            return 1, 60, 2, 120

    (row, *_) = paft.rows.values()
    assert not row.two_way
    row.shadow = Counting()
    assert row.two_way
    before = len(fetched)
    assert row.two_way
    assert len(fetched) == before > 0
