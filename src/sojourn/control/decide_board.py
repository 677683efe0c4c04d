"""What the decision knows: paths, lanes, the user's orders, and where everything is now.

decide.py says what follows from what happens; here nothing happens by itself.
"""

from collections.abc import Callable, Sequence
from typing import Final

from msgspec.structs import replace

from sojourn.control.decide_choose import Chooser
from sojourn.control.decide_lanes import Lane
from sojourn.control.decide_orders import UserOrders, home_of, is_word, label_of, policy_of
from sojourn.control.decide_paths import Path, Preferences
from sojourn.control.decide_plan import Change, rows_apart, rules_of
from sojourn.control.flows import FlowBook
from sojourn.control.measures import Measures
from sojourn.control.network_facts import NetworkFacts
from sojourn.control.questions import Questions
from sojourn.model import Flow, Network
from sojourn.policy.match import Match
from sojourn.policy.rank import Ranking
from sojourn.policy.rules import DEFAULT, Facts, Otherwise, Policy, Require, Rule, Via
from sojourn.policy.spans import LocalTime
from sojourn.policy.subject import compile_rules
from sojourn.upmt.host_events import Handover, RuleRow

MEASURE_FOR: Final = 2.0
"""Seconds for which a network that is waited for is measured at a time..."""
MEASURE_FITTING: Final = 1.5
MEASURE_UNFIT: Final = 10.0
"""...again after so many, while it fits and settles, and while it does not fit."""


class Board:
    """Everything that stands."""

    def __init__(
        self,
        preferences: Preferences,
        policies: Sequence[Policy] = (),
        *,
        describe: Callable[[Network], NetworkFacts] | None = None,
        local_time: Callable[[float], LocalTime] | None = None,
        questions: Questions | None = None,
    ) -> None:
        """`policies`: in order, the default last; a default is added where there is none.

        `describe` tells what else is known of a network, `local_time` what the wall clock shows at a time.
        """
        self.preferences = preferences
        self.paths: dict[str, Path] = {}
        self.measures = Measures()
        self.flows = FlowBook()
        self.orders = UserOrders()
        self.questions = questions or Questions()
        self.policies: tuple[Policy, ...] = ()
        self.lanes: dict[str, Lane] = {}
        """By label; applications that the user ordered first, then the policies in order."""
        self._history: dict[str, Path] = {}
        self._chooser = Chooser(self.paths, self.measures, self.questions, self.flows, describe, local_time)
        self._told: tuple[RuleRow, ...] = ()
        self._measured_at: dict[str, float] = {}
        self._set_policies(policies)

    # -- what others ask

    @property
    def active(self) -> str | None:
        """The network of flows that no rule covers."""
        return self._default.place

    @property
    def wanted(self) -> str | None:
        """The network that the user ordered for everything."""
        return self.orders.everything

    @property
    def pinned(self) -> dict[Flow, str]:
        """Flows that the user put on a network; they follow the others while it does not work."""
        return self.orders.pinned

    @property
    def matched(self) -> dict[Match, str]:
        """The same for flows that a match covers."""
        return self.orders.matched

    @property
    def rules(self) -> tuple[RuleRow, ...]:
        """All rules with their places, in order."""
        return rules_of(tuple(self.lanes.values()))

    def direct_rules(self) -> tuple[Rule, ...]:
        """Return the rules whose flows are to be direct, decided when they connect, without any tunnel.

        A flow is direct if the first of all `rules` that covers it is among these: `via = "direct"`, or
        `otherwise = "direct"` while no network fits. Rule DEFAULT speaks of flows that no other covers.
        """
        return tuple(
            Rule(lane.label, lane.policy.subject)
            for lane in self.lanes.values()
            if lane.policy.via is Via.DIRECT or lane.direct
        )

    def lets_over(self, network: str | None, now: float) -> frozenset[str]:
        """Return the labels of lanes whose policy lets their flows go over a network, should that work for them."""
        path = self.paths.get(network) if network is not None else None
        return self._chooser.lets_over(self.lanes.values(), path, now) if path is not None else frozenset()

    def would_ask(self, label: str) -> bool:
        """Say whether a first flow of a rule is a reason to decide again: its policy has a question to ask."""
        lane = self.lanes.get(label, self._default)
        asks = lane.held and lane.policy.otherwise is Otherwise.ASK
        return asks and not any(question.policy == lane.label for question in self.questions.open)

    def ranking_of(self, label: str, now: float) -> Ranking:
        """Return in which order a policy's lane sees the networks now, and why not each (`policy explain`)."""
        self._chooser.begin()
        return self._chooser.ranking(self.lanes[label], now)

    def facts_of(self, now: float) -> list[Facts]:
        """Return what policies are told of each network now."""
        return [self._chooser.facts(path, now) for path in self.paths.values()]

    def facts(self, now: float) -> dict[str, str]:
        """Return in a few words what is known of each network: the cause of a decision, for the roaming log."""
        return {name: self._chooser.words(path, now) for name, path in sorted(self.paths.items())}

    def to_measure(self, now: float) -> list[str]:
        """Return the networks to measure now for `MEASURE_FOR` seconds: flows that left one wait for it to be well."""
        if not len(self.flows):
            return []
        wait: dict[str, bool] = {}
        for lane in self.lanes.values():
            if lane.measured:
                for name, fits in lane.waits_for(now).items():
                    wait[name] = wait.get(name, False) or fits
        out = []
        for name, fits in wait.items():
            every = MEASURE_FITTING if fits else MEASURE_UNFIT
            path = self.paths.get(name)
            if path is not None and path.works and now >= self._measured_at.get(name, float("-inf")) + every:
                self._measured_at[name] = now
                out.append(name)
        return out

    # -- policies

    @property
    def _default(self) -> Lane:
        return self.lanes[DEFAULT]

    def _set_policies(self, policies: Sequence[Policy], why: str = "a network is there") -> None:
        """Take over policies; lanes that stay keep what they know. The default takes every network, some day."""
        own = [policy for policy in policies if policy.label != DEFAULT]
        default = next(
            (one for one in policies if one.label == DEFAULT), Policy(DEFAULT, networks=self.preferences.order)
        )
        if default.require == Require() and "*" not in default.networks:
            default = replace(default, networks=(*default.networks, "*"))
        self.policies = (*own, default)
        self._make_lanes(why)
        self.questions.keep_only(list(self.lanes))

    def _make_lanes(self, why: str = "a network is there") -> None:
        """Make a lane for each order and policy that has none; `why` is the reason of its first move."""
        orders = [
            policy_of(name, network, home_of(name, self.policies))
            for name, network in reversed(self.orders.applications.items())
        ]
        before, self.lanes = self.lanes, {}
        for policy in (*orders, *self.policies):
            lane = self.lanes[policy.label] = before.get(policy.label) or Lane(policy, why)
            lane.policy = policy

    def _relabel(self) -> set[str]:
        return self.flows.relabel(compile_rules([row.rule for row in self.rules]))

    def _home(self, lane: Lane) -> Lane | None:
        """Return the lane that an application's order follows while its network does not work."""
        name = lane.label.removeprefix(label_of(""))
        if name not in self.orders.applications or label_of(name) != lane.label:
            return None
        return self.lanes[home_of(name, self.policies).label]

    # -- what the user puts apart

    def _all(self, reason: str, *, remake: bool = False) -> list[Change]:
        """Return a change for each lane that has a place: rows that carry other labels now go there."""
        if remake:
            self._make_lanes()
            self._relabel()
        lanes = [lane for lane in self.lanes.values() if lane.place is not None or lane.blocked or lane.held]
        return [Change(lane.label, reason, None) for lane in lanes]

    def _works(self, name: str) -> bool:
        path = self.paths.get(name)
        return path is not None and path.works

    def _others(self, select: Flow | Match) -> str | None:
        """Return where a flow goes when nothing is ordered for it."""
        known = self.flows.get(select) if isinstance(select, Flow) else None
        lane = self.lanes.get(known.label) if known is not None else None
        return self.active if lane is None else lane.place

    def _place_anew(self, now: float, moving: set[str]) -> dict[Flow | Match, str | None]:
        """Find the places of all that stands apart; return those that rows of the lanes `moving` do not reach."""
        orders, before = self.orders, self.orders.placed
        orders.placed = {select: self._place_of(select, wanted, now) for select, wanted in orders.apart()}
        return {
            select: place
            for select, place in orders.placed.items()
            if place != self._others(select) or (place != before.get(select) and not self._goes_along(select, moving))
        }

    def _goes_along(self, select: Flow | Match, moving: set[str]) -> bool:
        """Say whether a row that moves a whole lane moves this, too."""
        known = self.flows.get(select) if isinstance(select, Flow) else None
        return known is None or known.label in moving

    def _place_of(self, select: Flow | Match, wanted: str, now: float) -> str | None:
        if is_word(wanted):
            return wanted
        path = self.paths.get(wanted)
        stays = path is not None and self.orders.placed.get(select) == wanted and path.may_stay(now)
        return wanted if stays or self._works(wanted) else self._others(select)

    def _place_apart(self, now: float) -> list[Handover]:
        """Let what was put on a network that fails follow the others, and bring it back when that works again."""
        moves: dict[tuple[str | None, str | None], dict[Flow | Match, str | None]] = {}
        for select, wanted in self.orders.apart():
            before, place = self.orders.placed.get(select), self._place_of(select, wanted, now)
            if before != place:
                self.orders.placed[select] = place
                moves.setdefault((before, place), {})[select] = place
        return [Handover(rows_apart(rows), self._why_apart(*way), way[0]) for way, rows in moves.items()]

    def _why_apart(self, before: str | None, place: str | None) -> str:
        path = self.paths.get(before or "") or self._history.get(before or "")
        if path is None or path.works:
            return f"{place} works again"
        return f"{before}: {path.why}"
