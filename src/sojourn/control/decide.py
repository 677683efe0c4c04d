"""The decision (MMOCE): which network carries the flows, and why.

Facts about paths come in, `Handover` plans go out, each with the reason that `sojourn log`
shows. In this version every flow follows one ordered list of networks, but for those that the
user put elsewhere; a plan is a list of rows already, so that rules by application become
further rows and nothing else changes.

Timers: `_settle` (a better network is moved back to only after it was good for a while),
`_grace` (an active network whose address changed is given time to answer on the new one).
"""

from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct

from sojourn.model import Flow, Network
from sojourn.upmt.commands import Everything, Exactly, Matching
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
    PlanRow,
)
from sojourn.upmt.match import Match

# Ours. Going back costs nothing but patience; flapping costs packets.
SETTLE_NEW = 1.0
"""Seconds for which a better network must have worked before flows move to it, when it is simply new."""
SETTLE_FAILED = 5.0
"""The same, when it had failed before; doubled at each further failure within `FORGIVE`."""
SETTLE_LONGEST = 60.0
FORGIVE = 120.0
GRACE = 0.5
"""Seconds an active network may take to answer after its address changed, while another one works."""
MAX_MATCHED = 32
"""Orders by match that are kept; older ones are forgotten."""


class PathState(StrEnum):
    """What is known of a path to the anchor over one network."""

    TESTING = "testing"
    WORKS = "works"
    SILENT = "silent"
    BLOCKED = "blocked"
    FAILED = "failed"


class Path:
    """One network's path, with its history as far as it matters for a decision."""

    __slots__ = ("failed_at", "failures", "network", "since", "state", "why")

    def __init__(self, network: Network, now: float) -> None:
        self.network = network
        self.state = PathState.TESTING
        self.since = now
        self.why = "not tested yet"
        self.failures = 0
        self.failed_at = float("-inf")

    def become(self, state: PathState, why: str, now: float) -> None:
        """Change state, and remember a failure for `FORGIVE` seconds."""
        if state is not PathState.WORKS and self.state is PathState.WORKS:
            self.failures = self.failures + 1 if now - self.failed_at < FORGIVE else 1
            self.failed_at = now
        if state is not self.state:
            self.since = now
        self.state, self.why = state, why

    def settled_at(self) -> float:
        """Return when flows may move back to this path, provided that it goes on working."""
        if self.failures == 0:
            return self.since + SETTLE_NEW
        return self.since + min(SETTLE_FAILED * 2.0 ** (self.failures - 1), SETTLE_LONGEST)


class Preferences(Struct, frozen=True):
    """The owner's order of networks: names, kinds, or "*" for all that are left."""

    order: tuple[str, ...] = ("ethernet", "wifi", "cellular", "*")

    def rank(self, network: Network) -> int:
        """Return a network's place; smaller is better. Its name says more than its kind, that more than "*"."""
        for word in (network.name, network.interface, network.kind, "*"):
            if word in self.order:
                return self.order.index(word)
        return len(self.order)


class Decide:
    """A machine (machine.py): host facts in, `Handover` plans out."""

    def __init__(self, preferences: Preferences) -> None:
        self.preferences = preferences
        self.paths: dict[str, Path] = {}
        self._history: dict[str, Path] = {}
        self.active: str | None = None
        self.wanted: str | None = None
        """The network that the user ordered for everything; it holds while that network works."""
        self.pinned: dict[Flow, str] = {}
        """Flows that the user put on a network; they follow the others while it does not work."""
        self.matched: dict[Match, str] = {}
        """The same for all flows that a match covers, those to come not included; the newest orders."""
        self._placed: dict[Flow, str | None] = {}
        self._left = "a network is there"
        """Why there is no active network, for the reason of the next handover."""

    def handle(self, event: HostFact | HandoverWanted, now: float) -> list[Handover]:
        """Take in one fact; return the handover that follows from it, if one does."""
        match event:
            case PathOpened(network):
                self._opened(network, now)
            case PathTested(name) | PathRecovered(name):
                self._become(name, PathState.WORKS, "answers", now)
            case PathSilent(name, after):
                self._become(name, PathState.SILENT, f"no answer for {after * 1000:.0f} ms", now)
            case PathBlocked(name, why):
                self._become(name, PathState.BLOCKED, why, now)
            case PathFailed(name, why):
                self._become(name, PathState.FAILED, why, now)
            case PathGone(name, why):
                self._gone(name, why)
            case FlowGone(flow):
                self.pinned.pop(flow, None)
                self._placed.pop(flow, None)
                return []
            case HandoverWanted():
                return self._ordered(event)
        return self._choose(now)

    def deadline(self) -> float | None:
        """Return when a better path will have settled, or the active one's grace ends."""
        best = self._best_working()
        active = self.paths.get(self.active or "")
        times = []
        if active is not None and active.state is PathState.TESTING and best is not None:
            times.append(active.since + GRACE)
        if best is not None and best is not active:
            times.append(best.settled_at())
        return min(times, default=None)

    def tick(self, now: float) -> list[Handover]:
        """Decide again: time itself can be the reason."""
        return self._choose(now)

    def _opened(self, network: Network, now: float) -> None:
        path = self.paths.get(network.name)
        if path is None:
            path = Path(network, now)
            before = self._history.pop(network.name, None)
            if before is not None and now - before.failed_at < FORGIVE:
                path.failures, path.failed_at = before.failures, before.failed_at
            self.paths[network.name] = path
        else:
            path.network = network
            path.state, path.since, path.why = PathState.TESTING, now, "address changed"

    def _become(self, name: str, state: PathState, why: str, now: float) -> None:
        path = self.paths.get(name)
        if path is not None:
            path.become(state, why, now)

    def _gone(self, name: str, why: str) -> None:
        path = self.paths.pop(name, None)
        if path is not None:
            path.why = why
            self._history[name] = path
        if name == self.active:
            self.active, self._left = None, f"{name}: {why}"
        if name == self.wanted:
            self.wanted = None

    def _ordered(self, order: HandoverWanted) -> list[Handover]:
        """Carry out the user's order as far as the network exists; it was checked by who took it."""
        reason = f"ordered {order.reason}"
        if order.match is not None:
            self.matched.pop(order.match, None)
            self.matched[order.match] = order.network
            if len(self.matched) > MAX_MATCHED:
                del self.matched[next(iter(self.matched))]
            return [Handover((PlanRow(Matching(order.match), order.network),), reason, self.active)]
        if order.flows is None:
            self.wanted = order.network
            self.pinned.clear()
            self.matched.clear()
            self._placed.clear()
            return self._move(order.network, reason, force=True)
        for flow in order.flows:
            self.pinned[flow] = order.network
        return self._place_pinned(reason)

    def _choose(self, now: float) -> list[Handover]:
        active = self.paths.get(self.active or "")
        best = self._best_working()
        if self.wanted is not None:
            wanted = self.paths.get(self.wanted)
            if wanted is not None and wanted.state is PathState.WORKS:
                best = wanted
            elif wanted is None or (best is not None and not self._may_stay(wanted, now)):
                self.wanted = None
        if active is not None and active.state is PathState.WORKS:
            if best is None or not self._better(best, active) or now < best.settled_at():
                return self._place_pinned("its network works again")
            return self._move(best.network.name, f"{best.network.name} is preferred to {active.network.name}")
        if best is not None:
            if active is not None and self._may_stay(active, now):
                return []
            return self._move(best.network.name, self._why_left())
        return self._without_working(active)

    def _without_working(self, active: Path | None) -> list[Handover]:
        """No path is known to work: stay where hope is, or try the newest one unseen (opportunistic set-up)."""
        if active is not None and active.state is not PathState.FAILED:
            untested = [path for path in self.paths.values() if path.state is PathState.TESTING and path is not active]
            if active.state is PathState.TESTING or not untested:
                return []
        hopeful = [path for path in self.paths.values() if path.state in (PathState.TESTING, PathState.SILENT)]
        if not hopeful:
            return []
        first = min(hopeful, key=lambda path: (path.state is not PathState.TESTING, self._rank(path)))
        return self._move(first.network.name, self._why_left())

    def _may_stay(self, active: Path, now: float) -> bool:
        return active.state is PathState.TESTING and now - active.since < GRACE

    def _why_left(self) -> str:
        path = self.paths.get(self.active or "")
        return self._left if path is None else f"{path.network.name}: {path.why}"

    def _best_working(self) -> Path | None:
        working = [path for path in self.paths.values() if path.state is PathState.WORKS]
        return min(working, key=self._rank, default=None)

    def _better(self, best: Path, active: Path) -> bool:
        """Say whether it is worth leaving a network that works: not for one of the same rank."""
        if best.network.name == self.wanted:
            return best is not active
        return self.preferences.rank(best.network) < self.preferences.rank(active.network)

    def _rank(self, path: Path) -> tuple[int, str]:
        return (self.preferences.rank(path.network), path.network.name)

    def _move(self, name: str | None, reason: str, force: bool = False) -> list[Handover]:
        if name == self.active and not force:
            return []
        came_from, self.active = self.active, name
        rows = [PlanRow(Everything(), name)]
        rows += [PlanRow(Matching(match), place) for match, place in self.matched.items() if self._works(place)]
        self._placed = {flow: self._place_of(flow) for flow in self.pinned}
        apart = {flow: place for flow, place in self._placed.items() if place != name}
        for place in sorted({place for place in apart.values() if place is not None}):
            rows.append(PlanRow(Exactly(tuple(flow for flow, at in apart.items() if at == place)), place))
        return [Handover(tuple(rows), reason, came_from)]

    def _place_of(self, flow: Flow) -> str | None:
        return self.pinned[flow] if self._works(self.pinned[flow]) else self.active

    def _works(self, name: str) -> bool:
        path = self.paths.get(name)
        return path is not None and path.state is PathState.WORKS

    def _place_pinned(self, reason: str) -> list[Handover]:
        rows: dict[str, list[Flow]] = {}
        for flow in self.pinned:
            place = self._place_of(flow)
            if place is not None and self._placed.get(flow, self.active) != place:
                rows.setdefault(place, []).append(flow)
            self._placed[flow] = place
        plan = tuple(PlanRow(Exactly(tuple(flows)), place) for place, flows in rows.items())
        return [Handover(plan, reason, self.active)] if plan else []


def ranked(preferences: Preferences, networks: Sequence[Network]) -> list[Network]:
    """Return networks in the owner's order, the best first."""
    return sorted(networks, key=lambda network: (preferences.rank(network), network.name))
