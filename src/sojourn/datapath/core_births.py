"""New flows that the core begins by itself (core/rules.h): by which rules, and what becomes of the rows it has made.

An anchor's core gives a flow a row where its host's first packet comes in, if guard and allowance let it; a mobile
host's where the first rule that covers it says, if that is one tunnel, if the kernel's programs know whose flow it is,
and if the rules left for that program are known or none asks for programs. Everything else comes up as it always did.
What is decided for a program is told to the core with its first flow (`_met`), so that its next ones need nobody.

Rows that were made are taken into the table in batches (`take_births`), before anything else is done with what came
after them. One that was placed by rules of before is placed again then: orders for everything mean it, too.
"""

import sys
from collections.abc import Callable, Sequence
from ipaddress import ip_network
from typing import Final

from sojourn.datapath._core import Core
from sojourn.datapath._core import Row as Twin
from sojourn.datapath.classify import Classifier
from sojourn.datapath.core_rows import CoreTable, born
from sojourn.datapath.epochs import EpochStore
from sojourn.datapath.forwarder import Forwarder
from sojourn.datapath.guard import ALWAYS_REFUSED
from sojourn.datapath.labels import RuleBook, is_whole
from sojourn.datapath.registry import Association, Io
from sojourn.model import AssociationId, Origin, TunnelId
from sojourn.packet.ip import flow_of, packed
from sojourn.paft import FlowKey, Row
from sojourn.policy.match import Match, Term
from sojourn.policy.rules import DEFAULT, Rule
from sojourn.policy.subject import covers_owner
from sojourn.upmt.commands import AddAssociation, AnyCommand, Placed, RemoveAssociation, Role, Setup
from sojourn.upmt.events import AnyEvent, OriginUnknown
from sojourn.upmt.peer_commands import HOME

TO_PYTHON: Final = -2
"""The place of flows that the core leaves alone (core/rules.h)."""
AT_ONCE: Final = 256
"""Rows that are taken in between two turns of the packet loop: some milliseconds."""

_Net = tuple[bytes, bytes]
_Match = tuple[int, bool, bytes, bytes, bool, bytes, bytes, bool, bool, int, int, bool, bool, int, int, bool]
_Rule = tuple[int, list[_Match], list[_Net] | None]


def network(text: str) -> _Net:
    """Return a network as the core has it: prefix and mask, packed."""
    found = ip_network(text, strict=False)
    return found.network_address.packed, found.netmask.packed


def _address(term: Term | None) -> tuple[bytes, bytes, bool]:
    return (b"", b"", False) if term is None else (*network(term.value), term.negated)


def _ports(term: Term | None) -> tuple[bool, int, int, bool]:
    if term is None:
        return False, 0, 0, False
    first, _, last = term.value.partition(":")
    return True, int(first), int(last or first), term.negated


def packed_match(match: Match) -> _Match:
    """Return a match as the core has it."""
    protocol = match.protocol
    kind = (-1, False) if protocol is None else (int(protocol.value), protocol.negated)
    addresses = (*_address(match.source), *_address(match.destination))
    return (*kind, *addresses, *_ports(match.source_ports), *_ports(match.destination_ports))


def packed_rule(rule: Rule, tunnel: int) -> _Rule:
    """Return what a rule asks of a flow, beside its program."""
    subject = rule.subject
    to = [network(text) for text in subject.destinations] if subject.destinations or subject.names else None
    return tunnel, [packed_match(match) for match in subject.match], to


def chain_of(rules: Sequence[Rule], origin: Origin | None) -> list[int]:
    """Return the places of the rules that are left for a program, up to the first that asks nothing more."""
    chain: list[int] = []
    for place, rule in enumerate(rules):
        subject = rule.subject
        if covers_owner(subject, origin):
            chain.append(place)
            if not (subject.match or subject.destinations or subject.names):
                break
    return chain


def place_in_core(placed: Placed | None, default: TunnelId | None) -> int:
    """Return where the core may put flows of a label by itself."""
    if placed is None:
        return TO_PYTHON if default is None else default
    return TO_PYTHON if placed.block or placed.copies or placed.tunnel is None else placed.tunnel


class CoreForwarder(Forwarder):
    """A forwarder whose core begins flows, and that says which tunnels are gone."""

    def __init__(self, core: Core, io: Io, emit: Callable[[AnyEvent], None], epochs: EpochStore) -> None:
        self.on_gone: Callable[[TunnelId], None] = lambda _number: None
        self.owners: Classifier | None = None
        super().__init__(io, emit, epochs)
        self.use(core)

    def use(self, core: Core) -> None:
        """Have a core from now on, which has no rows."""
        self._core = core
        self._version = 0
        self._told: tuple[object, ...] = ()
        self.paft.shadow = self.table = CoreTable(core)
        self.paft.bulk = self.table.move

    def _forget(self, number: TunnelId) -> None:
        self.on_gone(number)
        super()._forget(number)

    # What the core is told.

    def tell_core(self, command: AnyCommand) -> None:
        """Let the core know what an order has changed for new flows."""
        match command:
            case Setup(role=Role.ANCHOR):
                self._core.set_guard(
                    command.signal_port,
                    [network(address) for address in command.inner_addresses],
                    list(command.inner_ports),
                    [network(text) for text in ALWAYS_REFUSED + command.refused],
                    [network(text) for text in command.allowed],
                )
            case AddAssociation() if command.association != HOME:  # flows with peers come up: peering.py begins them
                vipa6 = packed(command.vipa6) if command.vipa6 else b""
                self._core.set_holder(command.association, packed(command.vipa) if command.vipa else b"", vipa6)
            case RemoveAssociation():
                self._core.drop_holder(command.association)
        if not self.is_anchor:
            for association in self.associations.values():
                if association.id != HOME:
                    self._tell_rules(association)

    def _tell_rules(self, association: Association) -> None:
        book, default = association.book, association.default
        if (told := (book.placed, default)) == self._told:
            return
        self._told = told
        self._version = (self._version + 1) & 0xFFFFFFFF
        rules = [
            packed_rule(placed.rule, place_in_core(book.place(placed.rule.label), default)) for placed in book.placed
        ]
        otherwise = place_in_core(book.place(DEFAULT), default)
        self._core.set_book(self._version, book.asks, otherwise, rules, _chain(book, None))

    def may_begin(self, association: Association, now: float) -> bool:
        """Anchor: say whether a host may begin one more flow now; the core counts in the same allowance."""
        return self._core.may_begin(association.id, now)

    def labelled_row(
        self, key: FlowKey, association: Association, origin: Origin | None, now: float, came_on: TunnelId | None = None
    ) -> Row:
        """Host: give a flow its first row; the next ones of its program may be the core's."""
        row = super().labelled_row(key, association, origin, now, came_on)
        self._met(association.book, origin)
        return row

    def _met(self, book: RuleBook, origin: Origin | None) -> None:
        """Tell the core what rules are left for a program, if the last one that was asked about is that program."""
        record = self.owners.record if self.owners is not None else None
        if record is None or origin is None or not book.asks or not is_whole(origin):
            return
        if int.from_bytes(record[:8], sys.byteorder) == origin.owner:
            self._core.know(record, self._version, _chain(book, origin))

    def passed(self, key: FlowKey, now: float) -> None:
        """Host: take note that another program has a flow now, also if it began a moment ago."""
        self.take_all_births(now)
        super().passed(key, now)

    # What it has done.

    def take_all_births(self, now: float) -> None:
        """Take in every flow that the core has begun."""
        while self.take_births(now):
            pass

    def take_births(self, now: float) -> bool:
        """Take in some of the flows that the core has begun; say whether there may be more."""
        births = self._core.births(AT_ONCE, Twin)
        for twin, key, number, version, at, user in births:
            association = self.associations.get(AssociationId(number))
            if association is None:  # it went a moment ago
                twin.unlink()
                continue
            row = born(twin, association.id, at)
            if not self.is_anchor:
                self._describe_birth(key, row, association, user, version, now)
            self.enter(key, row)
        return len(births) == AT_ONCE

    def _describe_birth(
        self, key: FlowKey, row: Row, association: Association, user: bytes, version: int, now: float
    ) -> None:
        origin = self.owners.origin_of(user) if self.owners is not None else None
        if origin is not None and not is_whole(origin):
            if self.looks.ask(key, origin, now):
                self.emit(OriginUnknown(origin))
            origin = self.looks.known(origin)
        if version == self._version:
            row.origin, row.label = origin, association.book.label(flow_of(key), origin)
        else:
            self.put_by_rule(key, row, association, origin, now)


def _chain(book: RuleBook, origin: Origin | None) -> list[int]:
    return chain_of([placed.rule for placed in book.placed], origin)
