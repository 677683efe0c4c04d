"""Carrying out a handover order on the table: which rows it means, and what became of each.

A match is compiled to a test on packed flow keys first: ten thousand rows are asked in a few
milliseconds, between two packets.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from ipaddress import ip_network

from sojourn.model import AssociationId, Flow, TunnelId
from sojourn.packet.ip import flow_of, key_of
from sojourn.paft import FlowKey, MoveResult, Paft, Row
from sojourn.policy.match import Match, Term
from sojourn.upmt.commands import Everything, Exactly, Labelled, Matching, Move, OnTunnel

KeyTest = Callable[[FlowKey], bool]


def compile_match(match: Match) -> KeyTest:
    """Return a test on packed keys that says what `match.covers` says of their flows."""
    tests: list[KeyTest] = []
    if match.protocol is not None:
        tests.append(_protocol(match.protocol))
    if match.source is not None:
        tests.append(_address(match.source, local=True))
    if match.destination is not None:
        tests.append(_address(match.destination, local=False))
    if match.source_ports is not None:
        tests.append(_ports(match.source_ports, slice(-4, -2)))
    if match.destination_ports is not None:
        tests.append(_ports(match.destination_ports, slice(-2, None)))
    if len(tests) == 1:
        return tests[0]
    if len(tests) == 2:
        first, second = tests
        return lambda key: first(key) and second(key)
    return lambda key: all(test(key) for test in tests)


def _protocol(term: Term) -> KeyTest:
    number, wanted = int(term.value), not term.negated
    return lambda key: (key[0] == number) is wanted


def _address(term: Term, *, local: bool) -> KeyTest:
    network, wanted = ip_network(term.value), not term.negated
    size = network.max_prefixlen // 8
    mask, prefix, length = int(network.netmask), int(network.network_address), 5 + 2 * size
    place = slice(1, 1 + size) if local else slice(1 + size, 1 + 2 * size)
    if network.prefixlen == network.max_prefixlen:
        packed = network.network_address.packed
        return lambda key: (len(key) == length and key[place] == packed) is wanted
    return lambda key: (len(key) == length and int.from_bytes(key[place]) & mask == prefix) is wanted


def _ports(term: Term, place: slice) -> KeyTest:
    first, _, last = term.value.partition(":")
    low, high, wanted = int(first).to_bytes(2), int(last or first).to_bytes(2), not term.negated
    return lambda key: (low <= key[place] <= high) is wanted


class Mover:
    """One order's moves on one association's rows."""

    def __init__(self, paft: Paft, association: AssociationId, tunnels: frozenset[TunnelId]) -> None:
        self._paft = paft
        self._association = association
        self._tunnels = tunnels
        self.moved: list[tuple[FlowKey, Row]] = []
        """Rows that changed their place."""

    def move(
        self, move: Move, number: int, now: float, add: Callable[[Flow, TunnelId | None], Row | None]
    ) -> tuple[dict[MoveResult, int], tuple[MoveResult, ...]]:
        """Carry one move out; return its counts and, for `Exactly`, the result of each flow.

        `add(flow, tunnel)` gives a flow without a row one, or refuses with None.
        """
        known = move.tunnel is None or move.tunnel in self._tunnels
        if isinstance(move.select, Exactly):
            results = tuple(
                self._exactly(flow, move.tunnel, number, now, add) if known else MoveResult.UNKNOWN
                for flow in move.select.flows
            )
            return dict(Counter(results)), results
        if not known:
            return {MoveResult.UNKNOWN: 1}, ()
        return self._all(self._selected(move.select), move.tunnel, number, now), ()

    def _selected(self, select: OnTunnel | Everything | Matching | Labelled) -> Iterable[tuple[FlowKey, Row]]:
        association, rows = self._association, self._paft.rows.items()
        if isinstance(select, OnTunnel):
            tunnel = select.tunnel
            return [item for item in rows if item[1].tunnel == tunnel and item[1].association == association]
        if isinstance(select, Everything):
            return [item for item in rows if item[1].association == association]
        if isinstance(select, Labelled):
            label = select.label
            return [item for item in rows if item[1].label == label and item[1].association == association]
        test = compile_match(select.match)
        return [item for item in rows if item[1].association == association and test(item[0])]

    def _all(
        self, items: Iterable[tuple[FlowKey, Row]], tunnel: TunnelId | None, number: int, now: float
    ) -> dict[MoveResult, int]:
        counts: dict[MoveResult, int] = {}
        move, moved = self._paft.move_row, self.moved
        for item in items:
            result = move(item[1], tunnel, number, now)
            counts[result] = counts.get(result, 0) + 1
            if result is MoveResult.MOVED:
                moved.append(item)
        return counts

    def _exactly(
        self,
        flow: Flow,
        tunnel: TunnelId | None,
        number: int,
        now: float,
        add: Callable[[Flow, TunnelId | None], Row | None],
    ) -> MoveResult:
        try:
            key = key_of(flow)
        except (ValueError, OverflowError):
            return MoveResult.UNKNOWN
        row = self._paft.get(key)
        if row is None:
            row = add(flow_of(key), tunnel)
            if row is None:
                return MoveResult.UNKNOWN
            row.move = number
            return MoveResult.MOVED
        if row.association != self._association:
            return MoveResult.UNKNOWN
        result = self._paft.move(key, tunnel, number, now)
        if result is MoveResult.MOVED:
            self.moved.append((key, row))
        return result
