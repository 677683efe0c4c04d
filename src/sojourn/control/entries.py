"""Lines of the roaming log: what happened, what was decided and why, and what came of it.

The effect of a handover is told when the data path has moved the flows and heard them on their new path: how many
flows, and for how long they heard nothing. Bounded: the last `MAX_EFFECTS` handovers can still have one.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from sojourn.control.portals import PathCaptive
from sojourn.control.questions import QuestionNews
from sojourn.upmt.commands import Labelled
from sojourn.upmt.events import FlowsMoved, GapMeasured
from sojourn.upmt.host_events import (
    Handover,
    HandoverDone,
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

DECISIONS: Final = ("handover", "new flows")
"""Events that are decisions of ours: their cause is what was known of the networks."""
MAX_EFFECTS: Final = 64


class Entry(Struct, frozen=True, tag=True):
    """One line of the roaming log."""

    event: str
    network: str | None
    reason: str
    details: dict[str, object] = {}

    @property
    def flows(self) -> int | None:
        """How many flows it speaks of, where it is an effect."""
        count = self.details.get("flows")
        return count if isinstance(count, int) else None

    @property
    def gap_ms(self) -> float | None:
        """How long these heard nothing, where that was measured."""
        gap = self.details.get("gap_ms")
        return gap if isinstance(gap, float) else None

    def words(self) -> str:
        """Return the details for people, but for those that have a place of their own."""
        rest = {name: value for name, value in self.details.items() if name not in ("flows", "gap_ms")}
        return ", ".join(f"{name} {value}" for name, value in rest.items() if value is not None)


def entry_of(fact: HostFact | PathCaptive) -> list[Entry]:
    """Return what the log says of a fact about a path."""
    match fact:
        case PathCaptive(name, portal):
            return [
                Entry("captive", name, f"its portal is closed: run `sojourn networks open {name}`", {"portal": portal})
            ]
        case PathOpened(network):
            return [Entry("network", network.name, f"{network.interface} has {network.address}")]
        case PathTested(name, rtt, by):
            return [Entry("works", name, f"{by} answers", {"rtt_ms": round(rtt * 1000, 2)})]
        case PathRecovered(name):
            return [Entry("recovered", name, "answers again")]
        case PathSilent(name, after):
            return [Entry("silent", name, f"no answer for {after * 1000:.0f} ms")]
        case PathBlocked(name, why) | PathFailed(name, why):
            return [Entry("blocked" if isinstance(fact, PathBlocked) else "failed", name, why)]
        case PathGone(name, why):
            return [Entry("gone", name, why)]
    return []


def of_question(news: QuestionNews) -> Entry:
    """Return what the log says of a question."""
    question = news.question
    if news.what == "asked":
        return Entry("question", None, question.text, {"id": question.id, "default": question.default})
    policy = question.policy or "everything else"
    return Entry("answer", None, f"{policy}: {news.what}", {"choice": news.choice})


def of_handover(handover: Handover) -> Entry:
    """Return what the log says of a decision: why, and which policies' flows go where."""
    if not handover.plan:
        places = {row.rule.label or "others": row.network or _without(row.block) for row in handover.rules or ()}
        return Entry(DECISIONS[1], None, handover.reason, {**places})
    details: dict[str, object] = {"from": handover.came_from}
    if said := _of_policies(handover.plan):
        details["policies"] = said
    return Entry(DECISIONS[0], handover.plan[0].network, handover.reason, details)


def _of_policies(plan: Sequence[PlanRow]) -> str:
    """Return "call, backup", with each one's network where they part."""
    rows = [row for row in plan if isinstance(row.select, Labelled)]
    apart = len({(row.network, row.block) for row in rows}) > 1
    return ", ".join(_said(row, apart) for row in rows if isinstance(row.select, Labelled))


def _said(row: PlanRow, with_place: bool) -> str:
    label = row.select.label if isinstance(row.select, Labelled) else ""
    where = f" to {row.network or _without(row.block)}" if with_place else ""
    copies = f" with copies over {' and '.join(row.copies)}" if row.copies else ""
    return f"{label or 'others'}{where}{copies}"


def _without(blocked: bool) -> str:
    return "nowhere (refused)" if blocked else "nowhere (they wait)"


def of_confirmation(done: HandoverDone) -> Entry:
    """Return what the log says when the anchor has confirmed a handover."""
    details: dict[str, object] = {"seconds": round(done.seconds, 4), **done.counts}
    return Entry("confirmed", done.network, f"move {done.number}", details)


class Effects:
    """Handovers that were ordered, until it is known what came of them."""

    def __init__(self) -> None:
        self._ordered: dict[int, str | None] = {}
        """The network that each goes to, by move number."""
        self._moved: dict[int, int] = {}

    def ordered(self, number: int, network: str | None) -> None:
        """Note that a handover was ordered."""
        self._ordered[number] = network
        if len(self._ordered) > MAX_EFFECTS:
            oldest = next(iter(self._ordered))
            del self._ordered[oldest]
            self._moved.pop(oldest, None)

    def moved(self, event: FlowsMoved) -> None:
        """Note how many flows moved."""
        if event.number in self._ordered:
            self._moved[event.number] = sum(counts.get("moved", 0) for counts in map(_words, event.counts))

    def gap(self, event: GapMeasured) -> list[Entry]:
        """Return the line that tells the effect."""
        if event.number not in self._ordered:
            return []
        network = self._ordered.pop(event.number)
        details: dict[str, object] = {"flows": self._moved.pop(event.number, 0)}
        reason = f"move {event.number}: nothing was heard of the flows since"
        if event.seconds is not None:
            details["gap_ms"] = round(event.seconds * 1000, 1)
            reason = f"move {event.number}: heard on the new path"
        return [Entry("moved", network, reason, details)]


def _words(counts: object) -> dict[str, int]:
    return {str(word): count for word, count in counts.items()} if isinstance(counts, dict) else {}
