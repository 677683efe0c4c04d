"""The anchor's half of the signals: MESSAGE bodies in, orders for the data path and answers out.

A handover request is answered when the data path has said what became of its rows (`FlowsMoved`),
so that the 200 OK tells the truth. A long list of flows goes to the data path in parts, between which it moves the
packets of others; the answer is one. Timer: a request that the data path did not answer within `PATIENCE` is
answered by `Failure`, and the host asks again.
"""

from collections import Counter, deque
from collections.abc import Hashable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from sojourn.errors import RemoteProtocolError
from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.paft import MoveResult
from sojourn.upmt import signals
from sojourn.upmt.commands import Exactly, Move, MoveFlows
from sojourn.upmt.events import FlowsMoved
from sojourn.upmt.lease import MAX_MOVE

PATIENCE = 3.0
"""Seconds that the data path may take; it answers in milliseconds unless it is being replaced."""
MAX_WAITING = 4096
MAX_WAITING_EACH = 64
"""Requests of one host that are being carried out. Ours has one at a time, of 64 signals at most."""
FLOWS_PER_PART = 256


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


class _Order:
    """One handover of a request, and what has been heard of its rows."""

    __slots__ = ("counts", "number", "parts", "results", "tunnels")

    def __init__(self, order: MoveFlows) -> None:
        self.number = order.number
        self.tunnels = [move.tunnel for move in order.moves]
        self.counts: list[Counter[MoveResult]] = [Counter() for _ in order.moves]
        self.results: list[list[MoveResult]] = [[] for _ in order.moves]
        self.parts = _parts(order)
        """What is asked of the data path, with the rows that each part's moves stand in; the first unanswered one."""

    def heard(self, event: FlowsMoved) -> bool:
        """Take in the answer to the next part; say whether it was the last."""
        _, rows = self.parts.popleft()
        for place, row in enumerate(rows[: len(event.counts)]):
            self.counts[row].update(event.counts[place])
            self.results[row] += event.results[place] if place < len(event.results) else ()
        return not self.parts

    def answer(self) -> signals.HandoverResponse:
        """Return what became of it."""
        rows = zip(self.counts, self.results, self.tunnels, strict=True)
        return signals.HandoverResponse(self.number, tuple(signals.result_of(*row) for row in rows))


def _parts(order: MoveFlows) -> deque[tuple[MoveFlows, tuple[int, ...]]]:
    """Cut an order at its long lists; the parts have one number, and mean together what the order means."""
    parts: deque[tuple[MoveFlows, tuple[int, ...]]] = deque()
    moves: list[Move] = []
    rows: list[int] = []
    room = FLOWS_PER_PART

    def close() -> None:
        nonlocal room
        parts.append((replace(order, moves=tuple(moves)), tuple(rows)))
        moves.clear()
        rows.clear()
        room = FLOWS_PER_PART

    for row, move in enumerate(order.moves):
        flows = move.select.flows if isinstance(move.select, Exactly) else ()
        while len(flows) > room:
            moves.append(replace(move, select=Exactly(flows[:room])))
            rows.append(row)
            flows = flows[room:]
            close()
        moves.append(replace(move, select=Exactly(flows)) if isinstance(move.select, Exactly) else move)
        rows.append(row)
        room -= len(flows)
    close()
    return parts


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
        self._waiting: dict[tuple[AssociationId, int], deque[tuple[_Waiting, int, _Order]]] = {}
        self._open: deque[_Waiting] = deque()
        self._open_of: Counter[AssociationId] = Counter()

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
        if len(self._open) >= MAX_WAITING or self._open_of[sender.association] >= MAX_WAITING_EACH:
            raise RemoteProtocolError("too many handovers at once", reason="busy")
        numbers = {(sender.association, order.number) for _, order in places}
        waiting = _Waiting(key, numbers, answers, now + PATIENCE)
        self._open.append(waiting)
        self._open_of[sender.association] += 1
        for place, order in places:
            queue = self._waiting.setdefault((sender.association, order.number), deque())
            queue.append((waiting, place, asked := _Order(order)))
            orders += [part for part, _ in asked.parts]
        return orders, None

    def moved(self, event: FlowsMoved) -> Answer | None:
        """Take in what became of a handover; return the answer when it is complete."""
        queue = self._waiting.get((event.association, event.number))
        if not queue:
            return None
        waiting, place, asked = queue[0]
        if not asked.heard(event):
            return None
        queue.popleft()
        if not queue:
            del self._waiting[event.association, event.number]
        waiting.answers[place] = asked.answer()
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
        association = next(iter(waiting.numbers))[0]
        self._open_of[association] -= 1
        if not self._open_of[association]:
            del self._open_of[association]
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
        tunnel = _tunnel(row.tunnel_ids, sender)
        label = row.application[: signals.MAX_LABEL] if row.application is not None and row.flows is not None else None
        moves.append(Move(signals.selector(row), tunnel, _copies(row.copies, tunnel, sender), label=label))
    if not moves:
        raise RemoteProtocolError("a handover without rows", reason="signal")
    return MoveFlows(sender.association, request.move, tuple(moves))


def _copies(wanted: Sequence[int], tunnel: TunnelId, sender: Sender) -> tuple[TunnelId, ...]:
    """Return the host's tunnels among those that are wanted for copies, each once, and not the first tunnel again."""
    mine = [TunnelId(copy) for copy in dict.fromkeys(wanted) if copy in sender.tunnels and copy != tunnel]
    return tuple(mine[: signals.MAX_COPIES])


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
