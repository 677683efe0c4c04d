"""What a node knows of the triggers that it shares with others: a cache of the store's places.

    known     as the store has it: served, until the store says that it has changed or its first trigger may be over
    doubtful  changed, over or gone from the table: looked up again before a packet goes by it
    lent      doubtful, and the store is silent: served for `LENT` seconds at a time, for `OUTAGE` after it was known

Bounded: of more than `MAX_PLACES` the one that was looked up first is forgotten.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from sojourn.i3.challenge import Address
from sojourn.i3.identifier import PLACE_BYTES, Identifier
from sojourn.i3.orders import Record
from sojourn.i3.table import TRIGGER_LIFE, Target, Trigger, TriggerTable, is_address
from sojourn.model import Endpoint

# Ours.
MAX_PLACES: Final = 131072
NOBODY_LIFE: Final = 10.0
"""Seconds for which a place without triggers is known: the store tells of new ones, unless it forgot that we asked."""
LENT: Final = 1.0
OUTAGE: Final = 300.0


class SharedTrigger(Trigger):
    """One that the store has. Where another node's host is behind it, `address` is None and `relay` that node."""

    __slots__ = ("relay",)
    relay: Address | None

    def __init__(self, record: Record, relay: Address | None) -> None:
        leads_on = not is_address(record.target)
        address = record.owner if not leads_on and relay is None else None
        super().__init__(record.identifier, address, record.target if leads_on else (), record.owner)  # type: ignore[arg-type]
        self.number = record.number
        self.relay = relay


class _Place:
    __slots__ = ("records", "since", "until")

    def __init__(self, records: tuple[tuple[Record, float], ...], now: float, until: float) -> None:
        self.records = records
        """Each with the time until which it stands."""
        self.since, self.until = now, until


class SharedTable(TriggerTable):
    """A TriggerTable of what is known. A look-up of anything else leaves its place in `missing`."""

    def __init__(self, here: Iterable[Endpoint]) -> None:
        super().__init__()
        self.via = tuple(sorted(here))
        self.missing: set[bytes] = set()
        self._families = {":" in one.address for one in self.via}
        self._known: OrderedDict[bytes, _Place] = OrderedDict()

    @property
    def places(self) -> int:
        """Places that are cached."""
        return len(self._known)

    def match(self, wanted: Identifier, now: float) -> list[Trigger]:
        """Return what fits, as far as it is known."""
        place = wanted[:PLACE_BYTES]
        known = self._known.get(place)
        if known is None or known.until <= now:
            self.missing.add(place)
            return []
        return super().match(wanted, now)

    def learn(self, place: bytes, records: Iterable[Record], now: float) -> None:
        """Take in what the store has in a place."""
        kept = tuple((record, now + min(record.life, TRIGGER_LIFE)) for record in records)
        self._known.pop(place, None)
        while len(self._known) >= MAX_PLACES:
            oldest, _ = self._known.popitem(last=False)
            self._empty(oldest)
        until = min((until for _, until in kept), default=now + NOBODY_LIFE)
        self._known[place] = _Place(kept, now, until)
        self._fill(place, now)

    def doubt(self, place: bytes | None) -> None:
        """Look a place up before it is used again; None: all of them."""
        for each in list(self._known) if place is None else [place]:
            if (known := self._known.get(each)) is not None:
                known.until = 0.0
                self._empty(each)

    def lend(self, place: bytes, now: float) -> bool:
        """Serve a place as it was last known, because the store is silent; say whether anything is known of it."""
        known = self._known.get(place)
        if known is None or not known.records or now - known.since > OUTAGE:
            return False
        known.until = now + LENT
        self._fill(place, now)
        return True

    def extend(self, identifier: Identifier, target: Target, owner: Address, now: float) -> bool:
        """Let a known trigger of this owner's live on without the store; say whether there is one."""
        place = identifier[:PLACE_BYTES]
        known = self._known.get(place)
        if known is None or now - known.since > OUTAGE:
            return False
        for at, (record, _) in enumerate(known.records):
            if (record.identifier, record.target, record.owner) == (identifier, target, owner):
                known.records = (*known.records[:at], (record, now + TRIGGER_LIFE), *known.records[at + 1 :])
                known.since = now
                return True
        return False

    def own(self, now: float) -> list[tuple[Record, float]]:
        """Return the triggers of our hosts that stand, each with the seconds that it has still."""
        every = (pair for known in self._known.values() for pair in known.records)
        return [(record, until - now) for record, until in every if record.via == self.via and until > now]

    def responsible(self, wanted: Identifier, now: float) -> Endpoint | None:
        """Return the one node by which all that fits is reached; None: this one, or several."""
        relays = {trigger.relay for trigger in self.match(wanted, now) if isinstance(trigger, SharedTrigger)}
        relay = relays.pop() if len(relays) == 1 else None
        return Endpoint(*relay) if relay is not None else None

    def _fill(self, place: bytes, now: float) -> None:
        self._empty(place)
        known = self._known[place]
        for record, until in known.records:
            trigger = SharedTrigger(record, self._relay(record))
            self.add(trigger, now)
            trigger.expires = max(until, known.until)

    def _empty(self, place: bytes) -> None:
        for trigger in self.all_of(place):
            self._take_out(trigger)

    def _relay(self, record: Record) -> Address | None:
        """Return where packets for a trigger go on to: None when its host is ours, or it leads to identifiers."""
        if record.via == self.via or not is_address(record.target):
            return None
        reachable = [one for one in record.via if (":" in one.address) in self._families]
        return (reachable[0].address, reachable[0].port) if reachable else None
