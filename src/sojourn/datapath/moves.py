"""Carrying out a handover order on the table: which rows it means, and what became of each.

A match is compiled to a test on packed flow keys first: ten thousand rows are asked in a few
milliseconds. Where several moves of one order mean a row, the last of them has it, as the table stood before
the order: "everything there, but this here" moves each row once.

An order may be carried out in slices, so that a host with very many flows does not hold up the packets of others.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_network
from itertools import islice
from typing import Final

from sojourn.errors import RemoteProtocolError
from sojourn.model import Flow, TunnelId
from sojourn.packet.ip import flow_of, key_of
from sojourn.paft import FlowKey, MoveResult, Paft, Row
from sojourn.policy.match import Match, Term
from sojourn.upmt.commands import Everything, Exactly, Labelled, Matching, Move, MoveFlows, OnTunnel, Select
from sojourn.upmt.events import FlowsMoved

KeyTest = Callable[[FlowKey], bool]
RowTest = Callable[[FlowKey, Row], bool]
Item = tuple[FlowKey, Row]
Add = Callable[[Flow, Move], Row | None]
"""Gives a flow without a row one, or refuses with None."""
NAMED_COSTS: Final = 4
"""Rows that are asked in the time that one flow takes which is named."""


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


def _test(select: Select) -> RowTest:
    match select:
        case OnTunnel(tunnel):
            return lambda _key, row: row.tunnel == tunnel
        case Labelled(label):
            return lambda _key, row: row.label == label
        case Matching(match):
            covers = compile_match(match)
            return lambda key, _row: covers(key)
        case Exactly():
            return lambda _key, _row: False
        case Everything():
            return lambda _key, _row: True


class Mover:
    """One order on one association's rows: `step` until it says that all is done, then `answer`."""

    def __init__(self, paft: Paft, order: MoveFlows, tunnels: frozenset[TunnelId], add: Add) -> None:
        self.order = order
        self._paft = paft
        self._add = add
        self._counts: list[Counter[MoveResult]] = [Counter() for _ in order.moves]
        self._results: list[list[MoveResult]] = [[] for _ in order.moves]
        self._named: dict[FlowKey, tuple[int, int]] = {}
        """The flows that were named, by which move, and which of the moves that name none meant them before that."""
        self._good = [_is_known(move, tunnels) for move in order.moves]
        self._flows = (
            (place, flow)
            for place, move in enumerate(order.moves)
            if isinstance(move.select, Exactly)
            for flow in move.select.flows
        )
        self._tests: list[tuple[int, RowTest]] = []
        """Of the moves that name no flows, the last one of the order first."""
        for place, move in enumerate(order.moves):
            if isinstance(move.select, Exactly):
                continue
            if self._good[place]:
                self._tests.insert(0, (place, _test(move.select)))
            else:
                self._counts[place][MoveResult.UNKNOWN] += 1
        self._rows: Iterator[Item] | None = None if self._tests else iter(())

    def step(self, now: float, most: int | None = None) -> tuple[list[Item], bool]:
        """Look at `most` rows (a named flow counts as several); return those that moved, and whether all is done."""
        moved: list[Item] = []
        left = most if most is not None else 1 << 62
        for place, flow in self._flows:
            self._one(place, flow, now, moved)
            left -= NAMED_COSTS
            if left <= 0:
                return moved, False
        if self._rows is None:
            self._rows = iter(list(self._paft.of(self.order.association).items()))
        items = list(islice(self._rows, left))
        for place, chosen in self._meant_by_place(items):
            moved += self._move_all(place, chosen, now)
        return moved, len(items) < left

    def answer(self) -> FlowsMoved:
        """Return what became of the whole order."""
        order = self.order
        counts = tuple(dict(count) for count in self._counts)
        return FlowsMoved(order.association, order.number, counts, tuple(tuple(results) for results in self._results))

    def _meant_by_place(self, items: list[Item]) -> Iterable[tuple[int, list[Item]]]:
        """Return the rows that each move has, by the move's place, as they stand now."""
        if len(self._tests) == 1 and not self._named:
            ((place, test),) = self._tests
            return [(place, [item for item in items if test(*item)])]
        chosen: dict[int, list[Item]] = {}
        for item in items:
            named = self._named.get(item[0])
            place = self._meant(*item) if named is None else named[1]
            if place >= (0 if named is None else named[0]):
                chosen.setdefault(place, []).append(item)
        return chosen.items()

    def _move_all(self, place: int, items: list[Item], now: float) -> list[Item]:
        """Carry out one move on the rows that it has; return those that moved."""
        move, rows = self.order.moves[place], [row for _, row in items]
        results = self._paft.move_rows(rows, move.tunnel, self.order.number, now, move.copies, move.block)
        self._counts[place].update(results)
        if move.label is not None:
            for row, result in zip(rows, results, strict=True):
                if result is not MoveResult.STALE:
                    row.label = move.label
        return [item for item, result in zip(items, results, strict=True) if result is MoveResult.MOVED]

    def _meant(self, key: FlowKey, row: Row) -> int:
        """Return the place of the last move that means a row without naming it, -1 where none does."""
        for place, test in self._tests:
            if test(key, row):
                return place
        return -1

    def _one(self, place: int, flow: Flow, now: float, moved: list[Item]) -> None:
        result = self._exactly(place, flow, now, moved) if self._good[place] else MoveResult.UNKNOWN
        self._counts[place][result] += 1
        self._results[place].append(result)

    def _exactly(self, place: int, flow: Flow, now: float, moved: list[Item]) -> MoveResult:
        try:
            key = key_of(flow)
            row = self._paft.get(key)
            known = flow_of(key) if row is None else flow  # one with addresses of both families is none
        except (ValueError, OverflowError, RemoteProtocolError):
            return MoveResult.UNKNOWN
        move = self.order.moves[place]
        if row is None:
            row = self._add(known, move)
            if row is None:
                return MoveResult.UNKNOWN
            row.move = self.order.number
            self._named[key] = place, -1
            return MoveResult.MOVED
        if row.association != self.order.association:
            return MoveResult.UNKNOWN
        before = self._named.get(key)
        self._named[key] = place, self._meant(key, row) if before is None else before[1]
        result = self._move(row, move, now)
        if result is MoveResult.MOVED:
            moved.append((key, row))
        return result

    def _move(self, row: Row, move: Move, now: float) -> MoveResult:
        result = self._paft.move_row(row, move.tunnel, self.order.number, now, move.copies, move.block)
        if move.label is not None and result is not MoveResult.STALE:
            row.label = move.label
        return result


def _is_known(move: Move, tunnels: frozenset[TunnelId]) -> bool:
    return (move.tunnel is None or move.tunnel in tunnels) and tunnels.issuperset(move.copies)
