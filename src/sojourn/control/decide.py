"""The decision (MMOCE): which network carries which flows, and why.

Facts about paths and measurements come in, `Handover` plans go out, each with the reason that `sojourn log` shows.
Every policy has a lane (decide_lanes.py); the last one is the default, for flows that no rule covers. What a lane does
when something changes:

    its network works and fits  -> a better one that has settled: moves (`stay`: only new flows do); else stays
    works, but does not fit     -> another one that fits: leaves at once; none: `otherwise`
    does not work               -> the best that fits, at once; none fits: `otherwise`; none works: waits for hope

Lanes whose network is not concerned stay where they are. What the user ordered goes before any policy
(decide_orders.py). With the default alone one row says everything, and nothing is measured for the decision.

Timers: settling (decide_paths.py, decide_lanes.py), `GRACE`, `RECHECK` while a network is waited for, the minute where
a policy has times, questions (questions.py), orders that expire.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from sojourn.control.decide_board import Board
from sojourn.control.decide_lanes import Lane
from sojourn.control.decide_orders import DIRECT, home_of, is_word, label_of, word_of
from sojourn.control.decide_orders import MAX_MATCHED as MAX_MATCHED
from sojourn.control.decide_paths import FORGIVE as FORGIVE
from sojourn.control.decide_paths import GRACE as GRACE
from sojourn.control.decide_paths import Path
from sojourn.control.decide_paths import PathState as PathState
from sojourn.control.decide_paths import Preferences as Preferences
from sojourn.control.decide_paths import ranked as ranked
from sojourn.control.decide_plan import Change, plan_of, rows_apart
from sojourn.control.measures import PathMeasured
from sojourn.control.portals import PathCaptive
from sojourn.control.questions import AnswerGiven
from sojourn.model import Flow, Network
from sojourn.policy.match import Match
from sojourn.policy.names import application_names
from sojourn.policy.rules import DEFAULT, Policy, Via
from sojourn.upmt.host_events import (
    FlowGone,
    Handover,
    HandoverWanted,
    HostFact,
    PathBlocked,
    PathFailed,
    PathGone,
    PathOpened,
    PathRecovered,
    PathSilent,
    PathTested,
)

Fact = HostFact | HandoverWanted | PathCaptive | PathMeasured | AnswerGiven


class Decide(Board):
    """A machine (machine.py): host facts in, `Handover` plans out."""

    # -- the machine's surface

    def handle(self, event: Fact, now: float) -> list[Handover]:
        """Take in one fact; return the handovers that follow from it."""
        match event:
            case PathOpened(network):
                self._opened(network, now)
            case PathTested(name) | PathRecovered(name):
                self.measures.interrupted(name)
                if isinstance(event, PathTested) and name in self.paths:
                    self.measures.tested(name, event.rtt)
                self._become(name, PathState.WORKS, "answers", now)
            case PathSilent(name, after):
                self._become(name, PathState.SILENT, f"no answer for {after * 1000:.0f} ms", now)
            case PathBlocked(name, why):
                self._become(name, PathState.BLOCKED, why, now)
            case PathFailed(name, why):
                self._become(name, PathState.FAILED, why, now)
            case PathCaptive(name):
                self._become(name, PathState.CAPTIVE, "its portal is closed", now)
            case PathGone():
                self._gone(event, now)
            case PathMeasured(name):
                if name in self.paths:
                    self.measures.take(event, now)
                if not any(lane.measured for lane in self.lanes.values()):
                    return []
            case FlowGone(flow):
                self.flows.ended(flow)
                self.orders.forget_flow(flow)
                return []
            case AnswerGiven():
                self.questions.answer(event)
            case HandoverWanted():
                return self._ordered(event, now)
        return self._choose(now)

    def deadline(self) -> float | None:
        """Return when time alone may be a reason to decide otherwise."""
        times = [lane.due for lane in self.lanes.values()]
        times += [self.questions.deadline(), self.orders.deadline()]
        if (active := self.paths.get(self.active or "")) is not None and active.works:
            in_use = [self.paths[name] for name in {*self.orders.placed.values()} if name in self.paths]
            times += [path.since + GRACE for path in in_use if path.state is PathState.TESTING]
        return min((time for time in times if time is not None), default=None)

    def tick(self, now: float) -> list[Handover]:
        """Decide again: time itself can be the reason."""
        self.questions.tick(now)
        return self._choose(now)

    def replace_policies(self, policies: Sequence[Policy], now: float) -> list[Handover]:
        """Go by other policies from now on. Lanes whose policy only changed keep their place until it does not fit."""
        before, why = self.rules, "the policies have changed"
        self._set_policies(policies, why)
        self._relabel()
        return self._settle(now, self._all(why) if self.rules != before else [])

    def refine_policies(self, policies: Sequence[Policy], now: float) -> list[Handover]:
        """Take in that rules cover other destinations (names of addresses became known): only what they gain moves."""
        why = "the name of its destination became known"
        self._set_policies(policies, why)
        gained = self._relabel()
        return self._settle(now, [change for change in self._all(why) if change.lane in gained])

    # -- facts

    def _opened(self, network: Network, now: float) -> None:
        path = self.paths.get(network.name)
        self.measures.opened(network.name)
        if path is None:
            path = self.paths[network.name] = Path(network, now)
            path.remember(self._history.pop(network.name, None), now)
        else:
            path.reopen(network, now)

    def _become(self, name: str, state: PathState, why: str, now: float) -> None:
        path = self.paths.get(name)
        if path is not None:
            path.become(state, why, now)

    def _gone(self, fact: PathGone, now: float) -> None:
        name = fact.network
        path = self.paths.pop(name, None)
        self.measures.gone(name)
        self._measured_at.pop(name, None)
        if path is not None:
            if fact.wanted:  # it has not failed; and when the user gives it back, it is to be used
                path.failures = 0
            else:
                path.become(PathState.FAILED, fact.why, now)
            self._history[name] = path
        for lane in self.lanes.values():
            lane.network_gone(name, fact.why)
        if name == self.orders.everything:
            self.orders.everything = None

    # -- choosing

    def _choose(self, now: float) -> list[Handover]:
        return self._settle(now, [])

    def _settle(self, now: float, first: list[Change]) -> list[Handover]:
        """Look at all lanes; return what follows from their changes, and from `first`, which happened before."""
        self._chooser.begin()
        for name in self.orders.expire(self.paths, now):
            first = [*first, *self._release(name, f"{name}'s network has not come back")]
        everything = self._everything(now)
        moved = {change.lane for change in first}
        changes = list(first)
        for lane in reversed(self.lanes.values()):  # the default first: others may follow it
            changes += [
                change
                for change in self._look(lane, everything, now)
                if change.lane not in moved or change.leaves is not None
            ]
        return self._handovers(changes, now)

    def _look(self, lane: Lane, everything: str | None, now: float) -> list[Change]:
        home = self._home(lane)
        if home is not None:
            wanted = self.orders.applications[lane.label.removeprefix(label_of(""))]
            if is_word(wanted):
                follows = wanted == DIRECT
                return self._chooser.follow_lane(lane, home, now) if follows else self._chooser.choose(lane, None, now)
            ordered = self.paths.get(wanted)
            if ordered is not None and (
                ordered.works or (lane.place == ordered.network.name and ordered.may_stay(now))
            ):
                return self._chooser.follow(lane, ordered.network.name, "works again", now)
            return self._chooser.follow_lane(lane, home, now)
        if lane.policy.via is Via.DIRECT and lane.label != DEFAULT:
            return self._chooser.follow_lane(lane, self._default, now)
        return self._chooser.choose(lane, everything, now)

    def _everything(self, now: float) -> str | None:
        """Return the network that the user ordered for everything, if it works; an order that cannot be met ends."""
        name = self.orders.everything
        path = self.paths.get(name or "")
        if name is None or (path is not None and path.works):
            return name
        others = any(other.works for other in self.paths.values())
        if path is None or (others and not path.may_stay(now)):
            self.orders.everything = None
        return None

    def _handovers(self, changes: Sequence[Change], now: float) -> list[Handover]:
        """Make handovers of changes: one for all that have the same reason, the rules with the first."""
        groups: dict[tuple[str | None, str], list[Change]] = {}
        for change in changes:
            groups.setdefault((change.came_from, change.reason), []).append(change)
        moving = {change.lane for change in changes if not change.only_new}
        apart = self._place_anew(now, moving) if moving else {}
        out = []
        for (came_from, reason), group in groups.items():
            plan = plan_of(group, self.lanes, self.flows)
            if plan:
                plan, apart = (*plan, *rows_apart(apart)), {}
            out.append(Handover(plan, reason, came_from))
        active = self.paths.get(self.active or "")
        if not moving and active is not None and active.works:
            out += self._place_apart(now)
        return self._with_rules(out)

    def _with_rules(self, handovers: list[Handover]) -> list[Handover]:
        """Say where flows to come go, if that changed, with the first handover."""
        rules = self.rules
        if rules == self._told or not self.paths:
            return [handover for handover in handovers if handover.plan]
        self._told = rules
        if not handovers:
            return [Handover((), "for flows to come", None, rules)]
        first = replace(handovers[0], rules=rules)
        return [first, *(handover for handover in handovers[1:] if handover.plan)]

    # -- what the user puts apart

    def _ordered(self, order: HandoverWanted, now: float) -> list[Handover]:
        """Carry out the user's order, unless the network has gone since it was given."""
        if order.network is None:
            return self._released(order, now)
        if order.network not in self.paths and not is_word(order.network):
            return []
        reason = f"ordered {order.reason}"
        if order.application is not None:
            return self._ordered_application(order.application, order.network, reason, now)
        if order.match is None and order.flows is None:
            return self._ordered_everything(order.network, reason, now)
        apart: tuple[Flow | Match, ...]
        if order.match is not None:
            apart = (order.match,)
            self.orders.match(order.match, order.network)
        else:
            apart = order.flows or ()
            self.orders.pin(order.flows or (), order.network)
        word = is_word(order.network)
        works = word or self._works(order.network) or self.active is None
        places = {one: order.network if works else self._others(one) for one in apart}
        self.orders.placed.update(places)
        self.flows.moved_exactly(order.flows or (), None if word else order.network)
        return [Handover(rows_apart(places), reason, self.active)]

    def _ordered_everything(self, network: str, reason: str, now: float) -> list[Handover]:
        if not self._works(network) and any(path.works for path in self.paths.values()):
            return []
        self.orders.clear()
        self.orders.everything = network
        self._make_lanes()
        self._relabel()
        changes = []
        for lane in self.lanes.values():
            if not lane.policy.blocked:
                changes.append(Change(lane.label, reason, lane.place))
                lane.behind.clear()
                lane.go(network, reason, now)
        return self._handovers(changes, now) + self._choose(now)

    def _ordered_application(self, name: str, network: str, reason: str, now: float) -> list[Handover]:
        """Make a rule above all others; its place is the network, or where the application was while that is down."""
        before = self.lanes.get(label_of(name)) or self.lanes[home_of(name, self.policies).label]
        came_from = before.place
        self.orders.application(name, network)
        self._make_lanes()
        self._relabel()
        lane = self.lanes[label_of(name)]
        if is_word(network):
            lane.go(came_from, f"{reason}: {word_of(network)}", now)
            return self._settle(now, [])
        lane.go(network if self._works(network) else came_from, reason, now)
        changes = [Change(lane.label, reason, came_from)]
        return self._handovers(changes, now) + self._choose(now)

    def _released(self, order: HandoverWanted, now: float) -> list[Handover]:
        """Give what was ordered back to the policies."""
        reason = f"released {order.reason}"
        if order.application is not None:
            return self._settle(now, self._release(order.application, reason))
        apart: list[Flow | Match] = [] if order.match is None else [order.match]
        apart += order.flows or ()
        if not apart:
            names = list(self.orders.applications)
            self.orders.clear()
            return self._settle(now, self._all(reason, remake=bool(names)))
        places = {one: self._others(one) for one in apart}
        for one in apart:
            if isinstance(one, Match):
                self.orders.forget_match(one)
            else:
                self.orders.forget_flow(one)
        self.flows.moved_exactly([one for one in apart if isinstance(one, Flow)], self.active)
        return [Handover(rows_apart(places), reason, None)]

    def _release(self, application: str, reason: str) -> list[Change]:
        """End an application's order; its flows go back to where the rules that cover them have theirs."""
        labels = {known.label for known in self.flows.made_by(application, application_names)}
        if not self.orders.forget_application(application) and label_of(application) not in self.lanes:
            return []
        self._make_lanes()
        self._relabel()
        labels = {known.label for known in self.flows.made_by(application, application_names)} or labels
        return [change for change in self._all(reason) if change.lane in labels or not len(self.flows)]
