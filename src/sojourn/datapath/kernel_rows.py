"""The rows that the kernel path may carry, kept in step with the Paft, and their counters.

A row is in the maps while it is ordinary: on one plain tunnel that is in the maps, not blocked, of a protocol that the
programs know, and no signal of ours. What changes a row only marks it (`Paft.shadow`, `Paft.on_placed`); `flush` writes
what is marked, between two packets, so that a handover of ten thousand rows is not written twice.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Final

from sojourn.datapath.forwarder import Forwarder
from sojourn.datapath.kernel_tables import Count, KernelTables, Place, slept
from sojourn.model import ICMP, ICMPV6, TCP, UDP, AssociationId, TunnelId
from sojourn.paft import FlowKey, Mode, Row, Shadow

SLICE: Final = 2000
"""Rows whose counters are read at a time: some 2 ms."""
_CARRIED: Final = frozenset((TCP, UDP, ICMP, ICMPV6))


class KernelRows:
    """A `Shadow` of the table."""

    def __init__(self, forwarder: Forwarder, tables: KernelTables, slot_of: Callable[[TunnelId], int | None]) -> None:
        """Follow the forwarder's table, on behalf of another shadow, too, if it has one."""
        self._forwarder = forwarder
        self._tables = tables
        self._slot_of = slot_of
        self._keys: dict[Row, FlowKey] = {}
        self._places: dict[FlowKey, Place] = {}
        self._on_slot: dict[int, set[FlowKey]] = {}
        self._seen: dict[FlowKey, Count] = {}
        self._dirty: dict[FlowKey, None] = {}
        self._unanswered: dict[FlowKey, None] = {}
        """Host: begun by their correspondents, nothing sent yet."""
        self._roomless: dict[int, dict[FlowKey, None]] = {}
        """Those for which there was no room, by the length of their keys: each family has a map of its own, and all of
        them one for counts. When a row has gone, the newest that may fit there is looked at again."""
        self._rest: Iterator[FlowKey] | None = None
        self._next: Shadow | None = forwarder.paft.shadow
        self._next_placed = forwarder.paft.on_placed
        for key, row in forwarder.paft.rows.items():
            self._keys[row] = key
            self._dirty[key] = None
        forwarder.paft.shadow = self
        forwarder.paft.on_placed = self.placed

    def __len__(self) -> int:
        return len(self._places)

    def detach(self) -> None:
        """Follow no longer."""
        self._forwarder.paft.shadow = self._next
        self._forwarder.paft.on_placed = self._next_placed

    def adopt(self, places: Mapping[FlowKey, Place]) -> None:
        """Take over what a predecessor has left; `forget_strangers` later drops what nobody has claimed."""
        for key, place in places.items():
            self._put_down(key, place, None)
        self._seen.update((key, self._tables.row_count(place)) for key, place in places.items())

    def forget_strangers(self) -> None:
        """Drop the rows in the maps that the table does not have."""
        self._dirty.update(dict.fromkeys(key for key in self._places if key not in self._forwarder.paft.rows))

    # What the table tells.

    def added(self, key: FlowKey, row: Row) -> None:
        """Take note of a row that was put in."""
        self._keys[row] = key
        self._dirty[key] = None
        if self._next is not None:
            self._next.added(key, row)

    def removed(self, row: Row) -> None:
        """Take note of one that was taken out, and of what it has carried."""
        key = self._keys.pop(row, None)
        if key is not None:
            self._count(key, row)
            self._dirty[key] = None
        if self._next is not None:
            self._next.removed(row)

    def placed(self, row: Row) -> None:
        """Take note of one that has moved."""
        key = self._keys.get(row)
        if key is not None:
            self._dirty[key] = None
        if self._next_placed is not None:
            self._next_placed(row)

    def recheck(self) -> None:
        """Look again at rows that have perhaps become ordinary, now that the engine has sent packets."""
        if self._unanswered:
            self._dirty.update(self._unanswered)
            self._unanswered.clear()

    def tunnel_came(self, association: AssociationId, tunnel: TunnelId) -> None:
        """Take note of a tunnel that is in the maps now."""
        rows = self._forwarder.paft.of(association).items()
        self._dirty.update((key, None) for key, row in rows if row.tunnel == tunnel)

    def leave_slot(self, slot: int) -> None:
        """Take all rows of a slot out, at once, that are not to be there."""
        self._dirty.update(dict.fromkeys(self._on_slot.get(slot, ())))
        self.flush()

    # Writing.

    def flush(self) -> None:
        """Write down what has changed."""
        if self._dirty:
            dirty, self._dirty = self._dirty, {}
            for key in dirty:
                self._settle(key)

    def _settle(self, key: FlowKey) -> None:
        row, before = self._forwarder.paft.rows.get(key), self._places.get(key)
        self._waiting_with(key).pop(key, None)
        slot = self._slot(key, row) if row is not None else None
        try:
            if row is None or slot is None:
                if before is not None:
                    self._drop(key, row, before)
            elif before is None or before.slot != slot or before.association != row.association:
                self._put(key, row, slot, before)
        except OSError:  # no memory, or no room
            self._no_room(key)
            if before is not None:
                with contextlib.suppress(OSError):
                    self._drop(key, row, before)  # the programs must not go on where it was

    def _no_room(self, key: FlowKey) -> None:
        """Leave a row to the engine until there is room again."""
        self._forwarder.totals["kernel-full"] += 1
        self._waiting_with(key)[key] = None

    def _waiting_with(self, key: FlowKey) -> dict[FlowKey, None]:
        return self._roomless.setdefault(len(key), {})

    def _put(self, key: FlowKey, row: Row, slot: int, before: Place | None) -> None:
        place = self._tables.put_row(key, slot, row.association, before)
        if place is None:
            self._no_room(key)
            return
        self._put_down(key, place, before)
        if before is None:
            self._seen[key] = Count()

    def _put_down(self, key: FlowKey, place: Place | None, before: Place | None) -> None:
        """Keep the index by slot in step with `_places`."""
        if before is not None:
            keys = self._on_slot[before.slot]
            keys.discard(key)
            if not keys:
                del self._on_slot[before.slot]
        if place is None:
            del self._places[key]
        else:
            self._places[key] = place
            self._on_slot.setdefault(place.slot, set()).add(key)

    def _drop(self, key: FlowKey, row: Row | None, before: Place) -> None:
        self._tables.drop_row(key, before)
        if row is not None:
            self._count(key, row)
        self._put_down(key, None, before)
        del self._seen[key]
        for waiting in (self._waiting_with(key), *self._roomless.values()):
            if waiting:
                self._dirty[waiting.popitem()[0]] = None
                break

    def _slot(self, key: FlowKey, row: Row) -> int | None:
        """Return the slot on which the programs may carry a row, or None."""
        forwarder = self._forwarder
        if row.tunnel is None or row.mode is not Mode.ONE or row.blocked or key[0] not in _CARRIED:
            return None
        if not (row.packets_out or forwarder.is_anchor) and row.origin is None:
            self._unanswered[key] = None  # who made it is asked with the first answer (rows.py)
            return None
        setup = forwarder.setup
        if key[0] == UDP and setup is not None and int.from_bytes(key[-2:]) == setup.signal_port:
            size = (len(key) - 5) // 2
            if key[1 + size : -4] in forwarder.inner_addresses:
                return None
        return self._slot_of(row.tunnel)

    # Counters.

    def count_some(self) -> bool:
        """Read the counters of the next slice of rows; say whether that was the last slice."""
        if self._rest is None:
            self._rest = iter(list(self._places))
        keys = list(islice(self._rest, SLICE))
        for key in keys:
            row = self._forwarder.paft.rows.get(key)
            if row is not None:
                self._count(key, row)
        if len(keys) < SLICE:
            self._rest = None
        return self._rest is None

    def count_all(self) -> None:
        """Read all counters, for a report."""
        rows = self._forwarder.paft.rows
        for key in self._places:
            row = rows.get(key)
            if row is not None:
                self._count(key, row)

    def _count(self, key: FlowKey, row: Row) -> None:
        place, seen = self._places.get(key), self._seen.get(key)
        if place is None or seen is None:
            return
        count = self._tables.row_count(place)
        if count == seen:
            return
        self._seen[key] = count
        row.packets_out += count.packets_out - seen.packets_out
        row.bytes_out += count.bytes_out - seen.bytes_out
        row.packets_in += count.packets_in - seen.packets_in
        row.bytes_in += count.bytes_in - seen.bytes_in
        row.last_used = max(row.last_used, max(count.out_at, count.in_at) + slept())
