"""The anchor's half of the signals: MESSAGE bodies in, orders for the data path and answers out.

A handover request is answered when the data path has said what became of its rows (`FlowsMoved`),
so that the 200 OK tells the truth. Timer: a request that the data path did not answer within
`PATIENCE` is answered by `Failure`, and the host asks again.
"""

from collections import deque
from collections.abc import Hashable, Sequence

from msgspec import Struct

from sojourn.errors import RemoteProtocolError
from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.upmt import signals
from sojourn.upmt.commands import Move, MoveFlows, Select
from sojourn.upmt.events import FlowsMoved
from sojourn.upmt.lease import MAX_MOVE

PATIENCE = 3.0
"""Seconds that the data path may take; it answers in milliseconds unless it is being replaced."""
MAX_WAITING = 4096


class Answer(Struct, frozen=True):
    """The body of the 200 OK to a request, by the key that it was handed in with."""

    key: Hashable
    body: bytes


class Sender(Struct, frozen=True):
    """Who sends a signal, and where it came in."""

    association: AssociationId
    tunnels: tuple[TunnelId, ...]
    """All tunnel indices of the association."""
    came_on: TunnelId | None
    """None: over the association's connection, outside of any tunnel."""
    outer: Endpoint | None
    live: frozenset[TunnelId] = frozenset()
    """Tunnels that the host was heard on, for preference lists."""


class _Waiting:
    __slots__ = ("answers", "key", "missing", "numbers", "until")

    def __init__(
        self, key: Hashable, numbers: set[tuple[AssociationId, int]], answers: list[signals.AnySignal | None],
        until: float,
    ) -> None:  # fmt: skip
        self.key = key
        self.numbers = numbers
        """The handovers it asked for."""
        self.answers = answers
        self.missing = sum(answer is None for answer in answers)
        self.until = until


class AnchorSignals:
    """Carries out signals; one instance for all associations."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[AssociationId, int], deque[tuple[_Waiting, int, tuple[TunnelId | None, ...]]]] = {}
        self._open: deque[_Waiting] = deque()

    def received(self, key: Hashable, sender: Sender, body: bytes, now: float) -> tuple[list[MoveFlows], Answer | None]:
        """Take in one body: orders, and the answer if it needs no data path. May raise RemoteProtocolError."""
        orders: list[MoveFlows] = []
        answers: list[signals.AnySignal | None] = []
        places: list[tuple[int, MoveFlows]] = []
        for place, signal in enumerate(signals.decode(body)):
            match signal:
                case signals.HandoverRequest():
                    try:
                        order = _order(signal, sender)
                    except RemoteProtocolError as error:
                        answers.append(signals.Failure(str(error)))
                        continue
                    places.append((place, order))
                    answers.append(None)
                case _:
                    answers.append(_answer(signal, sender))
        if not places:
            return orders, Answer(key, signals.encode([answer for answer in answers if answer is not None]))
        if len(self._open) >= MAX_WAITING:
            raise RemoteProtocolError("too many handovers at once", reason="busy")
        numbers = {(sender.association, order.number) for _, order in places}
        waiting = _Waiting(key, numbers, answers, now + PATIENCE)
        self._open.append(waiting)
        for place, order in places:
            queue = self._waiting.setdefault((sender.association, order.number), deque())
            queue.append((waiting, place, tuple(move.tunnel for move in order.moves)))
            orders.append(order)
        return orders, None

    def moved(self, event: FlowsMoved) -> Answer | None:
        """Take in what became of a handover; return the answer when it is complete."""
        queue = self._waiting.get((event.association, event.number))
        if not queue:
            return None
        waiting, place, tunnels = queue.popleft()
        if not queue:
            del self._waiting[event.association, event.number]
        results = tuple(
            signals.result_of(counts, event.results[row] if row < len(event.results) else (), tunnels[row])
            for row, counts in enumerate(event.counts)
        )
        waiting.answers[place] = signals.HandoverResponse(event.number, results)
        waiting.missing -= 1
        return self._finish(waiting) if waiting.missing == 0 else None

    def deadline(self) -> float | None:
        """Return when the oldest request runs out of patience."""
        while self._open and self._open[0].missing == 0:
            self._open.popleft()
        return self._open[0].until if self._open else None

    def tick(self, now: float) -> list[Answer]:
        """Answer what the data path did not."""
        answers = []
        while (deadline := self.deadline()) is not None and deadline <= now:
            waiting = self._open.popleft()
            for pair in waiting.numbers:
                kept = deque(entry for entry in self._waiting.pop(pair, ()) if entry[0] is not waiting)
                if kept:
                    self._waiting[pair] = kept
            late = signals.Failure("the data path did not answer", again=True)
            waiting.answers = [answer if answer is not None else late for answer in waiting.answers]
            answers.append(self._finish(waiting))
        return answers

    def _finish(self, waiting: _Waiting) -> Answer:
        waiting.missing = 0
        return Answer(waiting.key, signals.encode([answer for answer in waiting.answers if answer is not None]))


def _answer(signal: signals.AnySignal, sender: Sender) -> signals.AnySignal:
    match signal:
        case signals.TunnelRequest():
            if sender.came_on is None:
                return signals.Failure("a tunnel request comes in its tunnel")
            outer = sender.outer
            return signals.TunnelResponse(
                sender.came_on, outer.address if outer else None, outer.port if outer else None
            )
        case signals.KeepAlive() | signals.Failure():
            return signal
        case _:
            return signals.Failure("not a request")


def _order(request: signals.HandoverRequest, sender: Sender) -> MoveFlows:
    if not 0 <= request.move < MAX_MOVE:
        raise RemoteProtocolError("a move number out of range", reason="signal")
    moves: list[Move] = []
    for row in request.all_rows():
        select: Select = signals.selector(row)
        moves.append(Move(select, _tunnel(row.tunnel_ids, sender)))
    if not moves:
        raise RemoteProtocolError("a handover without rows", reason="signal")
    return MoveFlows(sender.association, request.move, tuple(moves))


def _tunnel(wanted: Sequence[signals.TunnelChoice], sender: Sender) -> TunnelId:
    """Pick from a preference list: the first one alive, else the first that is the host's; none = where it came."""
    choices = signals.choices(wanted)
    if not choices:
        choices = [None]
    mine = [choice for choice in choices if choice is None or choice in sender.tunnels]
    alive = [choice for choice in mine if choice is None or choice in sender.live or choice == sender.came_on]
    for choice in alive or mine:
        if choice is not None:
            return choice
        if sender.came_on is not None:
            return sender.came_on
        if sender.live:
            return min(sender.live)
    raise RemoteProtocolError("none of these tunnels is this host's", reason="signal")
