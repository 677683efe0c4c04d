"""Where one lane's flows should be now: its policy's order of networks, and patience (decide.py has the rules)."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from msgspec.structs import replace

from sojourn.control.decide_lanes import Lane
from sojourn.control.decide_paths import GRACE, Path, PathState
from sojourn.control.decide_plan import Change
from sojourn.control.flows import FlowBook
from sojourn.control.measures import Measures
from sojourn.control.network_facts import NetworkFacts
from sojourn.control.questions import Questions
from sojourn.model import Network
from sojourn.policy.quantities import write_fraction, write_rate, write_seconds
from sojourn.policy.rank import Ranking, fits, rank
from sojourn.policy.rules import Facts, Otherwise
from sojourn.policy.spans import LocalTime

RECHECK: Final = 1.0
"""Seconds after which a lane that waits for a network it has left looks at it again."""


class Chooser:
    """Looks at networks as lanes see them, and changes lanes."""

    def __init__(
        self,
        paths: Mapping[str, Path],
        measures: Measures,
        questions: Questions,
        flows: FlowBook,
        describe: Callable[[Network], NetworkFacts] | None,
        local_time: Callable[[float], LocalTime] | None,
    ) -> None:
        self._paths = paths
        self._measures = measures
        self._questions = questions
        self._flows = flows
        self._describe = describe
        self._local_time = local_time
        self._known: dict[tuple[str, bool], Facts] = {}

    def begin(self) -> None:
        """Look at the networks anew: something has happened. All lanes then see the same facts."""
        self._known.clear()

    # -- what is known

    def facts(self, path: Path, now: float, *, certain: bool = False) -> Facts:
        """Return what is known of a network; `certain`: of its loss what is proved, else what is likely."""
        network, measures = path.network, self._measures.of(path.network.name)
        told = self._describe(network) if self._describe is not None else None
        loss = measures.certain(now) if certain else measures.likely(now)
        metered = told.metered if told is not None else network.metered
        return Facts(
            network.name,
            kind=told.kind if told is not None else network.kind,
            label=told.label if told is not None else None,
            interface=network.interface,
            works=path.works,
            metered=metered,
            cost=told.cost if told is not None else "metered" if metered else "free",
            signal=told.signal if told is not None else None,
            security=told.security if told is not None else (),
            over_cap=told.over_cap if told is not None else False,
            rtt=_rounded(measures.rtt, 4),
            loss=_rounded(loss, 3),
            jitter=_rounded(measures.jitter, 4),
            rate=_rounded(measures.rate(now), -3),
            trend=measures.trend(now),
        )

    def lets_over(self, lanes: Iterable[Lane], path: Path, now: float) -> frozenset[str]:
        """Return the labels of lanes whose policy has a network and finds its conditions met there, works it or not."""
        facts = self.facts(path, now)
        local = self._local_time(now) if self._local_time is not None else None
        return frozenset(lane.label for lane in lanes if fits(lane.policy, facts, local))

    def words(self, path: Path, now: float) -> str:
        """Return what is known of a network in a few words."""
        facts = self.facts(path, now)
        said = [path.state.value if path.works else f"{path.state.value} ({path.why})"]
        for name, value, write in (
            ("rtt", facts.rtt, write_seconds), ("loss", facts.loss, write_fraction),
            ("jitter", facts.jitter, write_seconds), ("rate", facts.rate, write_rate),
            ("signal", facts.signal, write_fraction),
        ):  # fmt: skip
            if value is not None:
                said.append(f"{name} {write(value)}")
        said += ["metered"] * facts.metered + ["over its cap"] * facts.over_cap
        return ", ".join(said)

    def ranking(self, lane: Lane, now: float) -> Ranking:
        """Return the networks in a lane's order, those in use judged by what is proved, others by what is likely."""
        facts = [lane.judged(self.facts(path, now, certain=lane.uses(name)), now) for name, path in self._paths.items()]
        local = self._local_time(now) if lane.policy.require.time and self._local_time is not None else None
        return rank(lane.policy, facts, lane.place, local)

    # -- following

    def follow(self, lane: Lane, network: str, why: str, now: float) -> list[Change]:
        """Put a lane on a network, if it is not there."""
        lane.due = None
        path = self._paths.get(network)
        if path is not None and path.state is PathState.TESTING:
            lane.due = path.since + GRACE
        if lane.place == network and not lane.blocked:
            return []
        return [self._go(lane, network, f"{network} {why}", now)]

    def follow_lane(self, lane: Lane, leader: Lane, now: float) -> list[Change]:
        """Put a lane where another one is."""
        lane.due = None
        if (lane.place, lane.copies, lane.blocked) == (leader.place, leader.copies, leader.blocked):
            return []
        change = Change(lane.label, leader.why, lane.place)
        lane.go(leader.place, leader.why, now, leader.copies, blocked=leader.blocked)
        return [change]

    # -- choosing

    def choose(self, lane: Lane, everything: str | None, now: float) -> list[Change]:
        """Look at a lane; return how it changed. `everything`: where the user wants it, whatever its policy says."""
        lane.due = None
        if lane.policy.blocked:
            return self._none(lane, "the policy blocks these flows", now, blocked=True)
        ranking = self.ranking(lane, now)
        lane.note(ranking.fitting, now)
        lane.direct = False
        if ranking.fitting:
            self._questions.settle(lane.label)
        changes = [] if everything is not None else self._evacuate(lane, ranking, now)
        changes += self._place(lane, ranking, everything, now)
        if lane.measured and lane.waits_for(now):
            lane.due = now + RECHECK if lane.due is None else min(lane.due, now + RECHECK)
        if lane.policy.require.time and self._local_time is not None:
            minute = now + 60.0 - self._local_time(now).second % 60
            lane.due = minute if lane.due is None else min(lane.due, minute)
        return changes

    def _place(self, lane: Lane, ranking: Ranking, everything: str | None, now: float) -> list[Change]:
        fitting = ranking.fitting
        best = everything or next(iter(fitting), None)
        active = self._paths.get(lane.place or "")
        if active is not None and active.works:
            if everything == lane.place or (everything is None and lane.place in fitting):
                return self._improve(lane, active, best, everything, ranking, now)
            if everything is not None:
                return [self._go(lane, everything, f"{everything} is what the user ordered", now)]
            return self._escape(lane, active, ranking, now)
        if active is not None and active.may_stay(now) and (best is not None or ranking.working):
            lane.due = active.since + GRACE
            return []
        if best is not None:
            if lane.held and best != everything:
                return self._resume(lane, fitting, now)
            return [self._go(lane, best, self._why_left(lane), now, self._copies(lane, best, ranking, now))]
        if ranking.working:
            return self._otherwise(lane, ranking, self._why_left(lane), now)
        return self._without_working(lane, active, now)

    def _improve(
        self, lane: Lane, active: Path, best: str | None, everything: str | None, ranking: Ranking, now: float
    ) -> list[Change]:
        """Stay where all is well, unless a better network has settled."""
        here = active.network.name
        if best is None or best == here:
            lane.no_better()
            return self._copy(lane, ranking, now)
        ready = lane.ready_at(best, self._paths[best].settled_at(), now)
        if now < ready:
            lane.due = self._soon(ready, now)
            return self._copy(lane, ranking, now)
        lane.chose(now)
        reason, stays = f"{best} is preferred to {here}", lane.policy.stay
        if stays:
            lane.behind[here] = None
            lane.behind.pop(best, None)
        return [self._go(lane, best, reason, now, self._copies(lane, best, ranking, now), only_new=stays)]

    def _escape(self, lane: Lane, active: Path, ranking: Ranking, now: float) -> list[Change]:
        """Leave a network that works, but does not fit."""
        here = active.network.name
        place = ranking.place(here)
        why = f"{here}: {place.why_not[0]}" if place is not None and place.why_not else f"{here} does not fit"
        candidates = [name for name in ranking.fitting if now >= lane.escape_at(name)]
        if candidates:
            lane.leave_unfit(here, now)
            return [self._go(lane, candidates[0], why, now, self._copies(lane, candidates[0], ranking, now))]
        lane.due = self._soon(min((lane.escape_at(name) for name in ranking.fitting), default=float("inf")), now)
        if ranking.fitting:
            return []
        return self._otherwise(lane, ranking, why, now)

    def _resume(self, lane: Lane, fitting: tuple[str, ...], now: float) -> list[Change]:
        """Go on with flows that were held: as soon as a network fits that was not left a moment ago."""
        ready = {name: lane.escape_at(name) for name in fitting}
        for name, at in ready.items():
            if now >= at:
                return [self._go(lane, name, f"{name} fits now", now)]
        lane.due = self._soon(min(ready.values()), now)
        return []

    def _otherwise(self, lane: Lane, ranking: Ranking, why: str, now: float) -> list[Change]:
        """Do what the policy says for when networks work and none fits."""
        policy, word = lane.policy, str(lane.policy.otherwise)
        active = self._paths.get(lane.place or "")
        here = lane.place if active is not None and active.works else None
        if policy.otherwise is Otherwise.ASK:
            word = self._questions.choice_for(policy, ranking.working, now, concerned=self._flows.count(lane.label) > 0)
        lane.due = self._soon(lane.due, now) if lane.measured else lane.due
        if word in self._paths:
            return [] if word == here else [self._go(lane, word, f"{why}; the user chose {word}", now)]
        lane.direct = word == Otherwise.DIRECT
        if word == Otherwise.BLOCK:
            return self._none(lane, why, now, blocked=True)
        if word == Otherwise.HOLD or (lane.direct and here is None):
            if here is not None:
                lane.leave_unfit(here, now)
            return self._none(lane, why, now)
        if here is not None:
            return self._copy(lane, ranking, now)
        return [self._go(lane, ranking.working[0], why, now)]

    def _none(self, lane: Lane, why: str, now: float, *, blocked: bool = False) -> list[Change]:
        """Let a lane's flows wait, or refuse them."""
        if lane.place is None and lane.blocked is blocked and (lane.held or blocked):
            return []
        change = Change(lane.label, why, lane.place)
        lane.go(None, why, now, blocked=blocked)
        lane.held = not blocked
        return [change]

    def _without_working(self, lane: Lane, active: Path | None, now: float) -> list[Change]:
        """No path is known to work: stay where hope is, or try the newest one unseen (opportunistic set-up)."""
        if active is not None and active.state not in (PathState.FAILED, PathState.CAPTIVE):
            untested = [path for path in self._paths.values() if path.state is PathState.TESTING and path is not active]
            if active.state is PathState.TESTING or not untested:
                return []
        hopeful = [path for path in self._paths.values() if path.state in (PathState.TESTING, PathState.SILENT)]
        would_fit = self._would_fit(lane, now)
        hopeful = [path for path in hopeful if path.network.name in would_fit]
        if not hopeful:
            return []
        first = min(hopeful, key=lambda path: (path.state is not PathState.TESTING, would_fit.index(path.network.name)))
        if first is active:
            return []
        return [self._go(lane, first.network.name, self._why_left(lane), now)]

    def _would_fit(self, lane: Lane, now: float) -> tuple[str, ...]:
        """Return the networks that fit if they work, the best first."""
        facts = [replace(self.facts(path, now), works=True) for path in self._paths.values()]
        local = self._local_time(now) if lane.policy.require.time and self._local_time is not None else None
        ranking = rank(lane.policy, facts, lane.place, local)
        return ranking.fitting + (ranking.working if lane.policy.otherwise is Otherwise.ANY else ())

    # -- details

    def _evacuate(self, lane: Lane, ranking: Ranking, now: float) -> list[Change]:
        """Let flows that stayed behind follow, where the network that they stayed on does not do any more."""
        changes = []
        for name in list(lane.behind):
            path = self._paths.get(name)
            if path is not None and (path.may_stay(now) or (path.works and name in ranking.fitting)):
                continue
            target = self._paths.get(lane.place or "")
            if target is None or not target.works:
                continue  # the lane itself moves now
            why = path.why if path is not None and not path.works else "it does not fit any more"
            if path is not None and path.works and (place := ranking.place(name)) is not None and place.why_not:
                why = place.why_not[0]
            changes.append(Change(lane.label, f"{name}: {why}", name, leaves=name))
            lane.leave_behind(name)
        return changes

    def _copies(self, lane: Lane, first: str, ranking: Ranking, now: float) -> tuple[str, ...]:
        """Return the further networks that get copies: those that fit, and that have settled or have copies now."""
        if lane.policy.copies < 2:
            return ()
        ready = [
            name
            for name in ranking.fitting
            if name != first and (lane.uses(name) or now >= max(self._paths[name].settled_at(), lane.escape_at(name)))
        ]
        return tuple(ready[: lane.policy.copies - 1])

    def _copy(self, lane: Lane, ranking: Ranking, now: float) -> list[Change]:
        """Take up or give up copies, where the flows themselves stay."""
        if lane.policy.copies < 2 or lane.place is None:
            return []
        copies = self._copies(lane, lane.place, ranking, now)
        if len(copies) < lane.policy.copies - 1:
            waiting = [name for name in ranking.fitting if name != lane.place and name not in copies]
            times = [max(self._paths[name].settled_at(), lane.escape_at(name)) for name in waiting]
            due = self._soon(min(times, default=float("inf")), now)
            lane.due = due if lane.due is None else min(lane.due, due)
        if set(copies) == set(lane.copies):
            return []
        more = [name for name in copies if name not in lane.copies]
        reason = (
            f"copies over {' and '.join(copies)}" if more else f"no copies over {' and '.join(lane.copies)} any more"
        )
        return [self._go(lane, lane.place, reason, now, copies)]

    def _go(
        self, lane: Lane, network: str, why: str, now: float, copies: tuple[str, ...] = (), *, only_new: bool = False
    ) -> Change:
        change = Change(lane.label, why, lane.place, only_new)
        lane.go(network, why, now, copies)
        return change

    def _why_left(self, lane: Lane) -> str:
        path = self._paths.get(lane.place or "")
        return lane.left if path is None else f"{path.network.name}: {path.why}"

    def _soon(self, at: float | None, now: float) -> float:
        """Return a time to look again: then, or in a while where only measuring can tell."""
        return now + RECHECK if at is None or at == float("inf") else max(at, now + 0.001)


def _rounded(value: float | None, digits: int) -> float | None:
    """Return a figure as people are told it: reasons quote what the decision was made on."""
    return None if value is None else round(value, digits)
