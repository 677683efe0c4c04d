"""A rendezvous node among others that have the same triggers, in a store: it keeps nothing that another couldn't know.

`handle` is a RendezvousNode's. What it wants of the store stands in `orders` afterwards; the answers come to `told`,
which returns datagrams, too. A packet or request whose places aren't known waits, `MAX_WAITING` of them at most.

A trigger is reached by the node that its host speaks to (`via`): a packet for another node's host is relayed to that,
and a sender who asks is told of it. While the store is silent, packets go by what was known and hosts' refreshes are
taken; new triggers and removals are refused as `later`. When it is back, it is told what our hosts have.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from sojourn.errors import RemoteProtocolError
from sojourn.i3.challenge import Address
from sojourn.i3.forwarding import Send, forward
from sojourn.i3.identifier import Identifier
from sojourn.i3.node import HEADS, MAX_TRIGGERS, PLAIN, PLAIN_BYTES, RendezvousNode
from sojourn.i3.orders import (
    Event,
    LookUpTrigger,
    Order,
    PutTrigger,
    Record,
    StoreBack,
    StoreFacts,
    StoreSilent,
    TakeTrigger,
    TriggerDone,
    TriggersChanged,
    TriggersFound,
)
from sojourn.i3.packet import DATA, GROUP_BYTES, MAX_COPIES, MAX_HOPS, RELAYED, Data, Request, Right, Status
from sojourn.i3.shared_table import SharedTable
from sojourn.i3.shares import ALWAYS, SHARE_OF_FREE, Rates, neighbourhood
from sojourn.i3.table import MAX_ADDRESSES, MAX_STACKS, TRIGGER_LIFE, UNPROVED_TRIGGERS, Target
from sojourn.model import Endpoint

# Ours.
MAX_WAITING: Final = 4096
MAX_PENDING: Final = 4096
"""Requests that the store was asked about. Beyond, it does not keep up."""
MAX_TURNS: Final = 16
"""Times that one packet may wait for the store: a chain of triggers is looked up link by link."""
LOOK_UP_PACKETS: Final = 16
"""What a look-up counts against its sender, in packets."""
_RELAYED: Final = bytes((DATA, RELAYED | 1))
_GROUP: Final = b"sojourn i3 group\0"

_Work = Callable[[float, int], list[Send]]


class SharedNode(RendezvousNode):
    """One node of several with a common store."""

    table: SharedTable

    def __init__(
        self, key: bytes, here: Iterable[Endpoint], rates: Rates | None = None, max_triggers: int = MAX_TRIGGERS
    ) -> None:
        """`max_triggers`: of all nodes together."""
        places = frozenset(here)
        super().__init__(key, places, rates, max_triggers)
        self.table = SharedTable(places)
        self.orders: list[Order] = []
        """What the store is to do; taken out by whoever drives this node."""
        self._waiting: dict[bytes, list[tuple[_Work, int]]] = {}
        """By place that was asked for: what goes on when it is known."""
        self._waiting_count = 0
        self._pending: dict[int, tuple[Request, Address]] = {}
        """By ticket: the request that a put or take was for."""
        self._ticket = 0
        self._under_way: Counter[bytes] = Counter()
        """Orders that are not answered yet, by place."""
        self._overtaken: set[bytes] = set()
        """Places that have changed meanwhile: the answer on its way may be older than that."""
        self._in_all = 0
        self.nodes: tuple[str, ...] = ()

    @property
    def triggers(self) -> int:
        """Triggers of all nodes, about: the store counts its keys once a second."""
        return self._in_all

    def told(self, event: Event, now: float) -> list[Send]:
        """Take in what the store says."""
        match event:
            case TriggersFound():
                self.table.learn(event.place, event.records, now)
                sends = self._go_on(event.place, now)
                self._answered(event.place)
                return sends
            case TriggerDone():
                sends = self._done(event, now)
                self._answered(event.order.place)
                return sends
            case StoreSilent():
                sends = self._silent(event.order, now)
                self._answered(event.order.place)
                return sends
            case TriggersChanged():
                self.table.doubt(event.place)
                if event.place is None:
                    self._overtaken.update(self._under_way)
                elif event.place in self._under_way:
                    self._overtaken.add(event.place)
            case StoreBack():
                self._put_back(now)
            case StoreFacts():
                self._in_all, self.nodes = event.triggers, event.nodes
                self._challenger.share(event.secret, event.clock - now)
                self.group = hashlib.blake2s(_GROUP, key=event.secret, digest_size=GROUP_BYTES).digest()
                self.shares.fellows = frozenset(map(neighbourhood, event.nodes))
        return []

    def _order(self, order: Order) -> None:
        self.orders.append(order)
        self._under_way[order.place] += 1

    def _answered(self, place: bytes) -> None:
        """Note that an order was answered; doubt the answer if its place has changed while it was under way."""
        if place in self._overtaken:
            self.table.doubt(place)
        self._under_way[place] -= 1
        if self._under_way[place] <= 0:
            del self._under_way[place]
            self._overtaken.discard(place)

    def tick(self, now: float) -> list[Send]:
        """Forget what is over."""
        self.table.expire(now)
        return []

    # -- packets

    def _slow(self, datagram: bytes, source: Address, now: float) -> list[Send]:
        """Let a packet that crosses two nodes pass both quickly. `forward` is what this must equal."""
        kind = datagram[:2]
        if len(datagram) >= PLAIN_BYTES and (kind in (PLAIN, _RELAYED)):
            trigger, (hops, copies) = self.table.sole(datagram[4:20]), datagram[2:4]
            if trigger is not None and trigger.expires > now and 1 <= hops <= MAX_HOPS and 1 <= copies <= MAX_COPIES:
                if kind == _RELAYED and trigger.address is not None:
                    self.forwarded += 1
                    return [(HEADS[hops] + datagram[3:], trigger.address)]
                if kind == PLAIN and trigger.relay is not None:
                    self.forwarded += 1
                    self.done["relayed"] += 1
                    return [(_RELAYED + datagram[2:], trigger.relay)]
        return super()._slow(datagram, source, now)

    def _data(self, packet: Data, source: Address, now: float, turn: int = 0) -> list[Send]:
        outcome = forward(self.table, packet, now)
        if self.table.missing and turn < MAX_TURNS:
            return self._wait(lambda then, turns: self._data(packet, source, then, turns), source, turn)
        self.table.missing.clear()
        return self._forwarded(outcome, packet, source, now)

    def _responsible(self, identifier: Identifier, now: float) -> Endpoint | None:
        return self.table.responsible(identifier, now)

    def _wait(self, work: _Work, source: Address, turn: int) -> list[Send]:
        """Let something go on once what was missing is known; at any of its places: it looks again."""
        missing = sorted(self.table.missing)
        self.table.missing.clear()
        if self._waiting_count >= MAX_WAITING:
            self.refused["waiting"] += 1
            return []
        for place in missing:
            if place not in self._waiting:
                self._waiting[place] = []
                self._order(LookUpTrigger(place))
                self.shares.spend(source[0], LOOK_UP_PACKETS)
        self._waiting[missing[0]].append((work, turn + 1))
        self._waiting_count += 1
        return []

    def _go_on(self, place: bytes, now: float) -> list[Send]:
        sends: list[Send] = []
        work = self._waiting.pop(place, [])
        self._waiting_count -= len(work)
        for each, turn in work:
            try:
                sends += each(now, turn)
            except RemoteProtocolError as error:
                self.refused[error.reason] += 1
        return sends

    # -- triggers

    def _insert(self, request: Request, source: Address, now: float, turn: int = 0) -> Status | None:
        loops = bool(request.target) and self._loops(request, now)
        if self.table.missing and turn < MAX_TURNS:
            self._wait(partial(self._insert_again, request, source), source, turn)
            return None
        self.table.missing.clear()
        if loops:
            return Status.LOOP
        if len(self._pending) >= MAX_PENDING:
            return Status.LATER
        most = MAX_STACKS if request.target else UNPROVED_TRIGGERS if request.right is Right.HOME4 else MAX_ADDRESSES
        target: Target = request.target or source
        record = Record(request.identifier, target, source, request.number, TRIGGER_LIFE, self.table.via)
        order = PutTrigger(self._next(request, source), record, most, neighbourhood(source[0]), self._room())
        self._order(order)
        return None

    def _insert_again(self, request: Request, source: Address, now: float, turn: int) -> list[Send]:
        return self._answer(request, self._insert(request, source, now, turn), source, now)

    def _remove(self, request: Request, source: Address, now: float) -> Status | None:
        old = (request.old.address, request.old.port) if request.old is not None else source
        if not request.target and old != source and request.right is Right.HOME4:
            return Status.WRONG
        if len(self._pending) >= MAX_PENDING:
            return Status.LATER
        ticket = self._next(request, source)
        owner = source if request.target else old
        self._order(TakeTrigger(ticket, request.identifier, request.target or old, owner, request.number))
        return None

    def _next(self, request: Request, source: Address) -> int:
        self._ticket += 1
        self._pending[self._ticket] = (request, source)
        return self._ticket

    def _room(self) -> int:
        free = self.shares.most_triggers - self._in_all
        return max(ALWAYS, free // SHARE_OF_FREE) if free > 0 else 0

    def _done(self, done: TriggerDone, now: float) -> list[Send]:
        request, source = self._pending.pop(done.order.ticket, (None, None))
        if request is None or source is None:  # one that we put back
            return []
        self.table.learn(done.order.place, done.records, now)
        status = done.status
        if status is Status.QUOTA and not self._room():
            status = Status.FULL
        if status in (Status.INSERTED, Status.REMOVED):
            self.done[status.name.lower()] += 1
        return self._answer(request, status, source, now)

    # -- a store that is silent

    def _silent(self, order: Order, now: float) -> list[Send]:
        if isinstance(order, LookUpTrigger):
            if not self.table.lend(order.place, now):
                self.refused["later"] += len(self._waiting.get(order.place, []))
                self._waiting_count -= len(self._waiting.pop(order.place, []))
            return self._go_on(order.place, now)
        request, source = self._pending.pop(order.ticket, (None, None))
        if request is None or source is None:
            return []
        if isinstance(order, PutTrigger):
            record = order.record
            if self.table.extend(record.identifier, record.target, record.owner, now):
                self.done["extended"] += 1
                return self._answer(request, Status.INSERTED, source, now)
        return self._answer(request, Status.LATER, source, now)

    def _put_back(self, now: float) -> None:
        """Tell a store that may have forgotten it what our hosts have. What it knows stays as it is."""
        for record, life in self.table.own(now):
            self._ticket += 1
            again = Record(record.identifier, record.target, record.owner, record.number, life, record.via)
            whose = neighbourhood(record.owner[0])
            self._order(PutTrigger(self._ticket, again, MAX_ADDRESSES, whose, self._room()))
