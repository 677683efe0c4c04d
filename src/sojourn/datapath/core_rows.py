"""The table as the C core sees it: each row of the Paft has a twin in the core, and is one with it.

The core's threads read a row's place, count in it, and let it follow authentic packets, all without
asking. So what both change has one owner, the core: a row that is put into the table becomes a
`CoreRow`, whose attributes of that kind are the core's. Everything else of a row stays where it was.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final, Protocol

from sojourn.datapath._core import Core
from sojourn.datapath._core import Row as Twin
from sojourn.model import AssociationId, TunnelId
from sojourn.paft import FlowKey, Mode, MoveResult, Row
from sojourn.upmt.peer_commands import HOME

_SLOTS: Final[dict[str, Any]] = {name: Row.__dict__[name] for name in Row.__slots__}
_SHARED: Final = ("tunnel", "left", "left_at", "last_used", "closing", "move")
_COUNTED: Final = ("packets_in", "bytes_in", "packets_out", "bytes_out")
_IN, _OUT = _SLOTS["packets_in"].__get__, _SLOTS["packets_out"].__get__
"""What of a row's packets is known here already."""


def _shared(name: str) -> property:
    """Return an attribute that the core holds."""

    def put(row: Row, value: object) -> None:
        setattr(row.shadow, name, value)

    return property(attrgetter(f"shadow.{name}"), put)


def _pull(row: Row) -> None:
    """Take over what the core has counted since the last time."""
    counted = row.shadow.drain()  # type: ignore[attr-defined]
    if counted is not None:
        for name, more in zip(_COUNTED, counted, strict=True):
            slot = _SLOTS[name]
            slot.__set__(row, slot.__get__(row) + more)


def _counted(name: str) -> property:
    """Return a count that the core adds to."""
    slot = _SLOTS[name]

    def get(row: Row) -> int:
        _pull(row)
        count: int = slot.__get__(row)
        return count

    def put(row: Row, value: int) -> None:
        slot.__set__(row, value)
        if name == "packets_out" and value:
            row.shadow.answered = True  # type: ignore[attr-defined]

    return property(get, put)


def _deciding(name: str) -> property:
    """Return an attribute that says whether the core may forward by this row alone."""
    slot = _SLOTS[name]

    def put(row: Row, value: object) -> None:
        slot.__set__(row, value)
        row.shadow.slow = row.mode is not Mode.ONE or row.blocked  # type: ignore[attr-defined]

    return property(slot.__get__, put)


_RESULTS: Final = (None, MoveResult.STALE, MoveResult.UNCHANGED, MoveResult.MOVED)
"""What the core says of each row that it is to move; None: the row is Python's."""


class CoreRow(Row):
    """A row that is in the table, and in the core's."""

    __slots__ = ()

    @property
    def two_way(self) -> bool:
        """Say whether packets have passed in both directions. The core is not asked again by a sweep that knows."""
        return (_IN(self) > 0 and _OUT(self) > 0) or (self.packets_in > 0 and self.packets_out > 0)


for _names, _make in ((_SHARED, _shared), (_COUNTED, _counted), (("mode", "blocked"), _deciding)):
    _of: Callable[[str], property] = _make
    for _name in _names:
        setattr(CoreRow, _name, _of(_name))


def _placed_by_python() -> property:
    """Return a place of which the core hears only that packets go nowhere; `PeerTwins.placed` says where they go."""
    slot = _SLOTS["tunnel"]

    def put(row: Row, value: TunnelId | None) -> None:
        slot.__set__(row, value)
        if value is None:
            row.shadow.tunnel = None  # type: ignore[attr-defined]

    return property(slot.__get__, put)


class CorePeerRow(CoreRow):
    """A row of a flow with a peer. Where it is, its twin alone knows: with Python, or on a direct path."""

    __slots__ = ()
    tunnel: Any = _placed_by_python()


_FRESH: Final = (
    ("copies", ()), ("label", ""), ("origin", None), ("kept", None), ("sequence", None), ("window", None),
    ("mode", Mode.ONE), ("blocked", False), *((name, 0) for name in _COUNTED),
)  # fmt: skip
"""What a row begins with, beside what its twin holds."""
_PUT_FRESH: Final = tuple((_SLOTS[name].__set__, value) for name, value in _FRESH)


def born(twin: Twin, association: AssociationId, now: float) -> CoreRow:
    """Return the row of a flow whose twin was there first."""
    row: CoreRow = CoreRow.__new__(CoreRow)
    row.shadow, row.association, row.created = twin, association, now
    for put, value in _PUT_FRESH:
        put(row, value)
    return row


class PeerTwins(Protocol):
    """Who says where packets of flows with peers go, and whose rows may be used by what comes (core_peers.py)."""

    def association(self, key: FlowKey) -> int:
        """Return the number that stands for a flow's peer."""
        ...

    def place(self, key: FlowKey) -> TunnelId | None:
        """Return the core's tunnel to a flow's peer; None: packets go up."""
        ...


class CoreTable:
    """Follows a Paft (paft.Shadow)."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.peers: PeerTwins | None = None

    def added(self, key: FlowKey, row: Row) -> None:
        """Give a row its twin. Packets of the flow that are still with us stay before those that come now."""
        if isinstance(row, CoreRow):
            twin: Any = row.shadow
            if not twin.linked:
                twin.link(key)
            return
        peers = self.peers if row.association == HOME else None
        twin = Twin(self._core, row.association if peers is None else peers.association(key))
        for name in _SHARED:
            value = _SLOTS[name].__get__(row)
            if value is not None:
                setattr(twin, name, value)
        twin.slow = row.mode is not Mode.ONE or row.blocked
        twin.answered = row.packets_out > 0
        row.shadow = twin
        row.__class__ = CoreRow if peers is None else CorePeerRow
        if peers is not None:
            twin.tunnel = peers.place(key) if row.tunnel is not None else None
        twin.link(key)

    def removed(self, row: Row) -> None:
        """Take its twin out of the core's table, at once."""
        row.shadow.unlink()  # type: ignore[attr-defined]

    def move(self, rows: Sequence[Row], tunnel: TunnelId | None, number: int, now: float) -> list[MoveResult | None]:
        """Move many rows in one call (paft.Bulk); each is one atomic store that the core's threads see or do not."""
        twins = [row.shadow for row in rows]
        return [_RESULTS[code] for code in self._core.move(twins, tunnel, number, now)]
