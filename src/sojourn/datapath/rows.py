"""The rows of a data path: how a flow gets its first one, and where it goes by which rule.

A mobile host's new flows are labelled and placed by its rules (labels.py); an anchor's stand where their first
packet came from, or where their host was heard last.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from typing import Final

from sojourn.bucket import Bucket
from sojourn.datapath.labels import Classify, Looks, RuleBook, is_whole, nobody
from sojourn.datapath.waiting import Waiting
from sojourn.model import AssociationId, Origin, TunnelId
from sojourn.packet.ip import flow_of, packed
from sojourn.packet.seal import KeySchedule
from sojourn.paft import FlowKey, Paft, Row
from sojourn.upmt.commands import AddAssociation
from sojourn.upmt.events import AnyEvent, FlowEnded, FlowMoved, FlowSeen, OriginUnknown

# Ours: what one host may have its anchor's kernel remember. nftables counts what is open (linux/nft.py).
NEW_FLOWS_PER_SECOND: Final = 200.0
NEW_FLOWS_BURST: Final = 32768.0


class Association:
    """A mobile host as its anchor's data path (or its own) knows it."""

    def __init__(self, added: AddAssociation) -> None:
        self.id = added.association
        self.added = added
        self.vipas: frozenset[bytes] = frozenset()
        """The packed Vipas, IPv4 and IPv6."""
        self.tunnels: frozenset[TunnelId] = frozenset()
        self.default: TunnelId | None = None
        self.default_move = 0
        """The number of the request that set the default."""
        self.last_heard: TunnelId | None = None
        """Anchor: the tunnel that an authentic packet of the host came on last."""
        self.keys: KeySchedule | None = None
        self.in_use = -1
        """The newest generation that the peer has sealed with."""
        self.book = RuleBook()
        """Host: the rules that give new flows their labels and places."""
        self.fresh = Bucket(NEW_FLOWS_PER_SECOND, NEW_FLOWS_BURST)
        """Anchor: how many flows the host may begin."""
        self.update(added)

    def update(self, added: AddAssociation) -> None:
        """Take over what may change."""
        self.added = added
        self.vipas = frozenset(packed(address) for address in (added.vipa, added.vipa6) if address)
        self.tunnels = frozenset(added.tunnels)


class Rows(ABC):
    """The table, and what new flows are told by."""

    def __init__(self, emit: Callable[[AnyEvent], None]) -> None:
        self.emit = emit
        self.is_anchor = False
        self.paft = Paft()
        self.waiting = Waiting(self.paft)
        self.associations: dict[AssociationId, Association] = {}
        self.refused: Counter[str] = Counter()
        """Packets that were not let through, by reason. The engine counts in it, too."""
        self.totals: Counter[str] = Counter()
        """Further totals for `Counters`. The engine counts in it, too."""
        self.served_by: dict[str, str] = {}
        """What the engine around it says of itself (upmt/events.py, Counters)."""
        self.classify: Classify = nobody
        """Host: tells who made a flow."""
        self.looks = Looks()

    @abstractmethod
    def resend(self, key: FlowKey, row: Row, now: float) -> None:
        """Send what is kept for a flow, if its path can be used now."""

    @abstractmethod
    def from_inner(self, packet: bytes, now: float) -> None:
        """Take one IP packet from the TUN."""

    def new_row(
        self,
        key: FlowKey,
        association: Association,
        tunnel: TunnelId | None,
        now: float,
        copies: tuple[TunnelId, ...] = (),
        blocked: bool = False,
        label: str = "",
    ) -> Row:
        """Give a flow its first row, in a place that is settled, and tell so."""
        row = Row(association.id, tunnel, now)
        row.label = label
        self.paft.place(row, tunnel, now, copies, blocked)
        self.enter(key, row)
        return row

    def labelled_row(
        self, key: FlowKey, association: Association, origin: Origin | None, now: float, came_on: TunnelId | None = None
    ) -> Row:
        """Host: give a flow its first row where the rule that covers it says; `came_on`: its correspondent began it."""
        row = Row(association.id, None, now)
        self.put_by_rule(key, row, association, origin, now)
        if row.tunnel is None and not row.blocked and association.book.place(row.label) is None:
            self.paft.place(row, came_on, now)
        self.enter(key, row)
        return row

    def answered(self, key: FlowKey, row: Row, association: Association, now: float) -> None:
        """Host: ask who made a flow that its correspondent began: something has answered now."""
        origin = self.classify(key)
        if origin is not None:
            self.known_better(key, row, association, self.looks.known(origin), now)
            if not is_whole(origin) and self.looks.ask(key, origin, now):
                self.emit(OriginUnknown(origin))

    def passed(self, key: FlowKey, now: float) -> None:
        """Host: take note that another program has a flow now (a socket was accepted, inherited or passed on)."""
        row = self.paft.get(key)
        association = self.associations.get(row.association) if row is not None else None
        origin = self.classify(key) if association is not None and not self.is_anchor else None
        if row is not None and association is not None and origin is not None and origin != row.origin:
            self.known_better(key, row, association, self.looks.known(origin), now)
            if not is_whole(origin) and self.looks.ask(key, origin, now):
                self.emit(OriginUnknown(origin))

    def known_better(self, key: FlowKey, row: Row, association: Association, origin: Origin, now: float) -> None:
        """Host: label a flow anew, by a program that was not known before, and tell so. A request's place stands."""
        before, row.origin = row.label, origin
        row.label = association.book.label(flow_of(key), origin)
        if row.label != before and row.move == 0:
            self.put_by_rule(key, row, association, origin, now)
        self._tell_seen(key, row)

    def put_by_rule(self, key: FlowKey, row: Row, association: Association, origin: Origin | None, now: float) -> None:
        """Host: label a row, and place it where its label's flows go."""
        row.origin = origin
        row.label = association.book.label(flow_of(key), origin)
        placed = association.book.place(row.label)
        if placed is None:
            self.paft.place(row, association.default, now)
        else:
            self.paft.place(row, None if placed.block else placed.tunnel, now, placed.copies, placed.block)

    def enter(self, key: FlowKey, row: Row) -> None:
        """Put a new row into the table, and tell so."""
        evicted = self.paft.add(key, row)
        if evicted is not None:
            self.waiting.drop(evicted)
            self.totals["flows-made-room"] += 1
            self.emit(FlowEnded(row.association, flow_of(evicted)))
        self._tell_seen(key, row)

    def _tell_seen(self, key: FlowKey, row: Row) -> None:
        self.emit(FlowSeen(row.association, flow_of(key), row.tunnel, row.origin, row.label, row.copies, row.blocked))

    def end_row(self, key: FlowKey, *, tell: bool = True) -> None:
        """Forget a flow."""
        row = self.paft.remove(key)
        self.waiting.drop(key)
        if row is not None and tell:
            self.emit(FlowEnded(row.association, flow_of(key), row.bytes_in, row.bytes_out))

    def origin_of(
        self, key: FlowKey, association: Association, packet: bytes, now: float
    ) -> tuple[Origin | None, bool]:
        """Host: say who made a new flow; True beside it: the flow waits until somebody has looked.

        Where no rule can speak of its program it does not wait: people want to know all the same.
        """
        origin = self.classify(key)
        if origin is None or is_whole(origin):
            return origin, False
        if not association.book.asks:
            if self.looks.ask(key, origin, now):
                self.emit(OriginUnknown(origin))
            return self.looks.known(origin), False
        is_new = self.looks.wait(key, association.id, origin, packet, now)
        if is_new is None:
            return self.looks.known(origin), False
        if is_new:
            self.emit(OriginUnknown(origin))
        return origin, True

    def settle(self, keys: list[FlowKey], now: float) -> None:
        """Give flows that waited for a look their rows, by what is known now, and send their packets."""
        for key in keys:
            held = self.looks.take(key)
            if held is None:
                self._name(key, now)
                continue
            association = self.associations.get(held[0])
            if association is None:
                continue
            if self.paft.get(key) is None:
                self.labelled_row(key, association, held[1], now)
            self.from_inner(held[2], now)

    def _name(self, key: FlowKey, now: float) -> None:
        """Label a flow anew that did not wait, if its program is known by now."""
        row = self.paft.get(key)
        association = self.associations.get(row.association) if row is not None else None
        if row is not None and association is not None and row.origin is not None:
            origin = self.looks.known(row.origin)
            if origin is not row.origin:
                self.known_better(key, row, association, origin, now)

    def place_for(self, association: Association) -> TunnelId | None:
        """Return where a flow without a row goes that no rule covers."""
        if association.default is not None or not self.is_anchor:
            return association.default
        return association.last_heard

    def may_begin(self, association: Association, now: float) -> bool:
        """Anchor: say whether a host may begin one more flow now, and count it."""
        return association.fresh.take(now)

    def send_waiting(self, association: Association, now: float) -> None:
        """Send what is kept for flows whose path can be used; flows that never had one get theirs now."""
        for key, row in self.waiting.rows(association.id):
            if row.tunnel is None and row.move == 0 and not row.blocked:
                placed = association.book.place(row.label)
                if placed is None:
                    self.paft.place(row, self.place_for(association), now)
                elif not placed.block:
                    self.paft.place(row, placed.tunnel, now, placed.copies)
                if row.tunnel is not None:
                    self.emit(FlowMoved(row.association, flow_of(key), row.tunnel, row.copies))
            self.resend(key, row, now)
