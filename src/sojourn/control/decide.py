"""The decision (MMOCE): which network carries the flows, and why.

Facts about paths come in, `Handover` plans go out, each with the reason that `sojourn log`
shows. In this version every flow follows one ordered list of networks, but for those that the
user put elsewhere; a plan is a list of rows already, so that rules by application become
further rows and nothing else changes.

Timers: settling (a better network is moved back to only after it was good for a while), and
`GRACE` (a network in use whose address changed is given time to answer on the new one).
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum

from msgspec import Struct

from sojourn.control.portals import PathCaptive
from sojourn.model import Flow, Network
from sojourn.policy.match import Match
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

# Ours. Going back costs nothing but patience; flapping costs packets.
SETTLE_NEW = 1.0
"""Seconds for which a better network must have worked before flows move to it, when it is simply new."""
SETTLE_FAILED = 5.0
"""The same, when it had failed before; doubled at each further failure within `FORGIVE`."""
SETTLE_LONGEST = 60.0
FORGIVE = 120.0
GRACE = 0.5
"""Seconds a network in use may take to answer after its address changed, while another one works."""
MAX_MATCHED = 32
"""Orders by match that are kept; older ones are forgotten."""


class PathState(StrEnum):
    """What is known of a path to the anchor over one network."""

    TESTING = "testing"
    WORKS = "works"
    SILENT = "silent"
    BLOCKED = "blocked"
    FAILED = "failed"
    CAPTIVE = "captive"
    """Behind a portal that is not open: no failure of the network's, and nothing is put there."""


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
        if state not in (PathState.WORKS, PathState.CAPTIVE) and self.state is PathState.WORKS:
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
        self._placed: dict[Flow | Match, str | None] = {}
        """Where the pinned and the matched are now."""
        self._left = "a network is there"
        """Why there is no active network, for the reason of the next handover."""

    def handle(self, event: HostFact | HandoverWanted | PathCaptive, now: float) -> list[Handover]:
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
            case PathCaptive(name):
                self._become(name, PathState.CAPTIVE, "its portal is closed", now)
            case PathGone(name, why):
                self._gone(name, why, now)
            case FlowGone(flow):
                self.pinned.pop(flow, None)
                self._placed.pop(flow, None)
                return []
            case HandoverWanted():
                return self._ordered(event, now)
        return self._choose(now)

    def deadline(self) -> float | None:
        """Return when a better path will have settled, or the grace of a path in use ends."""
        best = self._best_working()
        active = self.paths.get(self.active or "")
        times: list[float] = []
        if active is None or best is None:
            return None
        if active.state is PathState.WORKS:
            in_use = [self.paths[name] for name in {*self._placed.values()} if name in self.paths]
            times += [path.since + GRACE for path in in_use if path.state is PathState.TESTING]
            if best is not active and self.active != self.wanted:
                times.append(best.settled_at())
        elif active.state is PathState.TESTING:
            times.append(active.since + GRACE)
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

    def _gone(self, name: str, why: str, now: float) -> None:
        path = self.paths.pop(name, None)
        if path is not None:
            path.become(PathState.FAILED, why, now)
            self._history[name] = path
        if name == self.active:
            self.active, self._left = None, f"{name}: {why}"
        if name == self.wanted:
            self.wanted = None

    def _ordered(self, order: HandoverWanted, now: float) -> list[Handover]:
        """Carry out the user's order, unless the network has gone since it was given."""
        if order.network not in self.paths:
            return []
        reason = f"ordered {order.reason}"
        if order.match is None and order.flows is None:
            if not self._works(order.network) and self._best_working() is not None:
                return []
            self.wanted = order.network
            self.pinned.clear()
            self.matched.clear()
            self._placed.clear()
            return self._move(order.network, reason, now)
        apart: tuple[Flow | Match, ...]
        if order.match is not None:
            apart = (order.match,)
            self.matched.pop(order.match, None)
            self.matched[order.match] = order.network
            if len(self.matched) > MAX_MATCHED:
                oldest = next(iter(self.matched))
                del self.matched[oldest]
                self._placed.pop(oldest, None)
        else:
            apart = order.flows or ()
            self.pinned.update(dict.fromkeys(order.flows or (), order.network))
        place = order.network if self._works(order.network) or self.active is None else self.active
        self._placed.update(dict.fromkeys(apart, place))
        return [Handover(_rows(dict.fromkeys(apart, place)), reason, self.active)]

    def _choose(self, now: float) -> list[Handover]:
        active = self.paths.get(self.active or "")
        best = self._best_working()
        if self.wanted is not None:
            wanted = self.paths.get(self.wanted)
            if wanted is not None and wanted.state is PathState.WORKS:
                best = wanted
            elif wanted is None or (best is not None and not _may_stay(wanted, now)):
                self.wanted = None
        if active is not None and active.state is PathState.WORKS:
            if best is None or best is active or (best.network.name != self.wanted and now < best.settled_at()):
                return self._place_apart(now)
            return self._move(best.network.name, f"{best.network.name} is preferred to {active.network.name}", now)
        if best is not None:
            if active is not None and _may_stay(active, now):
                return []
            return self._move(best.network.name, self._why_left(), now)
        return self._without_working(active, now)

    def _without_working(self, active: Path | None, now: float) -> list[Handover]:
        """No path is known to work: stay where hope is, or try the newest one unseen (opportunistic set-up)."""
        if active is not None and active.state is not PathState.FAILED:
            untested = [path for path in self.paths.values() if path.state is PathState.TESTING and path is not active]
            if active.state is PathState.TESTING or not untested:
                return []
        hopeful = [path for path in self.paths.values() if path.state in (PathState.TESTING, PathState.SILENT)]
        if not hopeful:
            return []
        first = min(hopeful, key=lambda path: (path.state is not PathState.TESTING, self._rank(path)))
        return self._move(first.network.name, self._why_left(), now)

    def _why_left(self) -> str:
        path = self.paths.get(self.active or "")
        return self._left if path is None else f"{path.network.name}: {path.why}"

    def _best_working(self) -> Path | None:
        """Return the working path that the owner prefers; of several alike the one in use."""
        working = [path for path in self.paths.values() if path.state is PathState.WORKS]
        return min(working, key=self._rank, default=None)

    def _rank(self, path: Path) -> tuple[int, bool, str]:
        return (self.preferences.rank(path.network), path.network.name != self.active, path.network.name)

    def _works(self, name: str) -> bool:
        path = self.paths.get(name)
        return path is not None and path.state is PathState.WORKS

    # -- everything, and what the user put apart from it

    def _move(self, name: str, reason: str, now: float) -> list[Handover]:
        came_from, self.active = self.active, name
        self._placed = {select: self._place_of(select, wanted, now) for select, wanted in self._apart()}
        elsewhere = {select: place for select, place in self._placed.items() if place != name}
        return [Handover((PlanRow(Everything(), name), *_rows(elsewhere)), reason, came_from)]

    def _apart(self) -> list[tuple[Flow | Match, str]]:
        return [*self.matched.items(), *self.pinned.items()]

    def _place_of(self, select: Flow | Match, wanted: str, now: float) -> str | None:
        path = self.paths.get(wanted)
        stays = path is not None and self._placed.get(select) == wanted and _may_stay(path, now)
        return wanted if stays or self._works(wanted) else self.active

    def _place_apart(self, now: float) -> list[Handover]:
        """Let what was put on a network that fails follow the others, and bring it back when that works again."""
        moves: dict[tuple[str | None, str | None], dict[Flow | Match, str | None]] = {}
        for select, wanted in self._apart():
            before, place = self._placed.get(select), self._place_of(select, wanted, now)
            if before != place:
                self._placed[select] = place
                moves.setdefault((before, place), {})[select] = place
        return [Handover(_rows(rows), self._why_apart(*way), way[0]) for way, rows in moves.items()]

    def _why_apart(self, before: str | None, place: str | None) -> str:
        path = self.paths.get(before or "") or self._history.get(before or "")
        if path is None or path.state is PathState.WORKS:
            return f"{place} works again"
        return f"{before}: {path.why}"


def _may_stay(path: Path, now: float) -> bool:
    return path.state is PathState.TESTING and now < path.since + GRACE


def _rows(places: Mapping[Flow | Match, str | None]) -> tuple[PlanRow, ...]:
    """Return rows for matches, then one for the flows of each network."""
    rows = [PlanRow(Matching(select), place) for select, place in places.items() if isinstance(select, Match)]
    flows: dict[str | None, list[Flow]] = {}
    for select, place in places.items():
        if isinstance(select, Flow):
            flows.setdefault(place, []).append(select)
    return (*rows, *(PlanRow(Exactly(tuple(some)), place) for place, some in flows.items()))


def ranked(preferences: Preferences, networks: Sequence[Network]) -> list[Network]:
    """Return networks in the owner's order, the best first."""
    return sorted(networks, key=lambda network: (preferences.rank(network), network.name))
