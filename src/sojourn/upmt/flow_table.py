"""The flows of one mobile host as control knows them: what its data path told, and what it was ordered since.

Control's half of the Paft (paft.py), by flow instead of by packed key. The mirror keeps one for each host, to start a
data path's successor from (datapath/mirror.py), a mobile host one, to know what "all flows of this rule" are.
Orders mean here what they mean there (datapath/moves.py); the tests compare the two. Bounded as the Paft is.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from sojourn.model import Flow, Origin, TunnelId
from sojourn.paft import MAX_ROWS_PER_ASSOCIATION
from sojourn.policy.rules import Rule
from sojourn.policy.subject import compile_rules, match_test
from sojourn.upmt.commands import Everything, Exactly, Labelled, Matching, Move, MoveFlows, OnTunnel, RowState, Select
from sojourn.upmt.events import FlowMoved, FlowSeen

MOST_DUE: Final = 4
"""Orders that may wait to be entered."""


class FlowPlace:
    """Where one flow is, and why. Packets are not counted here: what State said of them is in `seen`."""

    __slots__ = ("blocked", "born", "copies", "label", "move", "origin", "seen", "tunnel")

    def __init__(self, tunnel: TunnelId | None, move: int, born: float, seen: RowState | None = None) -> None:
        self.tunnel = tunnel
        self.copies: tuple[TunnelId, ...] = seen.copies if seen is not None else ()
        self.blocked = seen.blocked if seen is not None else False
        self.label = seen.label if seen is not None else ""
        self.origin: Origin | None = seen.origin if seen is not None else None
        self.move = move
        self.born = born
        self.seen = seen


class FlowTable:
    """Flows with their places."""

    def __init__(self, most: int = MAX_ROWS_PER_ASSOCIATION) -> None:
        self._flows: dict[Flow, FlowPlace] = {}
        self._due: list[tuple[MoveFlows, float]] = []
        """Orders that are carried out, and not entered yet."""
        self._most = most
        self._rules: tuple[Rule, ...] = ()

    @property
    def flows(self) -> dict[Flow, FlowPlace]:
        """All of them, the oldest first."""
        if self._due:
            self._enter_due()
        return self._flows

    def put(self, flow: Flow, place: FlowPlace) -> FlowPlace:
        """Enter a flow; the oldest makes room for it where there is none."""
        self.flows[flow] = place
        if len(self.flows) > self._most:
            del self.flows[next(iter(self.flows))]
        return place

    def saw(self, event: FlowSeen, now: float) -> None:
        """Take in that a flow got its first row, or is known better. One that is known keeps its number."""
        place = self.flows.get(event.flow) or self.put(event.flow, FlowPlace(event.tunnel, 0, now))
        place.tunnel, place.copies, place.blocked = event.tunnel, event.copies, event.blocked
        place.origin, place.label = event.origin, event.label

    def followed(self, event: FlowMoved) -> None:
        """Take in that a row followed a packet, or found its first path."""
        place = self.flows.get(event.flow)
        if place is not None:
            place.tunnel, place.copies = event.tunnel, event.copies

    def ended(self, flow: Flow) -> None:
        """Forget a flow."""
        self.flows.pop(flow, None)

    def forget(self) -> None:
        """Forget all: the table is told anew."""
        self._due.clear()
        self._flows.clear()

    def restore(self, row: RowState, now: float) -> None:
        """Take in what a data path says that it has."""
        self.put(row.flow, FlowPlace(row.tunnel, row.move, now - row.age, row))

    def set_rules(self, rules: tuple[Rule, ...]) -> None:
        """Label all flows anew, if the rules are others."""
        if rules == self._rules:
            return
        self._rules = rules
        label_of = compile_rules(rules)
        for flow, place in self.flows.items():
            place.label = label_of(flow, place.origin)

    def leave(self, tunnel: TunnelId) -> None:
        """Take in that a tunnel was closed: copied flows go on over the others, the rest waits."""
        for place in self.flows.values():
            if place.tunnel == tunnel:
                place.tunnel, place.copies = (place.copies[0] if place.copies else None), place.copies[1:]
            elif tunnel in place.copies:
                place.copies = tuple(other for other in place.copies if other != tunnel)

    def apply(self, order: MoveFlows, now: float) -> None:
        """Take in an order that is carried out; flows that it names and nobody knew are known now.

        It is entered when somebody looks: whoever waits for an answer does not wait for ten thousand rows here.
        """
        self._due.append((order, now))
        if len(self._due) > MOST_DUE:
            self._enter_due()

    def _enter_due(self) -> None:
        due, self._due = self._due, []
        for order, now in due:
            self._enter(order, now)

    def _enter(self, order: MoveFlows, now: float) -> None:
        named: dict[Flow, int] = {}
        meant = list(self._governed(order.moves))
        for number, move in enumerate(order.moves):
            if isinstance(move.select, Exactly):
                for flow in move.select.flows:
                    place = self.flows.get(flow)
                    if place is None:
                        place = self.put(flow, FlowPlace(move.tunnel, order.number, now))
                    if _move(place, move, order.number):
                        named[flow] = number
        for number, move, flow, place in meant:
            if not named or number > named.get(flow, -1):
                _move(place, move, order.number)

    def meant(self, moves: Sequence[Move]) -> Iterator[Move | None]:
        """Yield for every known flow the move of an order that has it: the last of those that mean it; None: none does.

        A flow is long to hash: only those that are named are looked up.
        """
        tests = _tests(moves)
        named = {
            flow: (number, move)
            for number, move in enumerate(moves)
            if isinstance(move.select, Exactly)
            for flow in move.select.flows
        }
        for flow, place in self.flows.items():
            number, has = named.get(flow, (-1, None)) if named else (-1, None)
            for other, move, test in tests:
                if other < number:
                    break
                if test(flow, place):
                    has = move
                    break
            yield has

    def _governed(self, moves: Sequence[Move]) -> Iterator[tuple[int, Move, Flow, FlowPlace]]:
        """Yield what the moves mean that name no flows."""
        tests = _tests(moves)
        for flow, place in self.flows.items() if tests else ():
            for number, move, test in tests:
                if test(flow, place):
                    yield number, move, flow, place
                    break


def _tests(moves: Sequence[Move]) -> list[tuple[int, Move, Callable[[Flow, FlowPlace], bool]]]:
    """Return the moves that name no flows, the last one first."""
    found = [(number, move, _test(move.select)) for number, move in enumerate(moves)]
    return [each for each in reversed(found) if not isinstance(each[1].select, Exactly)]


def _test(select: Select) -> Callable[[Flow, FlowPlace], bool]:
    match select:
        case OnTunnel(tunnel):
            return lambda _flow, place: place.tunnel == tunnel
        case Labelled(label):
            return lambda _flow, place: place.label == label
        case Matching(match):
            covers = match_test(match)
            return lambda flow, _place: covers(flow)
        case Exactly():
            return lambda _flow, _place: False
        case Everything():
            return lambda _flow, _place: True


def _move(place: FlowPlace, move: Move, number: int) -> bool:
    """Do as paft.Paft.move_row does; say whether the order is not stale."""
    if number < place.move:
        return False
    place.tunnel, place.copies, place.blocked, place.move = move.tunnel, move.copies, move.block, number
    if move.label is not None:
        place.label = move.label
    return True
