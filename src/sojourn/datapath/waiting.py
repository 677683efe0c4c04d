"""Flows that wait for a path: the newest packet of each is kept, and sent when a path is back.

TCP starts again by it at once, however long its own timer has grown. Bounded by count and by bytes: when full,
the flow that has waited longest without a new packet gives its packet up; of an association that keeps many,
that is one of its own, so that a host's packets are not pushed out by another's.
"""

from collections.abc import Iterator
from typing import Final

from sojourn.model import AssociationId
from sojourn.paft import FlowKey, Paft, Row

MOST_FLOWS: Final = 4096
MOST_BYTES: Final = 8 << 20
MODEST: Final = 64
"""An association with fewer kept packets than this takes another's room, if it must."""


class Waiting:
    """The kept packets (each stands in its row) in the order in which they were kept."""

    def __init__(self, paft: Paft, most_flows: int = MOST_FLOWS, most_bytes: int = MOST_BYTES) -> None:
        self._paft = paft
        self._sizes: dict[FlowKey, tuple[AssociationId, int]] = {}
        self._own: dict[AssociationId, dict[FlowKey, None]] = {}
        self._bytes = 0
        self._most_flows = most_flows
        self._most_bytes = most_bytes
        self.dropped = 0
        """Kept packets that a newer one, or want of room, pushed out."""

    def __len__(self) -> int:
        return len(self._sizes)

    def keep(self, key: FlowKey, row: Row, packet: bytes) -> None:
        """Keep the newest packet of a flow in place of the one before."""
        self._forget(key, row)
        row.kept = packet
        self._sizes[key] = row.association, len(packet)
        own = self._own.setdefault(row.association, {})
        own[key] = None
        self._bytes += len(packet)
        while len(self._sizes) > self._most_flows or self._bytes > self._most_bytes:
            oldest = next(iter(own if len(own) > MODEST else self._sizes))
            self._forget(oldest, self._paft.get(oldest))

    def take(self, key: FlowKey, row: Row) -> bytes | None:
        """Return what is kept for a flow, and keep it no longer."""
        packet, row.kept = row.kept, None
        self.drop(key)
        return packet

    def drop(self, key: FlowKey) -> bool:
        """Forget a flow whose row is gone; say whether something was kept for it."""
        kept = self._sizes.pop(key, None)
        if kept is None:
            return False
        association, size = kept
        self._bytes -= size
        own = self._own[association]
        del own[key]
        if not own:
            del self._own[association]
        return True

    def rows(self, association: AssociationId) -> Iterator[tuple[FlowKey, Row]]:
        """Yield the waiting flows of one association; the caller may take them meanwhile."""
        for key in list(self._own.get(association, ())):
            row = self._paft.get(key)
            if row is None:
                self.drop(key)
            else:
                yield key, row

    def _forget(self, key: FlowKey, row: Row | None) -> None:
        self.dropped += self.drop(key)
        if row is not None:
            row.kept = None
