"""Why a flow is where it is, and what it would take to move it: `sojourn policy explain`, in data and sentences.

Nothing is decided here: the ranking is the decision's own, told in words.
"""

from msgspec import Struct

from sojourn.control.decide import Decide
from sojourn.control.decide_lanes import Lane
from sojourn.model import Flow
from sojourn.policy.rank import Place
from sojourn.policy.rules import DEFAULT, Otherwise, Policy, Via
from sojourn.policy.write import describe


class Verdict(Struct, frozen=True):
    """One network, as the policy sees it now."""

    network: str
    in_use: bool
    fits: bool
    why: tuple[str, ...]
    """Why it is not used; nothing where it is."""
    score: float | None = None


class Explanation(Struct, frozen=True):
    """All that there is to say of one policy's flows, or of one flow."""

    policy: str
    """Its name; empty for the default one."""
    came_from: str
    """user, anchor, order (of the user, by hand), default."""
    line: int | None
    covers: str
    network: str | None
    state: str
    """carried, held (no network fits), waiting (none works), blocked, asked."""
    reason: str
    """Why it came there."""
    since_s: float | None
    copies: tuple[str, ...]
    ordered: str | None
    """What the user ordered by hand, if that is why."""
    networks: tuple[Verdict, ...]
    """In the policy's order."""
    to_move: tuple[str, ...]


def explain(
    decide: Decide, label: str, now: float, flow: Flow | None = None, carried: str | None = None
) -> Explanation:
    """Explain a policy's lane; of one flow, too, what was ordered for it, and where it really is (`carried`)."""
    lane = decide.lanes.get(label) or decide.lanes[DEFAULT]
    place = carried if flow is not None else lane.place
    ordered = _ordered(decide, lane, flow)
    verdicts = tuple(_verdict(decide, lane, one, place, now) for one in decide.ranking_of(lane.label, now).places)
    reason = f"ordered by the user: {ordered}" if ordered is not None and flow in decide.pinned else lane.why
    if flow is not None and place in lane.behind:
        reason = f"it was there before, and the policy lets running flows stay (new ones go to {lane.place})"
    return Explanation(
        policy=lane.label,
        came_from="default" if lane.label == DEFAULT else lane.policy.came_from,
        line=lane.policy.line,
        covers="everything else" if lane.label == DEFAULT else describe(lane.policy.subject),
        network=place,
        state=state_of(decide, lane),
        reason=reason,
        since_s=round(now - lane.since, 1) if place == lane.place and lane.since > 0 else None,
        copies=lane.copies,
        ordered=ordered,
        networks=verdicts,
        to_move=tuple(_to_move(lane.policy, place, verdicts, ordered)),
    )


def state_of(decide: Decide, lane: Lane) -> str:
    """Return one word for what becomes of a policy's flows now."""
    if any(question.policy == lane.label for question in decide.questions.open):
        return "asked"
    if lane.blocked:
        return "blocked"
    if lane.policy.via is Via.DIRECT or lane.direct:
        return "direct"
    if lane.held:
        return "held"
    return "carried" if lane.place is not None else "waiting"


def _ordered(decide: Decide, lane: Lane, flow: Flow | None) -> str | None:
    if flow is not None and flow in decide.pinned:
        return f"this flow to {decide.pinned[flow]}"
    if lane.policy.came_from == "order":
        return f"{describe(lane.policy.subject)} to {lane.policy.networks[0]}"
    return f"everything to {decide.wanted}" if decide.wanted is not None else None


def _verdict(decide: Decide, lane: Lane, place: Place, in_use: str | None, now: float) -> Verdict:
    used, why = place.name == in_use, place.why_not
    path = decide.paths.get(place.name)
    if not place.works and path is not None:
        why = tuple(f"it does not work now: {path.why}" if one == "it does not work now" else one for one in why)
    if place.fits and not used:
        why = (_patience(decide, lane, place.name, now),)
    return Verdict(place.name, used, place.fits, why, None if place.score is None else round(place.score, 2))


def _patience(decide: Decide, lane: Lane, name: str, now: float) -> str:
    """Say of a network that fits why it is not used."""
    ranking = decide.ranking_of(lane.label, now).fitting
    if lane.place in ranking and ranking.index(name) > ranking.index(lane.place or ""):
        return f"it fits, and {lane.place} is preferred to it"
    waits = [decide.paths[name].settled_at() - now, lane.escape_at(name) - now]
    if lane.place is not None:
        waits.append(lane.since + lane.policy.minimum_stay - now)
    longest = max(waits)
    if longest == float("inf"):
        return "it was left because it did not fit, and has to fit for a while first"
    return f"it fits, and is used when it has proved itself, in {max(longest, 0.1):.1f} s or later"


def _to_move(policy: Policy, place: str | None, verdicts: tuple[Verdict, ...], ordered: str | None) -> list[str]:
    said: list[str] = []
    if policy.blocked:
        return ["the policy blocks these flows: change it, or put another one above it"]
    if ordered is not None:
        said.append(f"the user's order ({ordered}) comes first: give another one, or release it")
    for verdict in verdicts:
        if verdict.in_use:
            break
        if not verdict.fits:
            said.append(f"to {verdict.network}: this would have to change: {'; '.join(verdict.why)}")
        else:
            said.append(f"to {verdict.network}: {verdict.why[0]}")
    if place is not None:
        said.append(f"away from {place}: it stops to work" + ("" if _boundless(policy) else ", or to fit"))
    elif policy.otherwise is Otherwise.ASK:
        said.append("an answer to the question: `sojourn ask`")
    return said


def _boundless(policy: Policy) -> bool:
    return policy.require == Policy("").require
