"""Slots, places and counters in real maps."""

import os
from collections.abc import Iterator

import pytest

from sojourn.datapath import kernel_objects
from sojourn.datapath.kernel_layout import Flag, TunnelEntry
from sojourn.datapath.kernel_tables import Count, KernelTables, Numbers, Place
from sojourn.linux.bpf import close_all
from sojourn.model import Endpoint
from sojourn.upmt.commands import Role

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: BPF maps")
KEY, OTHER = bytes(range(13)), bytes(range(37))
ENTRY = TunnelEntry(5, 7, 2, 1420, Flag.USABLE, Endpoint("192.0.2.1", 4700), Endpoint("203.0.113.1", 1800))
ELSEWHERE = TunnelEntry(5, 7, 2, 1420, Flag.USABLE, Endpoint("192.0.2.1", 4700), Endpoint("203.0.113.1", 1801))


@pytest.fixture
def fds() -> Iterator[dict[str, int]]:
    loaded = kernel_objects.load(Role.HOST)
    yield {name.rpartition("/")[2]: fd for name, fd in loaded.items()}
    close_all(loaded.values())


def tables(fds: dict[str, int]) -> KernelTables:
    return KernelTables(fds, kernel_objects.MOST_ROWS[Role.HOST], kernel_objects.MOST_TUNNELS[Role.HOST])


def test_a_number_is_in_use_once_and_used_again() -> None:
    numbers = Numbers(2)
    assert [numbers.take(), numbers.take(), numbers.take()] == [0, 1, None]
    numbers.give_back(0)
    assert [numbers.take(), numbers.take()] == [0, None]
    adopted = Numbers(4)
    adopted.adopt({0, 2})
    assert {adopted.take(), adopted.take()} == {1, 3}
    assert adopted.take() is None


@needs_root
def test_what_is_put_in_is_what_a_successor_finds(fds: dict[str, int]) -> None:
    first = tables(fds)
    slot = first.new_slot()
    assert slot == 0
    first.put_tunnel(slot, ENTRY, None)
    places = {key: first.put_row(key, slot, 7, None) for key in (KEY, OTHER)}
    assert places == {KEY: Place(0, 0, 7), OTHER: Place(0, 1, 7)}
    first.close()

    second = tables(fds)
    assert second.adopt() == (places, {0: ENTRY})
    assert second.new_slot() == 1
    assert second.put_row(bytes(13), 0, 7, None) == Place(0, 2, 7)
    second.close()


@needs_root
def test_a_row_that_moves_keeps_its_counters_and_one_that_is_new_begins_at_nothing(fds: dict[str, int]) -> None:
    held = tables(fds)
    place = held.put_row(KEY, 0, 7, None)
    assert place is not None
    held._row_counts[place.place] = (3, 300, 4, 400, 5_000_000_000, 6_000_000_000, 0, 0)
    moved = held.put_row(KEY, 1, 7, place)
    assert moved == Place(1, place.place, 7)
    assert held.row_count(moved) == Count(3, 300, 4, 400, 5.0, 6.0)
    held.drop_row(KEY, moved)
    held.drop_row(KEY, moved._replace(place=9))  # harmless
    again = held.put_row(OTHER, 1, 7, None)
    assert again is not None
    assert held.row_count(again) == Count()
    held.close()


@needs_root
def test_a_tunnel_that_has_moved_is_found_at_its_new_address_only(fds: dict[str, int]) -> None:
    held = tables(fds)
    held.put_tunnel(0, ENTRY, None)
    held.put_tunnel(0, ELSEWHERE, ENTRY)
    assert held._sources[4].look_up(ENTRY.source()) is None
    held.put_tunnel(1, ENTRY, None)
    held.drop_tunnel(0, ELSEWHERE)
    assert held._sources[4].look_up(ELSEWHERE.source()) is None
    held.drop_tunnel(0, ENTRY)
    assert held._sources[4].look_up(ENTRY.source()) is not None, "it is another tunnel's"
    held.close()


@needs_root
def test_when_there_is_no_room_that_is_said(fds: dict[str, int]) -> None:
    held = KernelTables(fds, 1, 1)
    assert held.put_row(KEY, 0, 7, None) is not None
    assert held.put_row(OTHER, 0, 7, None) is None
    assert [held.new_slot(), held.new_slot()] == [0, None]
    held.close()


@needs_root
def test_reasons_are_named_with_their_direction(fds: dict[str, int]) -> None:
    held = tables(fds)
    assert held.reasons() == {}
    held._reasons[2 * 1 + 0] = (5,)
    held._reasons[2 * 8 + 1] = (6,)
    assert held.reasons() == {"kernel-no-row-out": 5, "kernel-congestion-in": 6}
    held.close()
