"""When rows end."""

import pytest

from sojourn.datapath.expiry import (
    CLOSED_TCP_IDLE,
    ICMP_IDLE,
    ONE_WAY_IDLE,
    SLICE,
    SLICE_EVERY,
    SLICE_EVERY_WHILE_MANY_END,
    TCP_IDLE,
    UDP_IDLE,
    WAITING_IDLE,
    Sweep,
    lifetime,
    note_tcp_flags,
)
from sojourn.model import ICMP, TCP, UDP, AssociationId
from sojourn.paft import Paft, Row


def row() -> Row:
    return Row(AssociationId(1), None, 0.0)


def test_flows_live_as_long_as_a_nat_would_let_them() -> None:
    both_ways = row()
    both_ways.packets_in = both_ways.packets_out = 1
    lives = [lifetime(bytes((protocol,)), both_ways) for protocol in (TCP, UDP, ICMP, 132)]
    assert lives == [TCP_IDLE, UDP_IDLE, ICMP_IDLE, UDP_IDLE]


def test_what_nobody_has_answered_is_forgotten_sooner() -> None:
    assert [lifetime(bytes((protocol,)), row()) for protocol in (TCP, UDP, ICMP)] == [
        TCP_IDLE, ONE_WAY_IDLE, ICMP_IDLE]  # fmt: skip


@pytest.mark.parametrize(("flags", "closes"), [(0x11, True), (0x04, True), (0x14, True), (0x10, False), (0x12, False)])
def test_fin_and_rst_close_a_connection(flags: int, closes: bool) -> None:
    closed = row()
    note_tcp_flags(closed, flags, 5.0)
    assert (closed.closing == 5.0) is closes
    assert lifetime(bytes((TCP,)), closed) == (CLOSED_TCP_IDLE if closes else TCP_IDLE)


def test_a_new_syn_on_the_same_ports_opens_the_row_again() -> None:
    closed = row()
    note_tcp_flags(closed, 0x04, 5.0)
    note_tcp_flags(closed, 0x02, 6.0)
    assert closed.closing == 0.0


def test_a_flow_with_a_kept_packet_is_remembered_for_an_hour() -> None:
    waiting = row()
    waiting.kept = b"packet"
    assert lifetime(bytes((UDP,)), waiting) == WAITING_IDLE


def test_the_table_is_swept_in_slices_and_every_dead_row_is_found() -> None:
    paft = Paft()
    for number in range(3 * SLICE):
        new = row()
        new.last_used = 1000.0 if number % 3 else 0.0
        paft.add(bytes((UDP,)) + number.to_bytes(4), new)
    sweep, gone, now = Sweep(paft), set[bytes](), 1000.0
    largest = 0
    while now < 1012.0:
        now = max(now, sweep.due)
        found = sweep.expired(now)
        largest = max(largest, len(found))
        gone |= set(found)
        for key in found:
            paft.remove(key)
    assert len(gone) == SLICE
    assert largest <= SLICE // 2
    assert sweep.expired(now) == []


def table(rows: int, last_used: float) -> Paft:
    paft = Paft()
    for number in range(rows):
        new = row()
        new.last_used = last_used
        paft.add(bytes((UDP,)) + number.to_bytes(4), new)
    return paft


def test_a_large_table_is_swept_fast_only_while_many_of_its_rows_end() -> None:
    sweep = Sweep(table(3 * SLICE, 1000.0))
    sweep.expired(1000.0)  # the walk begins
    begun = sweep.due
    assert sweep.expired(begun) == []
    assert sweep.due == begun + SLICE_EVERY
    later = sweep.due + UDP_IDLE
    assert len(sweep.expired(later)) == SLICE
    assert sweep.due == later + SLICE_EVERY_WHILE_MANY_END


def test_counts_are_not_fetched_for_rows_that_cannot_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Row] = []

    def told(_key: bytes, row: Row) -> float:
        asked.append(row)
        return UDP_IDLE

    monkeypatch.setattr("sojourn.datapath.expiry.lifetime", told)
    sweep = Sweep(table(10, 1000.0))
    sweep.expired(1000.0)
    assert sweep.expired(1000.0 + ONE_WAY_IDLE) == []
    assert asked == []
    assert sweep.expired(1001.0 + ONE_WAY_IDLE + SLICE_EVERY * 100) == []
    assert len(asked) == 10


def test_a_row_that_has_taken_the_place_of_an_old_one_stays() -> None:
    paft = table(2 * SLICE, 0.0)
    sweep = Sweep(paft)
    sweep.expired(1000.0)  # the walk begins: what is there now is what it will look at
    assert len(sweep.expired(sweep.due)) == SLICE
    key = list(paft.rows)[-1]
    paft.remove(key)
    new = row()
    new.last_used = sweep.due
    paft.add(key, new)
    assert key not in sweep.expired(sweep.due)
