"""A rendezvous node: takes triggers in, forwards packets by them, and answers nobody who could be somebody else.

`handle(datagram, source, now)` returns the datagrams to send; `deadline` and `tick` are every machine's. What it
refuses is counted in `refused`, by reason (docs/wire.md, rendezvous). Of a request it looks at its sender's
share, form, the nonce (none: a Challenge), right, number, room. Signatures are thus checked for those only who receive
at their address, and at the rate of their share.
"""

from collections import Counter
from collections.abc import Container
from typing import Final

from sojourn.errors import RemoteProtocolError
from sojourn.i3 import proof
from sojourn.i3.challenge import Address, Challenger
from sojourn.i3.forwarding import Outcome, Send, forward
from sojourn.i3.identifier import Identifier, place_of
from sojourn.i3.packet import (
    ALONE,
    DATA,
    INSERT,
    MAX_COPIES,
    MAX_HOPS,
    Answer,
    Challenge,
    Data,
    Echo,
    Location,
    Probe,
    Request,
    Right,
    Status,
    parse,
)
from sojourn.i3.shares import Rates, Shares
from sojourn.i3.table import TRIGGER_LIFE, Target, Trigger, TriggerTable
from sojourn.model import Endpoint

# Ours.
MAX_TRIGGERS: Final = 1_000_000
LOCATION_LIFE: Final = 30.0
MAX_LOOP_LOOKS: Final = 64
"""Triggers that are followed to see whether a new one would close a loop. What is longer ends by its hops."""

PLAIN: Final = bytes((DATA, 1))
"""Data with one identifier that asks for nothing: nearly every packet."""
PLAIN_BYTES: Final = 36
HEADS: Final = [PLAIN + bytes((max(hops - 1, 0),)) for hops in range(MAX_HOPS + 1)]
"""By the hops that a packet has still: its first three bytes after one more."""


class RendezvousNode:
    """One node, with its triggers in memory."""

    def __init__(
        self,
        key: bytes,
        here: Container[Endpoint] = (),
        rates: Rates | None = None,
        max_triggers: int = MAX_TRIGGERS,
    ) -> None:
        """`key`: 32 random bytes. `here`: the addresses at which hosts reach this node, which they sign."""
        self.table = TriggerTable()
        self.shares = Shares(rates or Rates(), max_triggers)
        self.refused: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        """copied, inserted, refreshed, removed, ended, challenged."""
        self.received = self.forwarded = 0
        """Datagrams in; packets that found somebody."""
        self.group = ALONE
        self._challenger = Challenger(key)
        self._here = here

    # The loop of a busy node: plain style yields to speed in this one function. `forward` is what it must equal.
    def handle(self, datagram: bytes, source: Address, now: float) -> list[Send]:
        """Take in one datagram."""
        self.received += 1
        if not self.shares.packet(source[0], now):
            self.refused["rate"] += 1
            return []
        if datagram.startswith(PLAIN) and len(datagram) >= PLAIN_BYTES:
            trigger = self.table.sole(datagram[4:20])
            if (
                trigger is not None
                and trigger.address is not None
                and trigger.expires > now
                and 1 <= (hops := datagram[2]) <= MAX_HOPS
                and 1 <= datagram[3] <= MAX_COPIES
            ):
                self.forwarded += 1
                return [(HEADS[hops] + datagram[3:], trigger.address)]
        try:
            return self._slow(datagram, source, now)
        except RemoteProtocolError as error:
            self.refused[error.reason] += 1
            return []

    @property
    def triggers(self) -> int:
        """Triggers in all."""
        return len(self.table)

    @property
    def totals(self) -> dict[str, int]:
        """All that was done, by name."""
        return {"received": self.received, "forwarded": self.forwarded, **self.done}

    def deadline(self) -> float | None:
        """When the next triggers may have to be forgotten."""
        return self.table.deadline()

    def tick(self, now: float) -> list[Send]:
        """Forget what was not refreshed, a slice at a time."""
        for trigger in self.table.expire(now):
            self.shares.gave(trigger.owner[0])
            self.done["ended"] += 1
        return []

    def _slow(self, datagram: bytes, source: Address, now: float) -> list[Send]:
        message = parse(datagram)
        if isinstance(message, Data):
            return self._data(message, source, now)
        if not isinstance(message, Request | Probe):
            raise RemoteProtocolError("only nodes say this", reason="kind")
        if not self.shares.request(source[0], now):
            raise RemoteProtocolError("too many requests", reason="request-rate")
        if isinstance(message, Probe):
            return [(bytes(Echo(message.number, self.group)), source)]
        if not self._challenger.holds(message.nonce, source, now):
            self.done["challenged"] += 1
            return [(bytes(Challenge(message.number, self._challenger.nonce(source, now))), source)]
        status = proof.wrong(message, self._here)
        if status is None:
            status = (self._insert if message.kind == INSERT else self._remove)(message, source, now)
        return self._answer(message, status, source, now)

    def _answer(self, request: Request, status: Status | None, source: Address, now: float) -> list[Send]:
        """Say what became of a request; None: that is not known yet."""
        if status is None:
            return []
        if status not in (Status.INSERTED, Status.REMOVED):
            self.refused[status.name.lower()] += 1
        nonce = self._challenger.nonce(source, now)
        return [(bytes(Answer(status, int(TRIGGER_LIFE), request.number, nonce, Endpoint(*source))), source)]

    # -- packets

    def _data(self, packet: Data, source: Address, now: float) -> list[Send]:
        return self._forwarded(forward(self.table, packet, now), packet, source, now)

    def _forwarded(self, outcome: Outcome, packet: Data, source: Address, now: float) -> list[Send]:
        """Count what became of a packet, and tell its sender where to send if it asks."""
        self.refused.update(outcome.refused)
        self.forwarded += bool(outcome.sends)
        self.done["copied"] += max(len(outcome.sends) - 1, 0)
        self.shares.spend(source[0], outcome.looks - 1)
        if packet.nonce is None or not self.shares.request(source[0], now):
            return outcome.sends
        nonce = self._challenger.nonce(source, now)
        if self._challenger.holds(packet.nonce, source, now):
            node = self._responsible(packet.stack[0], now)
            told: Location | Challenge = Location(outcome.found, int(LOCATION_LIFE), packet.stack[0], nonce, node)
        else:
            self.done["challenged"] += 1
            told = Challenge(0, nonce)
        return [*outcome.sends, (bytes(told), source)]

    def _responsible(self, _identifier: Identifier, _now: float) -> Endpoint | None:
        """Return the node to send to, None if it is this one."""
        return None

    # -- triggers

    def _insert(self, request: Request, source: Address, now: float) -> Status | None:
        target: Target = request.target or source
        known = self.table.get(request.identifier, target)
        if known is None:
            return self._add(request, target, source, now)
        if known.owner != source:  # the same stack, from somebody else: both want it to stand
            self.table.refresh(known, now)
        elif request.number < known.number:
            return Status.STALE
        elif request.number > known.number:  # else a copy of the last one
            known.number = request.number
            self.table.refresh(known, now)
            self.done["refreshed"] += 1
        return Status.INSERTED

    def _add(self, request: Request, target: Target, source: Address, now: float) -> Status:
        if request.number <= self.table.removed(request.identifier, target, source, now):
            return Status.STALE
        if self._loops(request, now):
            return Status.LOOP
        unproved = request.right is Right.HOME4
        if self.table.crowded(request.identifier, on=bool(request.target), unproved=unproved):
            return Status.QUOTA
        if not self.shares.room(source[0]):
            return Status.FULL if self.shares.triggers >= self.shares.most_triggers else Status.QUOTA
        trigger = Trigger(request.identifier, None if request.target else source, request.target, source)
        trigger.number = request.number
        self.table.add(trigger, now)
        self.shares.took(source[0], now)
        self.done["inserted"] += 1
        return Status.INSERTED

    def _remove(self, request: Request, source: Address, now: float) -> Status | None:
        old = (request.old.address, request.old.port) if request.old is not None else source
        target: Target = request.target or old
        known = self.table.get(request.identifier, target)
        if request.target:
            if known is not None and known.owner != source:
                return Status.WRONG
        elif old != source and request.right is Right.HOME4:  # a right that proves nothing removes nobody else's
            return Status.WRONG
        if known is None:
            self.table.forbid(request.identifier, target, source if request.target else old, request.number, now)
            return Status.REMOVED
        if request.number <= known.number:
            return Status.STALE
        self.table.remove(known, request.number, now)
        self.done["removed"] += 1
        return Status.REMOVED

    def _loops(self, request: Request, now: float) -> bool:
        """Say whether what a new trigger leads to leads back, as far as this node can see."""
        ahead, place = list(request.target), place_of(request.identifier)
        for looks in range(MAX_LOOP_LOOKS):
            if looks >= len(ahead):
                return False
            if place_of(ahead[looks]) == place:
                return True
            ahead += [each for trigger in self.table.match(ahead[looks], now) for each in trigger.stack]
            del ahead[MAX_LOOP_LOOKS:]
        return False
