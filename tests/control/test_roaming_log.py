"""The roaming log: bounded, numbered, readable again after a restart."""

from hypothesis import given
from hypothesis import strategies as st

from sojourn.control.roaming_log import MAX_TEXT, RoamingEntry, RoamingLog


def test_entries_are_numbered_and_the_newest_are_kept() -> None:
    log = RoamingLog(kept=3)
    for index in range(5):
        log.add(float(index), "network_up", network=f"eth{index}")
    assert [entry.number for entry in log.entries()] == [3, 4, 5]
    assert [entry.number for entry in log.entries(limit=2)] == [4, 5]
    assert [entry.number for entry in log.entries(after=4)] == [5]
    assert log.entries(limit=0) == []


def test_what_was_written_is_read_again_and_numbers_go_on() -> None:
    lines: list[bytes] = []
    before = RoamingLog(lines.append)
    before.add(1.5, "silent", network="wlan0", decision="moved 3 flows", reason="no answer", gap_ms=231.0, flows=3)
    after = RoamingLog()
    after.restore([b"garbage", *lines, b'{"number": "x"}', b"\xff"])
    assert after.entries() == before.entries()
    assert after.add(2.0, "recovered").number == 2


def test_listeners_hear_of_new_entries_until_they_stop() -> None:
    log, heard = RoamingLog(), list[RoamingEntry]()
    stop = log.listen(heard.append)
    first = log.add(1.0, "a")
    stop()
    stop()
    log.add(2.0, "b")
    assert heard == [first]


def test_a_reason_that_quotes_a_peer_is_cut() -> None:
    entry = RoamingLog().add(1.0, "refused", reason="x" * 10_000)
    assert entry.reason is not None
    assert len(entry.reason) == MAX_TEXT


@given(st.lists(st.binary(max_size=80)))
def test_any_file_can_be_restored_from(lines: list[bytes]) -> None:
    log = RoamingLog()
    log.restore(lines)
    assert log.add(1.0, "started").number >= 1
