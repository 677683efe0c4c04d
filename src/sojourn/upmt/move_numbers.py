"""Which move numbers of a host were used up before this anchor started (DESIGN §2, 3).

Rows carry the numbers that placed them, so that late requests leave them alone. An anchor whose processes both
died has lost its rows: a request from before that comes late, over a network that held it up, would place flows
where they have long left. What was carried out by then is on record, and whatever is older is stale.
"""

from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from sojourn.model import AssociationId
from sojourn.paft import MoveResult
from sojourn.upmt.commands import Exactly, MoveFlows
from sojourn.upmt.events import FlowsMoved, State
from sojourn.upmt.lease import MAX_MOVE
from sojourn.upmt.records import Subscriber


class MoveNumbers:
    """The numbers of one anchor's hosts, as they stood at its start."""

    def __init__(self, subscribers: Mapping[str, Subscriber]) -> None:
        self._before = {user: subscriber.move for user, subscriber in subscribers.items()}

    def sift(self, user: str, orders: Sequence[MoveFlows]) -> tuple[list[MoveFlows], list[FlowsMoved]]:
        """Return the orders to carry out, and what became of those that are older than what had been carried out.

        Number 0 is none (the paper's form): it moves only what no numbered request has placed.
        """
        before = self._before.get(user, 0)
        late = [_stale(order) for order in orders if 0 < order.number < before]
        return [order for order in orders if not 0 < order.number < before], late


def noted(subscriber: Subscriber, number: int) -> Subscriber:
    """Return the record with a number that was ordered; the same one where that is no news."""
    return replace(subscriber, move=min(number, MAX_MOVE - 1)) if number > subscriber.move else subscriber


def adopted(state: State, user_of: Callable[[AssociationId], Subscriber | None]) -> dict[str, Subscriber]:
    """Return the records, by user, whose numbers are behind those in the rows of a data path that ran already."""
    newest: dict[AssociationId, int] = {}
    for row in state.rows:
        newest[row.association] = max(newest.get(row.association, 0), row.move)
    known = ((user_of(association), number) for association, number in newest.items())
    return {one.user: noted(one, number) for one, number in known if one is not None and number > one.move}


def _stale(order: MoveFlows) -> FlowsMoved:
    results = tuple(
        (MoveResult.STALE,) * len(move.select.flows) if isinstance(move.select, Exactly) else () for move in order.moves
    )
    counts = tuple({MoveResult.STALE: len(result)} if result else {} for result in results)
    return FlowsMoved(order.association, order.number, counts, results)
