"""Slots: a network keeps its own, for the epochs of its tunnel go on there."""

from sojourn.upmt.lease import SLOTS
from sojourn.upmt.slots import Slots


def test_a_network_keeps_its_slot_for_good() -> None:
    slots = Slots({"wifi": 3})
    assert not slots.take("wifi", set())
    assert slots.take("cellular", {3})
    assert slots.by_name == {"wifi": 3, "cellular": 0}
    assert not slots.take("cellular", {3})
    assert Slots(slots.by_name).by_name == {"wifi": 3, "cellular": 0}


def test_when_all_slots_are_known_that_of_a_network_not_here_now_is_taken() -> None:
    slots = Slots({f"old{slot}": slot for slot in range(SLOTS)})
    in_use = set(range(SLOTS)) - {7}
    assert slots.take("new", in_use)
    assert slots.by_name["new"] == 7
    assert "old7" not in slots.by_name
    assert len(slots.by_name) == SLOTS


def test_a_seventeenth_network_shares_the_last_slot() -> None:
    slots = Slots({f"net{slot}": slot for slot in range(SLOTS)})
    assert slots.take("new", set(range(SLOTS)))
    assert slots.by_name["new"] == SLOTS - 1
    assert f"net{SLOTS - 1}" not in slots.by_name


def test_slots_that_cannot_be_are_not_believed() -> None:
    assert Slots({"a": -1, "b": SLOTS, "c": 2}).by_name == {"c": 2}
    slots = Slots({"a": 2, "b": 2})
    assert slots.by_name == {"a": 2}, "two networks with one tunnel would take it from each other"
