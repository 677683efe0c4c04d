"""When rows end: by closing, and by being idle, as NATs reckon it.

The table is swept a slice at a time, one association after another, so that a hundred thousand rows never hold a
packet up.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from sojourn.model import ICMP, ICMPV6, TCP, AssociationId
from sojourn.paft import FlowKey, Paft, Row

TCP_IDLE: Final = 24 * 3600.0
CLOSED_TCP_IDLE: Final = 30.0
UDP_IDLE: Final = 300.0
"""As RFC 4787 §4.3 recommends; every other protocol with it."""
ONE_WAY_IDLE: Final = 120.0
"""The same while nothing has come in answer: the least that RFC 4787 §4.3 allows."""
ICMP_IDLE: Final = 60.0
WAITING_IDLE: Final = 3600.0
"""A flow with a kept packet is remembered at least so long."""
SWEEP_EVERY: Final = 5.0
SLICE: Final = 1000
SLICE_EVERY: Final = 0.5
"""A hundred thousand rows, of which none ends, are gone through in fifty seconds, and take half a per cent."""
SLICE_EVERY_WHILE_MANY_END: Final = 0.02
MANY: Final = SLICE // 50
_SHORTEST: Final = {TCP: CLOSED_TCP_IDLE, ICMP: ICMP_IDLE, ICMPV6: ICMP_IDLE}
"""No row ends sooner, and to say when it does its counts must be fetched from where packets are counted."""

_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16


def lifetime(key: FlowKey, row: Row) -> float:
    """Return how long the row may stay unused."""
    protocol = key[0]
    if protocol == TCP:
        idle = CLOSED_TCP_IDLE if row.closing else TCP_IDLE
    else:
        idle = ICMP_IDLE if protocol in (ICMP, ICMPV6) else UDP_IDLE if row.two_way else ONE_WAY_IDLE
    return max(idle, WAITING_IDLE) if row.kept is not None else idle


def note_tcp_flags(row: Row, flags: int, now: float) -> None:
    """Follow the life of a TCP connection: FIN and RST close it, a new SYN opens it again."""
    if flags & (_FIN | _RST):
        row.closing = row.closing or now
    elif flags & (_SYN | _ACK) == _SYN:
        row.closing = 0.0


class Sweep:
    """One walk over the table after another."""

    def __init__(self, paft: Paft) -> None:
        self.due = 0.0
        self._paft = paft
        self._rest: Iterator[tuple[FlowKey, Row]] = iter(())
        self._owners: Iterator[AssociationId] = iter(())

    def expired(self, now: float) -> list[FlowKey]:
        """Look at the next slice of rows and return those whose time is over."""
        if now < self.due:
            return []
        rows = list(islice(self._rest, SLICE))
        while len(rows) < SLICE:
            owner = next(self._owners, None)
            if owner is None:
                self._owners = iter(self._paft.associations())
                self.due = now + SWEEP_EVERY
                break
            self._rest = iter(list(self._paft.of(owner).items()))
            rows += islice(self._rest, SLICE - len(rows))
        else:
            self.due = now + SLICE_EVERY
        found = [key for key, row in rows if _is_over(key, row, now) and self._paft.rows.get(key) is row]
        if len(found) > MANY:
            self.due = min(self.due, now + SLICE_EVERY_WHILE_MANY_END)
        return found


def _is_over(key: FlowKey, row: Row, now: float) -> bool:
    idle = now - row.last_used
    return idle > _SHORTEST.get(key[0], ONE_WAY_IDLE) and idle > lifetime(key, row)
