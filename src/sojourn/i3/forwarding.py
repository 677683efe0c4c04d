"""What a node does with a packet: follow triggers from the head of its stack until there are addresses (i3 §3).

    match           the trigger's target takes the head's place: identifiers go on the stack, an address gets the packet
    several match   each gets a copy, and the copies share what is left of the budget
    none matches    the next identifier of the stack is tried; with an empty stack the packet is dropped
    another node's  hosts are behind a trigger: that node gets one packet for all of them, and sends it to no third

Who gets a packet sees the identifier that led to him first in its stack. Each trigger passed takes one of the packet's
hops, so that nothing circles for long, whatever stacks lead to; and hardly more than `MAX_LOOKS` identifiers are looked
up for a packet.
"""

from typing import Final

from msgspec import Struct

from sojourn.i3.challenge import Address
from sojourn.i3.identifier import Identifier
from sojourn.i3.packet import MAX_STACK, Data
from sojourn.i3.table import TriggerTable

MAX_LOOKS: Final = 64

Send = tuple[bytes, Address]
"""A datagram and where it goes."""


class Outcome(Struct):
    """What became of one packet."""

    sends: list[Send]
    refused: list[str]
    """Why it, or copies of it, went nowhere: reasons as in docs/wire.md."""
    found: bool = False
    """The first identifier of the stack leads somewhere; looked up only for a packet that asks."""
    looks: int = 0
    """Identifiers that were looked up."""


class _Copy(Struct):
    stack: tuple[Identifier, ...]
    hops: int
    copies: int
    relayed: bool


def forward(table: TriggerTable, packet: Data, now: float) -> Outcome:
    """Return the packets that one packet becomes."""
    outcome = Outcome([], [])
    outcome.found = packet.nonce is not None and bool(table.match(packet.stack[0], now))
    waiting = [_Copy(packet.stack, packet.hops, packet.copies, packet.relayed)]
    while waiting:
        if outcome.looks >= MAX_LOOKS:
            outcome.refused.append("work")
            break
        _step(table, waiting.pop(), packet.payload, now, waiting, outcome)
    return outcome


def _step(table: TriggerTable, copy: _Copy, payload: bytes, now: float, waiting: list[_Copy], outcome: Outcome) -> None:
    """Let one copy pass one trigger, or several."""
    stack, triggers = copy.stack, table.match(copy.stack[0], now)
    outcome.looks += 1
    while not triggers and len(stack) > 1:
        stack = stack[1:]
        triggers = table.match(stack[0], now)
        outcome.looks += 1
    if copy.relayed:
        triggers = [trigger for trigger in triggers if trigger.relay is None]
    if not triggers or not copy.hops:
        outcome.refused.append("no-trigger" if not triggers else "hops")
        return
    if len(triggers) > copy.copies:
        outcome.refused.append("copies")
        triggers = triggers[: copy.copies]
    share, extra = divmod(copy.copies, len(triggers))
    relays: dict[Address, int] = {}
    for place, trigger in enumerate(triggers):
        copies = share + (place < extra)
        if trigger.relay is not None:
            relays[trigger.relay] = relays.get(trigger.relay, 0) + copies
        elif trigger.address is not None:
            outcome.sends.append((bytes(Data(stack, payload, copy.hops - 1, copies)), trigger.address))
        elif len(trigger.stack) + len(stack) - 1 > MAX_STACK:
            outcome.refused.append("stack")
        else:
            waiting.append(_Copy(trigger.stack + stack[1:], copy.hops - 1, copies, copy.relayed))
    for relay, copies in relays.items():
        outcome.sends.append((bytes(Data(stack, payload, copy.hops, copies, relayed=True)), relay))
