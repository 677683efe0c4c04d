"""From what changed in the lanes to handovers: as few rows as say it, each group with its reason.

When all lanes go to one network, one row for everything says it, flows to come included. Else a row a label.
"""

from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct

from sojourn.control.decide_lanes import Lane
from sojourn.control.decide_orders import BLOCK, HOLD
from sojourn.control.flows import FlowBook
from sojourn.model import Flow
from sojourn.policy.match import Match
from sojourn.policy.rules import DEFAULT, Policy, Rule, Subject
from sojourn.upmt.commands import Everything, Exactly, Labelled, Matching, Select
from sojourn.upmt.host_events import PlanRow, RuleRow


class Change(Struct, frozen=True):
    """A lane has another place now, or what stayed behind on a network leaves it."""

    lane: str
    reason: str
    came_from: str | None
    only_new: bool = False
    """Flows that run stay where they are."""
    leaves: str | None = None
    """A network that flows had stayed behind on: only they move."""
    said_by_user: bool = False


def plan_of(changes: Sequence[Change], lanes: Mapping[str, Lane], book: FlowBook) -> tuple[PlanRow, ...]:
    """Return the rows of changes that have one reason, the default's first."""
    moving = [change for change in changes if not change.only_new]
    whole = {change.lane for change in moving if change.leaves is None}
    together = {(lane.place, lane.copies, lane.blocked) for lane in lanes.values()}
    if whole == lanes.keys() and len(together) == 1 and not any(lane.behind for lane in lanes.values()):
        ((place, copies, blocked),) = together
        book.moved(place)
        return (PlanRow(Everything(), place, copies, blocked),)
    rows = [_row(change, lanes[change.lane], book) for change in moving if change.lane in whole or change.leaves]
    return tuple(rows)


def _row(change: Change, lane: Lane, book: FlowBook) -> PlanRow:
    """Return the row of one change. Where flows stayed behind on networks that still do, only the others are meant."""
    select: Select = Labelled(lane.label)
    leaving = change.leaves if change.leaves is not None else change.came_from
    others = [name for name in lane.behind if name != leaving]
    if others and leaving is not None:
        flows = book.on(lane.label, leaving)
        select = Exactly(flows)
        book.moved_exactly(flows, lane.place)
    else:
        lane.behind.clear()
        book.moved(lane.place, lane.label)
    return PlanRow(select, lane.place, lane.copies, lane.blocked)


def rules_of(lanes: Collection[Lane]) -> tuple[RuleRow, ...]:
    """Return all rules with their places, in order: for flows to come. None are needed for the default alone.

    Else the default is the last rule, which covers everything: it, too, may have moved for flows to come only.
    """
    if len(lanes) == 1 and not any(lane.policy.stay or lane.blocked or lane.held for lane in lanes):
        return ()
    return tuple(RuleRow(_rule(lane.policy), lane.place, lane.copies, lane.blocked) for lane in lanes)


def _rule(policy: Policy) -> Rule:
    return Rule(policy.label, Subject() if policy.label == DEFAULT else policy.subject)


def rows_apart(places: Mapping[Flow | Match, str | None]) -> tuple[PlanRow, ...]:
    """Return rows for matches, then one for the flows of each network."""
    rows = [_apart(Matching(select), place) for select, place in places.items() if isinstance(select, Match)]
    flows: dict[str | None, list[Flow]] = {}
    for select, place in places.items():
        if isinstance(select, Flow):
            flows.setdefault(place, []).append(select)
    return (*rows, *(_apart(Exactly(tuple(some)), place) for place, some in flows.items()))


def _apart(select: Select, place: str | None) -> PlanRow:
    return PlanRow(select, None if place in (HOLD, BLOCK) else place, block=place == BLOCK)
