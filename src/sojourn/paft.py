"""The per-application forwarding table (PAFT): which tunnel carries which flow.

The mobile host and the anchor each hold one, and a handover is nothing but the
same row changed at both ends.

A row is found by the flow's packed key (`packet.ip.flow_key`: the flow as the mobile
host sees it, so that both ends and both directions build the same bytes). Orders come
in two strengths: a *request* carries a move number and wins over every lower one; what
is *learned* from an authenticated packet only follows, and never undoes a request.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum, StrEnum
from itertools import islice
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


class Seen(Protocol):
    """Which numbers of the peer's copied packets have come (packet/sequence.py)."""

    def accept(self, number: int, now: float) -> bool:
        """Say whether a number comes for the first time, and take note of it."""
        ...


class Row:
    """One flow's place. Mutable: a data path counts in it as packets pass."""

    __slots__ = (
        "association", "blocked", "bytes_in", "bytes_out", "closing", "copies", "created", "kept", "label", "last_used",
        "left", "left_at", "mode", "move", "origin", "packets_in", "packets_out", "sequence", "shadow", "tunnel",
        "window",
    )  # fmt: skip

    def __init__(self, association: AssociationId, tunnel: TunnelId | None, now: float, move: int = 0) -> None:
        self.association = association
        self.tunnel = tunnel
        """The path in use, or None while the flow waits for one."""
        self.copies: tuple[TunnelId, ...] = ()
        """Further paths that get a copy of each packet (mode COPIES). Written by `Paft` alone, with the mode."""
        self.mode = Mode.ONE
        self.blocked = False
        """Its packets are refused at once. It has no tunnel then."""
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
        self.sequence: int | None = None
        """The number that the next copied packet gets (packet/sequence.py); None before the first."""
        self.window: Seen | None = None
        """Which numbers of the peer's copied packets have arrived; None before the first."""
        self.packets_in = 0
        self.packets_out = 0
        self.bytes_in = 0
        self.bytes_out = 0

    @property
    def two_way(self) -> bool:
        """Say whether packets have passed in both directions."""
        return self.packets_in > 0 and self.packets_out > 0


class Shadow(Protocol):
    """A second table that follows this one (datapath/core_rows.py)."""

    def added(self, key: FlowKey, row: Row) -> None:
        """Take note of a row that was put in."""
        ...

    def removed(self, row: Row) -> None:
        """Take note of one that was taken out."""
        ...


Bulk = Callable[[Sequence[Row], TunnelId | None, int, float], "list[MoveResult | None]"]
"""Does what `Paft.move_row` does with each of some rows; None: with this one it did nothing."""


class Paft:
    """Rows by flow key, with the rules of who may move one."""

    def __init__(self, max_rows_per_association: int = MAX_ROWS_PER_ASSOCIATION) -> None:
        self.rows: dict[FlowKey, Row] = {}
        self._own: dict[AssociationId, dict[FlowKey, Row]] = {}
        """The same rows by association, so that nobody's work grows with the flows of others."""
        self._max = max_rows_per_association
        self.shadow: Shadow | None = None
        self.on_placed: Callable[[Row], None] | None = None
        """Called when a row, in the table or about to be, got another place (datapath/kernel_rows.py)."""
        self.bulk: Bulk | None = None
        """Moves many rows of one tunnel each at once, where a second table can (datapath/core_rows.py)."""

    def __len__(self) -> int:
        return len(self.rows)

    def get(self, key: FlowKey) -> Row | None:
        """Return the row of a flow, or None."""
        return self.rows.get(key)

    def of(self, association: AssociationId) -> Mapping[FlowKey, Row]:
        """Return the rows of one association, the oldest first."""
        return self._own.get(association, {})

    def associations(self) -> list[AssociationId]:
        """Return whose rows there are."""
        return list(self._own)

    def add(self, key: FlowKey, row: Row) -> FlowKey | None:
        """Put a new flow in and return the key of the row that had to make room for it, if one did.

        An association at its limit loses the stalest of its first few rows, not the newest:
        a flood of new flows must not lock out the flow that its user starts next.
        """
        self.remove(key)
        own = self.of(row.association)
        evicted = self._stalest(own) if len(own) >= self._max else None
        if evicted is not None:
            self.remove(evicted)
        self.rows[key] = self._own.setdefault(row.association, {})[key] = row
        if self.shadow is not None:
            self.shadow.added(key, row)
        return evicted

    def remove(self, key: FlowKey) -> Row | None:
        """Forget a flow."""
        row = self.rows.pop(key, None)
        if row is not None and self.shadow is not None:
            self.shadow.removed(row)
        if row is not None:
            own = self._own[row.association]
            del own[key]
            if not own:
                del self._own[row.association]
        return row

    def move(self, key: FlowKey, tunnel: TunnelId | None, number: int, now: float) -> MoveResult:
        """Put a flow on `tunnel` because request `number` says so (None: let it wait).

        Moving a flow to where it already is happens often: policies are run again
        on every network event. The caller must not signal a handover for it.
        """
        row = self.rows.get(key)
        return MoveResult.UNKNOWN if row is None else self.move_row(row, tunnel, number, now)

    def move_row(
        self,
        row: Row,
        tunnel: TunnelId | None,
        number: int,
        now: float,
        copies: tuple[TunnelId, ...] = (),
        blocked: bool = False,
    ) -> MoveResult:
        """Do what `move` does, on a row that is at hand; `copies` as in `place`."""
        if number < row.move:
            return MoveResult.STALE
        row.move = number
        if row.tunnel == tunnel and row.copies == copies and row.blocked is blocked:
            return MoveResult.UNCHANGED
        self.place(row, tunnel, now, copies, blocked)
        return MoveResult.MOVED

    def move_rows(
        self,
        rows: Sequence[Row],
        tunnel: TunnelId | None,
        number: int,
        now: float,
        copies: tuple[TunnelId, ...] = (),
        blocked: bool = False,
    ) -> list[MoveResult]:
        """Do what `move_row` does, on each of many."""
        if self.bulk is None or self.on_placed is not None or copies or blocked:
            return [self.move_row(row, tunnel, number, now, copies, blocked) for row in rows]
        done = zip(rows, self.bulk(rows, tunnel, number, now), strict=True)
        return [result or self.move_row(row, tunnel, number, now) for row, result in done]

    def place(
        self, row: Row, tunnel: TunnelId | None, now: float, copies: tuple[TunnelId, ...] = (), blocked: bool = False
    ) -> None:
        """Put a row on `tunnel`, and on `copies` beside it; whoever calls it has the right to."""
        if row.tunnel != tunnel:
            row.left, row.left_at, row.tunnel = row.tunnel, now, tunnel
        row.copies, row.blocked = copies, blocked
        row.mode = Mode.COPIES if copies else Mode.ONE
        if self.on_placed is not None:
            self.on_placed(row)

    def learn(self, row: Row, tunnel: TunnelId, now: float, hold: float = LEARN_HOLD) -> bool:
        """Let a row follow an authenticated packet that came on `tunnel`; say whether it moved.

        Late packets of the tunnel that the flow has just left change nothing for `hold`
        seconds, and a copied row expects packets on several tunnels (DESIGN §2, 3).
        """
        if row.tunnel == tunnel or row.mode is not Mode.ONE:
            return False
        if row.left == tunnel and now - row.left_at < hold:
            return False
        self.place(row, tunnel, now)
        return True

    def leave(self, association: AssociationId, tunnel: TunnelId, now: float) -> None:
        """Take a tunnel out of use: flows that have copies go on over those, the others wait."""
        for row in self.of(association).values():
            if row.tunnel == tunnel:
                self.place(row, row.copies[0] if row.copies else None, now, row.copies[1:], row.blocked)
            elif tunnel in row.copies:
                self.place(row, row.tunnel, now, tuple(other for other in row.copies if other != tunnel))

    @staticmethod
    def _stalest(own: Mapping[FlowKey, Row], sample: int = 64) -> FlowKey | None:
        first = list(islice(own.items(), sample))
        return min(first, key=lambda item: item[1].last_used)[0] if first else None
