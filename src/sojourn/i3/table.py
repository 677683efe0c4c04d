"""The triggers of a node: found by exact 128 bits and the longest prefix beyond, forgotten when not refreshed.

A place (the first 128 bits) with a single trigger, which is nearly every one, holds it directly; a place with more
holds a `Crowd` that keeps its identifiers in order. Times: a trigger lives for TRIGGER_LIFE after its last refresh; a
wheel of one-second slots holds each trigger once and looks at it when its time may have come.

A removed trigger's number is kept for as long as a nonce lives, so that a copy of the request that made it
cannot bring it back.
"""

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, TypeGuard

from sojourn.i3.challenge import NONCE_LIFE, Address
from sojourn.i3.identifier import PLACE_BYTES, Identifier

# The protocol's (i3).
TRIGGER_LIFE: Final = 30.0
REFRESH: Final = 20.0

# Ours.
MAX_ADDRESSES: Final = 64
"""Addresses that one identifier may lead to: as many as a packet may have copies."""
MAX_STACKS: Final = 8
"""Further stacks beside: others may add those, and must not crowd out the owner's."""
UNPROVED_TRIGGERS: Final = 4
"""Addresses that a public identifier without proof may lead to."""
MAX_IDENTIFIERS: Final = 4096
"""Identifiers in one place: members of one anycast group."""
MAX_REMOVED: Final = 65536
SLICE: Final = 2000
"""Triggers that one `expire` looks at."""

Target = Address | tuple[Identifier, ...]
"""A stack is a tuple of bytes, an address one of text and number."""


def is_address(target: Target) -> TypeGuard[Address]:
    """Say whether a target is an address; else it is a stack."""
    return len(target) == 2 and isinstance(target[1], int)


class Trigger:
    """One way from an identifier."""

    __slots__ = ("address", "expires", "identifier", "number", "owner", "stack")

    relay: Address | None = None
    """Another node that packets go on to; only where triggers are shared (shared_table.py)."""

    def __init__(
        self, identifier: Identifier, address: Address | None, stack: tuple[Identifier, ...], owner: Address
    ) -> None:
        self.identifier = identifier
        self.address = address
        """Where packets go; None where they go on to the identifiers of `stack`."""
        self.stack = stack
        self.owner = owner
        """Who has inserted it; the same as `address` where there is one."""
        self.number = 0
        """Of the newest request for it."""
        self.expires = 0.0

    @property
    def target(self) -> Target:
        """Where it leads."""
        return self.address if self.address is not None else self.stack


class Crowd:
    """Several triggers in one place. Identifiers are numbers here: prefixes are then shifts."""

    __slots__ = ("identifiers", "triggers")

    def __init__(self) -> None:
        self.identifiers: list[int] = []
        """In order."""
        self.triggers: dict[int, list[Trigger]] = {}

    def add(self, trigger: Trigger) -> None:
        """Put a trigger in: those to addresses stand first."""
        number = int.from_bytes(trigger.identifier)
        own = self.triggers.get(number)
        if own is None:
            own = self.triggers[number] = []
            insort(self.identifiers, number)
        if trigger.address is None:
            own.append(trigger)
        else:
            own.insert(0, trigger)

    def remove(self, trigger: Trigger) -> None:
        """Take a trigger out."""
        number = int.from_bytes(trigger.identifier)
        own = self.triggers[number]
        own.remove(trigger)
        if not own:
            del self.triggers[number]
            del self.identifiers[bisect_left(self.identifiers, number)]

    def nearest(self, wanted: int) -> int:
        """Return the identifier with the longest common prefix.

        Several may have it in common. They stand side by side, and the bits of `wanted` that follow pick one: the same
        for the same bits, and each as often as any other where those are random.
        """
        order = self.identifiers
        after = bisect_left(order, wanted)
        differ = min(order[place] ^ wanted for place in (after - 1, after) if 0 <= place < len(order))
        if not differ:
            return wanted
        bit = differ.bit_length() - 1
        first = (wanted >> bit ^ 1) << bit
        low, high = bisect_left(order, first), bisect_left(order, first + (1 << bit))
        return order[low + ((wanted & (1 << bit) - 1) * (high - low) >> bit)]


class TriggerTable:
    """All triggers of one node, in memory."""

    def __init__(self) -> None:
        self._places: dict[bytes, Trigger | Crowd] = {}
        self._wheel: dict[int, list[Trigger]] = {}
        self._removed: OrderedDict[Hashable, tuple[int, float]] = OrderedDict()
        """(identifier, target, owner) -> number of the removal, and until when it is kept; the oldest first."""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def match(self, wanted: Identifier, now: float) -> list[Trigger]:
        """Return the triggers of the identifier that fits best, those to addresses first."""
        found = self._places.get(wanted[:PLACE_BYTES])
        if found is None:
            return []
        if type(found) is Trigger:
            return [found] if found.expires > now else []
        while isinstance(found, Crowd):
            own = found.triggers[found.nearest(int.from_bytes(wanted))]
            living = [trigger for trigger in own if trigger.expires > now]
            if len(living) < len(own):  # `expire` is late
                for trigger in [trigger for trigger in own if trigger.expires <= now]:
                    self._take_out(trigger)
            if living:
                return living
            found = self._places.get(wanted[:PLACE_BYTES])
        return [found] if found is not None and found.expires > now else []

    def sole(self, place: bytes) -> Trigger | None:
        """Return the only trigger of a place, or None if it has none or several."""
        found = self._places.get(place)
        return found if type(found) is Trigger else None

    def of(self, identifier: Identifier) -> list[Trigger]:
        """Return the triggers of exactly this identifier, also those that are about to be forgotten."""
        found = self._places.get(identifier[:PLACE_BYTES])
        if isinstance(found, Crowd):
            return found.triggers.get(int.from_bytes(identifier), [])
        return [found] if found is not None and found.identifier == identifier else []

    def all_of(self, place: bytes) -> list[Trigger]:
        """Return all triggers of a place."""
        found = self._places.get(place)
        if isinstance(found, Crowd):
            return [trigger for own in found.triggers.values() for trigger in own]
        return [found] if found is not None else []

    def get(self, identifier: Identifier, target: Target) -> Trigger | None:
        """Return the trigger that leads from here to there."""
        return next((trigger for trigger in self.of(identifier) if trigger.target == target), None)

    def crowded(self, identifier: Identifier, *, on: bool, unproved: bool) -> bool:
        """Say whether an identifier has all the triggers that it may have. `on`: one to further identifiers."""
        own = self.of(identifier)
        found = self._places.get(identifier[:PLACE_BYTES])
        if not own and isinstance(found, Crowd) and len(found.identifiers) >= MAX_IDENTIFIERS:
            return True
        most = MAX_STACKS if on else UNPROVED_TRIGGERS if unproved else MAX_ADDRESSES
        return sum((trigger.address is None) is on for trigger in own) >= most

    def add(self, trigger: Trigger, now: float) -> None:
        """Put a new trigger in, alive from now on."""
        place = trigger.identifier[:PLACE_BYTES]
        found = self._places.get(place)
        if found is None:
            self._places[place] = trigger
        elif isinstance(found, Crowd):
            found.add(trigger)
        else:
            crowd = self._places[place] = Crowd()
            crowd.add(found)
            crowd.add(trigger)
        self._count += 1
        self.refresh(trigger, now)
        self._wheel.setdefault(int(trigger.expires) + 1, []).append(trigger)

    @staticmethod
    def refresh(trigger: Trigger, now: float) -> None:
        """Let a trigger live on. The wheel finds out when it looks at it."""
        trigger.expires = now + TRIGGER_LIFE

    def remove(self, trigger: Trigger, number: int, now: float) -> None:
        """Take a trigger out because its owner says so, and remember that."""
        self._take_out(trigger)
        self.forbid(trigger.identifier, trigger.target, trigger.owner, number, now)

    def forbid(self, identifier: Identifier, target: Target, owner: Address, number: int, now: float) -> None:
        """Let no request up to `number` of this owner's make this trigger any more."""
        key = (identifier, target, owner)
        self._removed.pop(key, None)
        self._removed[key] = (number, now + NONCE_LIFE)
        if len(self._removed) > MAX_REMOVED:
            self._removed.popitem(last=False)

    def removed(self, identifier: Identifier, target: Target, owner: Address, now: float) -> int:
        """Return the number under which this owner's trigger was removed, -1 if it was not."""
        while self._removed:
            key, (_, until) = next(iter(self._removed.items()))
            if until > now:
                break
            del self._removed[key]
        return self._removed.get((identifier, target, owner), (-1, 0.0))[0]

    def deadline(self) -> float | None:
        """When `expire` wants to be called next."""
        return float(min(self._wheel)) if self._wheel else None

    def expire(self, now: float) -> list[Trigger]:
        """Forget what was not refreshed, `SLICE` triggers at most; return these and what was removed before its time.

        Each trigger that was ever added is returned once: until then it takes memory.
        """
        gone: list[Trigger] = []
        for slot in sorted(slot for slot in self._wheel if slot <= now):
            due = self._wheel[slot]
            looked = due[-SLICE:]
            del due[-SLICE:]
            if not due:
                del self._wheel[slot]
            gone += [trigger for trigger in looked if self._over(trigger, now)]
            if len(looked) == SLICE:
                break
        return gone

    def _over(self, trigger: Trigger, now: float) -> bool:
        if trigger.expires > now:
            self._wheel.setdefault(int(trigger.expires) + 1, []).append(trigger)
            return False
        if trigger.expires >= 0.0:
            self._take_out(trigger)
        return True

    def _take_out(self, trigger: Trigger) -> None:
        """Take a trigger out of its place. The wheel still has it, and lets go of it in its time."""
        trigger.expires = -1.0
        self._count -= 1
        place = trigger.identifier[:PLACE_BYTES]
        found = self._places[place]
        if found is trigger:
            del self._places[place]
            return
        assert isinstance(found, Crowd)
        found.remove(trigger)
        if len(found.identifiers) == 1 and len(found.triggers[found.identifiers[0]]) == 1:
            self._places[place] = found.triggers[found.identifiers[0]][0]
