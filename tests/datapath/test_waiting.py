"""Kept packets: the newest of each flow, within bounds."""

from sojourn.datapath.waiting import Waiting
from sojourn.model import AssociationId
from sojourn.paft import Paft, Row


def table(flows: int, most_flows: int = 4, most_bytes: int = 1000) -> tuple[Paft, Waiting, list[bytes]]:
    paft, keys = Paft(), [bytes((number,)) for number in range(flows)]
    for key in keys:
        paft.add(key, Row(AssociationId(1), None, 0.0))
    return paft, Waiting(paft, most_flows, most_bytes), keys


def test_the_newest_packet_of_a_flow_replaces_the_one_before() -> None:
    paft, waiting, (key,) = table(1)
    row = paft.rows[key]
    waiting.keep(key, row, b"old")
    waiting.keep(key, row, b"new")
    assert (len(waiting), waiting.dropped) == (1, 1)
    assert waiting.take(key, row) == b"new"
    assert waiting.take(key, row) is None
    assert len(waiting) == 0


def test_when_full_the_flow_that_has_waited_longest_gives_its_packet_up() -> None:
    paft, waiting, keys = table(5)
    for key in keys:
        waiting.keep(key, paft.rows[key], b"packet")
    assert [paft.rows[key].kept for key in keys] == [None, *[b"packet"] * 4]


def test_bytes_are_bounded_as_well() -> None:
    paft, waiting, keys = table(4)
    for key in keys:
        waiting.keep(key, paft.rows[key], bytes(400))
    assert len(waiting) == 2
    for key, row in waiting.rows(AssociationId(1)):
        waiting.take(key, row)
    for key in keys[:2]:
        waiting.keep(key, paft.rows[key], bytes(400))
    assert len(waiting) == 2


def test_a_flow_that_ended_is_forgotten() -> None:
    paft, waiting, keys = table(2)
    for key in keys:
        waiting.keep(key, paft.rows[key], b"packet")
    paft.remove(keys[0])
    assert [key for key, _ in waiting.rows(AssociationId(1))] == [keys[1]]
    assert len(waiting) == 1
