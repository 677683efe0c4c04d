"""The per-application forwarding table (PAFT): which tunnel carries which flow.

The mobile host and the anchor each hold one, and a handover is nothing but the
same row changed at both ends.

A row is found by the flow's packed key (`packet.ip.flow_key`: the flow as the mobile
host sees it, so that both ends and both directions build the same bytes). Orders come
in two strengths: a *request* carries a move number and wins over every lower one; what
is *learned* from an authenticated packet only follows, and never undoes a request.
"""

from collections.abc import Callable, Iterator
from enum import IntEnum, StrEnum
from typing import Protocol

from sojourn.model import AssociationId, Origin, TunnelId

FlowKey = bytes

# Ours: the seeds are silent on both.
LEARN_HOLD = 3.0
"""Seconds for which learning does not move a row back to the tunnel it left (late packets)."""
MAX_ROWS_PER_ASSOCIATION = 65536
"""What one mobile host may make its anchor remember."""


class Mode(IntEnum):
    """How a row uses its paths."""

    ONE = 0
    COPIES = 1


class MoveResult(StrEnum):
    """What became of one row of a handover request; the words stand in HandoverResponse."""

    MOVED = "moved"
    UNCHANGED = "unchanged"
    STALE = "stale"
    UNKNOWN = "unknown"


class Row:
    """One flow's place. Mutable: a data path counts in it as packets pass."""

    __slots__ = (
        "association", "blocked", "bytes_in", "bytes_out", "closing", "copies", "created", "kept", "label", "last_used",
        "left", "left_at", "mode", "move", "origin", "packets_in", "packets_out", "shadow", "tunnel",
    )  # fmt: skip

    def __init__(self, association: AssociationId, tunnel: TunnelId | None, now: float, move: int = 0) -> None:
        self.association = association
        self.tunnel = tunnel
        """The path in use, or None while the flow waits for one."""
        self.copies: tuple[TunnelId, ...] = ()
        """Further paths that get a copy of each packet (mode COPIES)."""
        self.mode = Mode.ONE
        self.blocked = False
        """Its packets are refused at once."""
        self.label = ""
        """The rule that covers the flow (policy/rules.py)."""
        self.origin: Origin | None = None
        """Host: who made it, where that is known."""
        self.move = move
        """The number of the request that put the row where it is; 0 when none did."""
        self.left: TunnelId | None = None
        self.left_at = 0.0
        self.created = now
        self.last_used = now
        self.closing = 0.0
        """When a TCP RST, or a FIN, was seen; 0 while the flow is open."""
        self.shadow: object = None
        """What a second table keeps of it."""
        self.kept: bytes | None = None
        """The newest packet of a waiting flow, sent when a path is back."""
        self.packets_in = 0
        self.packets_out = 0
        self.bytes_in = 0
        self.bytes_out = 0


class Shadow(Protocol):
    """A second table that follows this one (datapath/core_rows.py)."""

    def added(self, key: FlowKey, row: Row) -> None:
        """Take note of a row that was put in."""
        ...

    def removed(self, row: Row) -> None:
        """Take note of one that was taken out."""
        ...


class Paft:
    """Rows by flow key, with the rules of who may move one."""

    def __init__(self, max_rows_per_association: int = MAX_ROWS_PER_ASSOCIATION) -> None:
        self.rows: dict[FlowKey, Row] = {}
        self._count: dict[AssociationId, int] = {}
        self._max = max_rows_per_association
        self.shadow: Shadow | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def get(self, key: FlowKey) -> Row | None:
        """Return the row of a flow, or None."""
        return self.rows.get(key)

    def add(self, key: FlowKey, row: Row) -> FlowKey | None:
        """Put a new flow in and return the key of the row that had to make room for it, if one did.

        An association at its limit loses the oldest of its first few rows, not the newest:
        a flood of new flows must not lock out the flow that its user starts next.
        """
        evicted = None
        count = self._count.get(row.association, 0)
        if count >= self._max:
            evicted = self._stalest(row.association)
            if evicted is not None:
                self.remove(evicted)
                count -= 1
        self.rows[key] = row
        if self.shadow is not None:
            self.shadow.added(key, row)
        self._count[row.association] = count + 1
        return evicted

    def remove(self, key: FlowKey) -> Row | None:
        """Forget a flow."""
        row = self.rows.pop(key, None)
        if row is not None and self.shadow is not None:
            self.shadow.removed(row)
        if row is not None:
            self._count[row.association] -= 1
        return row

    def move(self, key: FlowKey, tunnel: TunnelId | None, number: int, now: float) -> MoveResult:
        """Put a flow on `tunnel` because request `number` says so (None: let it wait).

        Moving a flow to where it already is happens often: policies are run again
        on every network event. The caller must not signal a handover for it.
        """
        row = self.rows.get(key)
        return MoveResult.UNKNOWN if row is None else self.move_row(row, tunnel, number, now)

    def move_row(self, row: Row, tunnel: TunnelId | None, number: int, now: float) -> MoveResult:
        """Do what `move` does, on a row that is at hand."""
        if number < row.move:
            return MoveResult.STALE
        row.move = number
        if row.tunnel == tunnel:
            return MoveResult.UNCHANGED
        row.left, row.left_at, row.tunnel = row.tunnel, now, tunnel
        return MoveResult.MOVED

    def learn(self, row: Row, tunnel: TunnelId, now: float, hold: float = LEARN_HOLD) -> bool:
        """Let a row follow an authenticated packet that came on `tunnel`; say whether it moved.

        Late packets of the tunnel that the flow has just left change nothing for `hold`
        seconds, and a copied row expects packets on several tunnels (DESIGN §2, 3).
        """
        if row.tunnel == tunnel or row.mode is not Mode.ONE:
            return False
        if row.left == tunnel and now - row.left_at < hold:
            return False
        self._put(row, tunnel, now)
        return True

    def select(self, wanted: Callable[[FlowKey, Row], bool]) -> list[FlowKey]:
        """Return the keys of all rows that `wanted` says yes to."""
        return [key for key, row in self.rows.items() if wanted(key, row)]

    def on_tunnel(self, tunnel: TunnelId) -> Iterator[tuple[FlowKey, Row]]:
        """Yield the rows that a tunnel carries. The table must not change meanwhile."""
        return ((key, row) for key, row in self.rows.items() if row.tunnel == tunnel)

    def _put(self, row: Row, tunnel: TunnelId | None, now: float) -> None:
        row.left, row.left_at, row.tunnel = row.tunnel, now, tunnel

    def _stalest(self, association: AssociationId, sample: int = 64) -> FlowKey | None:
        mine = (item for item in self.rows.items() if item[1].association == association)
        first = [item for item, _ in zip(mine, range(sample), strict=False)]
        return min(first, key=lambda item: item[1].last_used)[0] if first else None
