"""The maps of the kernel path as Python uses them: slots for tunnels, places for rows, what the programs count.

A slot is a tunnel's number in the maps, a place the number of a row's counters. Both are given out again when they are
free. A successor of a dead process finds the maps as they were, and what is in use in them.
"""

import time
from collections.abc import Mapping
from typing import Final, NamedTuple

from sojourn.datapath import kernel_layout as layout
from sojourn.datapath.kernel_layout import TunnelEntry
from sojourn.linux.bpf_map import BpfMap
from sojourn.linux.bpf_ring import BpfRing
from sojourn.linux.bpf_tc import SharedArray
from sojourn.paft import FlowKey

ATTENDED_FOR: Final = 60.0
"""Seconds for which the programs go on without anybody: as long as a data path goes on without control."""
_MOST_WAKES: Final = layout.WAKES_BYTES // (8 + layout.WOKEN.size) - 1
"""As many as the ring holds (each has a header): with so many, others may have found no room."""


class Count(NamedTuple):
    """What was counted of a row or a tunnel; times in seconds of CLOCK_MONOTONIC, 0.0 = never."""

    packets_out: int = 0
    bytes_out: int = 0
    packets_in: int = 0
    bytes_in: int = 0
    out_at: float = 0.0
    in_at: float = 0.0


class Place(NamedTuple):
    """Where a row is in the maps."""

    slot: int
    place: int
    association: int


class Numbers:
    """Small numbers, each in use once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._next = 0
        self._free: list[int] = []

    def take(self) -> int | None:
        """Return a number that is not in use, or None."""
        if self._free:
            return self._free.pop()
        if self._next >= self._most:
            return None
        self._next += 1
        return self._next - 1

    def give_back(self, number: int) -> None:
        """Let a number be used again."""
        self._free.append(number)

    def adopt(self, used: set[int]) -> None:
        """Start with these in use."""
        self._next = max(used, default=-1) + 1
        self._free = [number for number in range(self._next) if number not in used]


class KernelTables:
    """All maps of one loaded object. Methods raise OSError when the kernel refuses."""

    def __init__(self, fds: Mapping[str, int], most_rows: int, most_tunnels: int) -> None:
        """Map what can be mapped; the descriptors stay the caller's."""
        self._rows = {
            family: BpfMap(fds[f"rows{family}"], size, layout.ROW.size) for family, size in layout.ROW_KEY_BYTES.items()
        }
        self._tunnels = BpfMap(fds["tunnels"], layout.SLOT.size, layout.TUNNEL.size)
        self._sources = {
            family: BpfMap(fds[f"sources{family}"], form.size, layout.SENDER.size)
            for family, form in layout.SOURCE.items()
        }
        self._row_counts = SharedArray(fds["row_counts"], layout.COUNTS, most_rows)
        self._tunnel_counts = SharedArray(fds["tunnel_counts"], layout.COUNTS, most_tunnels)
        self._settings = SharedArray(fds["settings"], layout.SETTINGS, 1)
        self._reasons = SharedArray(fds["reasons"], layout.REASON, 2 * len(layout.REASONS))
        self.ring = BpfRing(fds["wakes"], layout.WAKES_BYTES)
        self._places = Numbers(most_rows)
        self._slots = Numbers(most_tunnels)

    def close(self) -> None:
        """Unmap everything."""
        for array in (self._row_counts, self._tunnel_counts, self._settings, self._reasons):
            array.close()
        self.ring.close()

    def attend(self, until: float, device: int, is_anchor: bool, joiner: tuple[int, bytes] = (0, b"")) -> None:
        """Let the programs work until `until`, with the TUN of index `device`, and the `joiner` of Links if any."""
        self._settings[0] = (max(int((until - slept()) * layout.NANOSECONDS), 0), device, int(is_anchor), *joiner)

    def adopt(self) -> tuple[dict[FlowKey, Place], dict[int, TunnelEntry]]:
        """Return what a predecessor has left in the maps: rows, and tunnels by slot."""
        tunnels: dict[int, TunnelEntry] = {}
        for key in list(self._tunnels.keys()):
            value = self._tunnels.look_up(key)
            if value is not None:
                tunnels[layout.SLOT.unpack(key)[0]] = layout.unpack_tunnel(value)
        rows = {}
        for table in self._rows.values():
            for key in list(table.keys()):
                value = table.look_up(key)
                if value is not None:
                    rows[layout.flow_key_of(key)] = Place(*layout.ROW.unpack(value))
        self._slots.adopt(set(tunnels))
        self._places.adopt({place.place for place in rows.values()})
        return rows, tunnels

    # Rows.

    def put_row(self, key: FlowKey, slot: int, association: int, before: Place | None) -> Place | None:
        """Put a row on a tunnel's slot: atomically, if it has been on another. None: there is no room."""
        place = self._places.take() if before is None else before.place
        if place is None:
            return None
        if before is None:
            self._row_counts[place] = (0,) * 8
        try:
            self._rows[layout.family_of(key)].update(layout.row_key(key), layout.ROW.pack(slot, place, association))
        except OSError:
            if before is None:
                self._places.give_back(place)
            raise
        return Place(slot, place, association)

    def drop_row(self, key: FlowKey, place: Place) -> None:
        """Take a row out."""
        self._rows[layout.family_of(key)].delete(layout.row_key(key))
        self._places.give_back(place.place)

    def row_count(self, place: Place) -> Count:
        """Return what was counted of a row."""
        return _count(self._row_counts[place.place])

    # Tunnels.

    def new_slot(self) -> int | None:
        """Return a slot with fresh counters, or None when all are in use."""
        slot = self._slots.take()
        if slot is not None:
            self._tunnel_counts[slot] = (0,) * 8
        return slot

    def put_tunnel(self, slot: int, entry: TunnelEntry, before: TunnelEntry | None) -> None:
        """Write down where a tunnel's packets go to and come from: atomically, each of the two.

        OSError where there is no room for it, and then nothing of it is in the maps any more.
        """
        if before is not None and before.source() != entry.source():
            self._forget_source(slot, before)
        try:
            self._tunnels.update(layout.SLOT.pack(slot), entry.pack())
            self._sources[entry.family].update(entry.source(), entry.sender(slot))
        except OSError:
            self.drop_tunnel(slot, entry)
            raise

    def drop_tunnel(self, slot: int, before: TunnelEntry) -> None:
        """Take a tunnel out; its slot stays in use until `free_slot`."""
        self._forget_source(slot, before)
        self._tunnels.delete(layout.SLOT.pack(slot))

    def free_slot(self, slot: int) -> None:
        """Let a slot be used by another tunnel: no row may be on it any more."""
        self._slots.give_back(slot)

    def tunnel_count(self, slot: int) -> Count:
        """Return what was counted of a tunnel."""
        return _count(self._tunnel_counts[slot])

    def _forget_source(self, slot: int, entry: TunnelEntry) -> None:
        key, sources = entry.source(), self._sources[entry.family]
        value = sources.look_up(key)
        if value is not None and layout.SENDER.unpack(value)[0] == slot:  # it may be another tunnel's by now
            sources.delete(key)

    # Reports.

    def reasons(self) -> dict[str, int]:
        """Return how many packets went up to the engine, or were lost, by reason and direction."""
        found = {}
        for index, name in enumerate(layout.REASONS):
            for inwards, way in enumerate(("out", "in")):
                (count,) = self._reasons[2 * index + inwards]
                if count:
                    found[f"kernel-{name}-{way}"] = count
        return found

    def woken(self) -> set[int] | None:
        """Return the slots that have begun to carry packets; None: there were more than the ring holds."""
        records = list(self.ring.read())
        if len(records) >= _MOST_WAKES:
            return None
        return {layout.WOKEN.unpack(record)[0] for record in records}


def _count(values: tuple[int, ...]) -> Count:
    packets_out, bytes_out, packets_in, bytes_in, out_at, in_at, *_ = values
    second = layout.NANOSECONDS
    return Count(packets_out, bytes_out, packets_in, bytes_in, out_at / second, in_at / second)


def slept() -> float:
    """Return what CLOCK_BOOTTIME is ahead of the programs' clock: the machine's suspended seconds."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
