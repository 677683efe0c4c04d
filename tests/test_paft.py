"""The table: who may move a row, and what learning may not do."""

from sojourn.model import AssociationId, TunnelId
from sojourn.paft import LEARN_HOLD, Mode, MoveResult, Paft, Row

A, B, C = TunnelId(1), TunnelId(2), TunnelId(3)
ONE, TWO = AssociationId(1), AssociationId(2)
KEY = b"flow"


def table(tunnel: TunnelId | None = A, move: int = 0) -> tuple[Paft, Row]:
    paft, row = Paft(), Row(ONE, tunnel, 0.0, move)
    paft.add(KEY, row)
    return paft, row


def test_a_move_says_whether_it_changed_anything() -> None:
    paft, row = table()
    assert paft.move(KEY, B, 1, 5.0) is MoveResult.MOVED
    assert (row.tunnel, row.left, row.left_at, row.move) == (B, A, 5.0, 1)
    assert paft.move(KEY, B, 2, 6.0) is MoveResult.UNCHANGED
    assert (row.left_at, row.move) == (5.0, 2)


def test_a_repeated_request_changes_nothing_and_an_older_one_is_stale() -> None:
    paft, row = table()
    paft.move(KEY, B, 4, 5.0)
    assert paft.move(KEY, B, 4, 6.0) is MoveResult.UNCHANGED
    assert paft.move(KEY, A, 3, 7.0) is MoveResult.STALE
    assert row.tunnel == B


def test_a_flow_that_is_not_there_is_unknown() -> None:
    assert Paft().move(KEY, A, 1, 0.0) is MoveResult.UNKNOWN


def test_late_packets_of_the_tunnel_that_was_left_change_nothing_for_a_while() -> None:
    paft, row = table()
    paft.move(KEY, B, 1, 5.0)
    assert not paft.learn(row, A, 5.0 + LEARN_HOLD - 0.01)
    assert paft.learn(row, A, 5.0 + LEARN_HOLD)
    assert row.tunnel == A


def test_a_third_tunnel_is_learned_at_once() -> None:
    paft, row = table()
    paft.move(KEY, B, 1, 5.0)
    assert paft.learn(row, C, 5.1)
    assert not paft.learn(row, C, 5.2)


def test_a_waiting_flow_learns_any_tunnel_but_the_one_it_just_left() -> None:
    paft, row = table()
    paft.move(KEY, None, 1, 5.0)
    assert not paft.learn(row, A, 6.0)
    assert paft.learn(row, B, 6.0)


def test_a_copied_row_does_not_learn() -> None:
    paft, row = table()
    row.mode = Mode.COPIES
    assert not paft.learn(row, B, 5.0)


def test_an_association_at_its_limit_loses_its_stalest_row_and_no_others() -> None:
    paft = Paft(max_rows_per_association=2)
    for number, used in enumerate((3.0, 1.0)):
        row = Row(ONE, A, 0.0)
        row.last_used = used
        assert paft.add(bytes((number,)), row) is None
    assert paft.add(b"other", Row(TWO, A, 0.0)) is None
    assert paft.add(b"new", Row(ONE, A, 9.0)) == b"\1"
    assert set(paft.rows) == {b"\0", b"other", b"new"}
    paft.remove(b"\0")
    assert paft.add(b"newer", Row(ONE, A, 9.0)) is None


def test_rows_are_found_by_association_and_by_key() -> None:
    paft, row = table()
    paft.add(b"second", Row(TWO, B, 0.0))
    assert dict(paft.of(ONE)) == {KEY: row}
    assert list(paft.of(TWO)) == [b"second"]
    assert paft.get(KEY) is row
    assert len(paft) == 2
    paft.remove(b"second")
    assert not paft.of(TWO)
    assert len(paft) == 1


def test_a_row_that_is_put_in_again_takes_the_place_of_the_one_before() -> None:
    paft, _ = table()
    paft.add(KEY, Row(TWO, B, 0.0))
    assert not paft.of(ONE)
    assert list(paft.of(TWO)) == [KEY]
    assert len(paft) == 1


def test_copies_make_the_mode_and_a_change_of_them_is_a_move() -> None:
    paft, row = table()
    assert paft.move_row(row, A, 1, 5.0, (B,)) is MoveResult.MOVED
    assert (row.mode, row.copies, row.left) == (Mode.COPIES, (B,), None)
    assert paft.move_row(row, A, 2, 5.0, (B,)) is MoveResult.UNCHANGED
    assert paft.move_row(row, A, 3, 5.0) is MoveResult.MOVED
    assert (row.mode, row.copies) == (Mode.ONE, ())
    assert paft.move_row(row, None, 4, 5.0, blocked=True) is MoveResult.MOVED
    assert (row.blocked, row.tunnel) == (True, None)


def test_a_copied_flow_goes_on_over_what_is_left_when_a_tunnel_goes() -> None:
    paft, row = table()
    other = Row(ONE, B, 0.0)
    paft.add(b"other", other)
    paft.move_row(row, A, 1, 5.0, (B, C))
    paft.leave(ONE, A, 6.0)
    assert (row.tunnel, row.copies) == (B, (C,))
    paft.leave(ONE, C, 6.0)
    assert (row.tunnel, row.copies, row.mode) == (B, (), Mode.ONE)
    paft.leave(ONE, B, 6.0)
    assert (row.tunnel, other.tunnel) == (None, None)
