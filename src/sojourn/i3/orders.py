"""What a node that shares its triggers asks of the store, and what it is told: a machine never awaits one.

    LookUpTrigger  ->  TriggersFound, or StoreSilent        PutTrigger, TakeTrigger  ->  TriggerDone, or StoreSilent

Unasked come TriggersChanged, for each place that was looked up or written and has changed since; StoreFacts; StoreBack.
"""

from msgspec import Struct

from sojourn.i3.challenge import Address
from sojourn.i3.identifier import Identifier, place_of
from sojourn.i3.packet import Status
from sojourn.i3.table import Target
from sojourn.model import Endpoint


class Record(Struct, frozen=True):
    """A trigger as the store has it."""

    identifier: Identifier
    target: Target
    owner: Address
    """Who has inserted it; the same as a target that is an address."""
    number: int
    life: float
    """Seconds that it stands from the moment of asking."""
    via: tuple[Endpoint, ...]
    """The addresses of the node that its owner speaks to: NATs let in what comes from there only."""


class LookUpTrigger(Struct, frozen=True):
    """Order: all triggers of a place."""

    place: bytes


class PutTrigger(Struct, frozen=True):
    """Order: keep a trigger, or let it live on."""

    ticket: int
    record: Record
    most: int
    """Triggers of its kind that its identifier may have."""
    neighbourhood: str
    room: int
    """Triggers that this neighbourhood may have, at all nodes together."""

    @property
    def place(self) -> bytes:
        """Where it is."""
        return place_of(self.record.identifier)


class TakeTrigger(Struct, frozen=True):
    """Order: take a trigger out, and let no request up to this number bring it back."""

    ticket: int
    identifier: Identifier
    target: Target
    owner: Address
    number: int

    @property
    def place(self) -> bytes:
        """Where it is."""
        return place_of(self.identifier)


Order = LookUpTrigger | PutTrigger | TakeTrigger


class TriggersFound(Struct, frozen=True):
    """What a place has."""

    place: bytes
    records: tuple[Record, ...]


class TriggerDone(Struct, frozen=True):
    """What became of a PutTrigger or TakeTrigger, and what its place has now."""

    order: PutTrigger | TakeTrigger
    status: Status
    records: tuple[Record, ...]


class StoreSilent(Struct, frozen=True):
    """The store did not answer an order."""

    order: Order


class TriggersChanged(Struct, frozen=True):
    """A place is not any more what we were told of it; None: nothing is certain any more."""

    place: bytes | None


class StoreFacts(Struct, frozen=True):
    """What all nodes have in common."""

    secret: bytes
    """32 bytes that challenges are made with."""
    clock: float
    """The store's time in seconds: what challenges are dated by."""
    triggers: int
    """In all, about."""
    nodes: tuple[str, ...] = ()
    """Addresses of all nodes: what they relay is no host's."""


class StoreBack(Struct, frozen=True):
    """A part of the store that was silent answers again; it may have forgotten what it had."""


Event = TriggersFound | TriggerDone | StoreSilent | TriggersChanged | StoreFacts | StoreBack
