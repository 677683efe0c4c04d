"""Where rendezvous nodes share their triggers: the interface, and the same in memory, which says what a store does.

A place (the first 128 bits of identifiers) is one unit: what is in it changes in one step, or not at all. Triggers are
counted by neighbourhood over all places; that count is taken first, and lags by a trigger's life at most.
"""

from collections.abc import Callable
from typing import Final, Protocol

from msgspec import Struct

from sojourn.errors import SojournError
from sojourn.i3.challenge import NONCE_LIFE, Address
from sojourn.i3.identifier import Identifier, place_of
from sojourn.i3.orders import PutTrigger, Record, StoreFacts, TakeTrigger
from sojourn.i3.packet import Status
from sojourn.i3.table import TRIGGER_LIFE, Target, is_address

# Ours. What one place may have, so that a step is a short one.
MOST_ADDRESSES: Final = 192
MOST_STACKS: Final = 32
MOST_REMOVED: Final = 32


class StoreUnavailable(SojournError):
    """The store, or the part that has this place, does not answer now. Says why."""


class Kept(Struct, frozen=True):
    """What became of an order, and what its place has now."""

    status: Status
    records: tuple[Record, ...]


class TriggerStore(Protocol):
    """All nodes' triggers. Every call may raise StoreUnavailable, within half a second."""

    async def look_up(self, place: bytes) -> tuple[Record, ...]:
        """Return what stands in a place. Its next change will be told."""
        ...

    async def put(self, order: PutTrigger) -> Kept:
        """Keep a trigger, or refresh it: INSERTED, STALE or QUOTA."""
        ...

    async def take(self, order: TakeTrigger) -> Kept:
        """Take a trigger out: REMOVED, STALE, or WRONG if it is a stack of somebody else's."""
        ...

    async def facts(self) -> StoreFacts:
        """Return what all nodes have in common, and be counted as one of them."""
        ...

    async def close(self) -> None:
        """Let go of it. Triggers end by themselves."""
        ...


Changed = Callable[[bytes], None]


class _Entry(Struct):
    record: Record
    until: float


class TriggerBook:
    """A store in memory, under a clock that is an argument. `watch` stands for the caching of each node."""

    def __init__(self, secret: bytes = bytes(32)) -> None:
        self.secret = secret
        self.writes = self.reads = 0
        self._places: dict[bytes, dict[tuple[Identifier, Target], _Entry]] = {}
        self._removed: dict[bytes, dict[tuple[Identifier, Target, Address], tuple[int, float]]] = {}
        self._owners: dict[str, dict[tuple[Identifier, Target], float]] = {}
        self._watching: dict[bytes, set[Changed]] = {}

    def look_up(self, place: bytes, now: float, changed: Changed | None = None) -> tuple[Record, ...]:
        """Return what stands in a place, and tell `changed` once when that is over."""
        self.reads += 1
        if changed is not None:
            self._watching.setdefault(place, set()).add(changed)
        return self._standing(place, now)

    def put(self, order: PutTrigger, now: float, changed: Changed | None = None) -> Kept:
        """Keep or refresh a trigger."""
        record, place = order.record, place_of(order.record.identifier)
        key = (record.identifier, record.target)
        status = self._put(order, key, self._reserve(order, key, now), now)
        return self._written(place, status, now, changed)

    def take(self, order: TakeTrigger, now: float, changed: Changed | None = None) -> Kept:
        """Take a trigger out."""
        place, key = place_of(order.identifier), (order.identifier, order.target)
        known = self._living(place, now).get(key)
        status = Status.REMOVED
        if known is not None and not is_address(order.target) and known.record.owner != order.owner:
            status = Status.WRONG
        elif known is not None and order.number <= known.record.number:
            status = Status.STALE
        else:
            self._living(place, now).pop(key, None)
            removed = self._removed.setdefault(place, {})
            removed[*key, order.owner] = (order.number, now + NONCE_LIFE)
            if len(removed) > MOST_REMOVED:
                del removed[min(removed, key=lambda each: removed[each][1])]
        return self._written(place, status, now, changed)

    def facts(self, now: float) -> StoreFacts:
        """Return what all nodes have in common."""
        return StoreFacts(self.secret, now, sum(len(entries) for entries in self._places.values()))

    def _reserve(self, order: PutTrigger, key: tuple[Identifier, Target], now: float) -> bool:
        mine = {each: until for each, until in self._owners.get(order.neighbourhood, {}).items() if until > now}
        self._owners[order.neighbourhood] = mine
        if key not in mine and len(mine) >= order.room:
            return False
        mine[key] = now + TRIGGER_LIFE
        return True

    def _put(self, order: PutTrigger, key: tuple[Identifier, Target], reserved: bool, now: float) -> Status:
        record, place = order.record, place_of(order.record.identifier)
        entries = self._living(place, now)
        known, until = entries.get(key), now + record.life
        if known is not None:
            if known.record.owner != record.owner:  # the same stack, from somebody else: both want it to stand
                known.until = until
            elif record.number < known.record.number:
                return Status.STALE
            elif record.number > known.record.number:  # else a copy of the last one
                entries[key] = _Entry(record, until)
            return Status.INSERTED
        number, kept = self._removed.get(place, {}).get((*key, record.owner), (-1, 0.0))
        if kept > now and record.number <= number:
            return Status.STALE
        address = is_address(record.target)
        kind = [each for each in entries if is_address(each[1]) is address]
        alike = sum(each[0] == record.identifier for each in kind)
        if not reserved or alike >= order.most or len(kind) >= (MOST_ADDRESSES if address else MOST_STACKS):
            return Status.QUOTA
        entries[key] = _Entry(record, until)
        return Status.INSERTED

    def _living(self, place: bytes, now: float) -> dict[tuple[Identifier, Target], _Entry]:
        entries = self._places.setdefault(place, {})
        for key in [key for key, entry in entries.items() if entry.until <= now]:
            del entries[key]
        return entries

    def _standing(self, place: bytes, now: float) -> tuple[Record, ...]:
        found = []
        for entry in self._living(place, now).values():
            of = entry.record
            found.append(Record(of.identifier, of.target, of.owner, of.number, entry.until - now, of.via))
        return tuple(found)

    def _written(self, place: bytes, status: Status, now: float, changed: Changed | None) -> Kept:
        self.writes += 1
        for watcher in self._watching.pop(place, set()) - {changed}:
            watcher(place)
        if changed is not None:
            self._watching[place] = {changed}
        return Kept(status, self._standing(place, now))


class MemoryTriggers:
    """A TriggerStore of one process: for tests, and for whoever wants to read what a store does."""

    def __init__(self, clock: Callable[[], float], changed: Changed, book: TriggerBook | None = None) -> None:
        self.book = book or TriggerBook()
        self._clock, self._changed = clock, changed

    async def look_up(self, place: bytes) -> tuple[Record, ...]:
        """Return what stands in a place."""
        return self.book.look_up(place, self._clock(), self._changed)

    async def put(self, order: PutTrigger) -> Kept:
        """Keep or refresh a trigger."""
        return self.book.put(order, self._clock(), self._changed)

    async def take(self, order: TakeTrigger) -> Kept:
        """Take a trigger out."""
        return self.book.take(order, self._clock(), self._changed)

    async def facts(self) -> StoreFacts:
        """Return what all nodes have in common."""
        return self.book.facts(self._clock())

    async def close(self) -> None:
        """Do nothing."""
