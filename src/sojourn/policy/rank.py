"""Which network a policy prefers now, and of each other one why not: a pure function of facts.

It has no memory: patience before a change (hysteresis, minimum stay) is the decision's (control/decide.py), and
`sojourn policy explain` shows these very sentences.
"""

import math
from collections.abc import Callable, Sequence

from msgspec import Struct

from sojourn.policy import spans
from sojourn.policy.quantities import write_fraction, write_rate, write_seconds
from sojourn.policy.rules import Facts, Order, Policy, Require
from sojourn.policy.spans import LocalTime

LOSS_COST = 10.0
"""`order = "performance"`: milliseconds of round-trip time that one per cent of loss is worth (ours)."""


class Place(Struct, frozen=True):
    """One network in the order of one policy."""

    name: str
    fits: bool
    why_not: tuple[str, ...] = ()
    """Sentences, for people."""
    works: bool = True
    listed: bool = True
    score: float | None = None
    """What it was ordered by, smaller is better; None where the list alone decides, or nothing is measured."""


class Ranking(Struct, frozen=True):
    """All networks: those that fit, the best first; then those that only work; then the rest."""

    places: tuple[Place, ...]

    @property
    def fitting(self) -> tuple[str, ...]:
        """Names of the networks that fit."""
        return tuple(place.name for place in self.places if place.fits)

    @property
    def working(self) -> tuple[str, ...]:
        """Names of those that only work: where `otherwise = "any"` leads."""
        return tuple(place.name for place in self.places if place.works and not place.fits)

    def place(self, name: str | None) -> Place | None:
        """Return one network's place."""
        return next((place for place in self.places if place.name == name), None)


def rank(policy: Policy, facts: Sequence[Facts], in_use: str | None, local_time: LocalTime | None) -> Ranking:
    """Put networks in the order of a policy. `local_time` None = not known: a condition on time is then not met."""
    ranked: list[tuple[tuple[float, ...], str, Place]] = []
    score = _SCORES.get(policy.order)
    for one in facts:
        position = position_of(policy.networks, one)
        why = [*_why_not_at_all(policy, one, position), *unmet(policy.require, one, local_time)]
        value = score(one) if score is not None else None
        fits = not why
        place = Place(one.name, fits, tuple(why), one.works, position is not None, value)
        place_in_list = float(len(policy.networks) if position is None else position)
        used = one.name == in_use
        key = (
            float(not fits),
            float(not one.works),
            float(not used) if policy.order is Order.STICKY else 0.0,
            math.inf if score is not None and value is None else value or 0.0,
            place_in_list,
            float(not used),
        )
        ranked.append((key, one.name, place))
    return Ranking(tuple(place for _, _, place in sorted(ranked, key=lambda entry: entry[:2])))


def position_of(networks: Sequence[str], facts: Facts) -> int | None:
    """Return a network's place in a list of names, labels and kinds; its name says more than its kind, that than "*".

    An interface with IPv4 and IPv6 may be two networks, the second called NAME-6: both are meant.
    """
    for word in (facts.name, facts.name.removesuffix("-6"), facts.label, facts.interface, facts.kind, "*"):
        if word is not None and word in networks:
            return networks.index(word)
    return None


def fits(policy: Policy, facts: Facts, local_time: LocalTime | None) -> bool:
    """Say whether a network is among a policy's and meets its conditions; that it works is another matter."""
    return position_of(policy.networks, facts) is not None and not unmet(policy.require, facts, local_time)


def _why_not_at_all(policy: Policy, facts: Facts, position: int | None) -> list[str]:
    why = []
    if policy.blocked:
        why.append("the policy blocks these flows")
    elif position is None:
        why.append(f"it is not among the policy's networks ({', '.join(policy.networks)})")
    if not facts.works:
        why.append("it does not work now")
    return why


def unmet(require: Require, facts: Facts, local_time: LocalTime | None, slack: float = 1.0) -> list[str]:
    """Return a sentence for each condition that a network does not meet.

    `slack` stretches the bounds on what is measured: below 1 a network must be better than they say (coming back to
    one), above 1 it may be worse (staying on one). What is not known meets no condition, but for bounds on RTT, loss
    and jitter: a network nobody has measured yet gets its chance.
    """
    why: list[str] = []
    for name, bound, value, write in (
        ("RTT", require.rtt, facts.rtt, write_seconds),
        ("loss", require.loss, facts.loss, write_fraction),
        ("jitter", require.jitter, facts.jitter, write_seconds),
    ):
        if bound is not None and value is not None and value > bound * slack:
            why.append(f"its {name} is {write(value)}, above {write(bound * slack)}")
    why += _too_little("rate", require.rate, facts.rate, slack, write_rate)
    why += _too_little("signal", require.signal, facts.signal, slack, write_fraction)
    if require.metered is not None and facts.metered is not require.metered:
        why.append("it is metered" if facts.metered else "it is not metered")
    if require.cost and facts.cost not in require.cost:
        why.append(f"its cost is {facts.cost}, not {' or '.join(require.cost)}")
    if require.security and not set(require.security) & set(facts.security):
        said = " and ".join(facts.security) or "not known"
        why.append(f"its security is {said}, not {' or '.join(require.security)}")
    if require.under_cap and facts.over_cap:
        why.append("its data cap of this month is used up")
    if require.time and (local_time is None or not spans.within(require.time, local_time)):
        why.append(f"it is not {' or '.join(require.time)} now")
    return why


def _too_little(
    name: str, bound: float | None, value: float | None, slack: float, write: Callable[[float], str]
) -> list[str]:
    if bound is None:
        return []
    if value is None:
        return [f"its {name} is not known, and must be at least {write(bound)}"]
    return [f"its {name} is {write(value)}, below {write(bound / slack)}"] if value < bound / slack else []


def voip_score(facts: Facts) -> float | None:
    """Return the original's score for speech, VoipPerformance; smaller is better.

    With d = one-way delay in ms, taken as half the averaged round-trip time (EWMA / 2), and l = loss in per cent:
    d < 100: l;  100 <= d <= 200: l + (d - 100) / 2;  d > 200: sqrt(d^2 + l^2) + 55.
    Source: the authors' UPMT, class VoipPerformance (reference: seed systems, 1.5).
    """
    if facts.rtt is None:
        return None
    delay, loss = facts.rtt * 1000 / 2, (facts.loss or 0.0) * 100
    if delay < 100:
        return loss
    if delay <= 200:
        return loss + (delay - 100) / 2
    return math.hypot(delay, loss) + 55


def performance_score(facts: Facts) -> float | None:
    """Return RTT in ms, and `LOSS_COST` for each per cent of loss; smaller is better."""
    return None if facts.rtt is None else facts.rtt * 1000 + LOSS_COST * (facts.loss or 0.0) * 100


_SCORES: dict[Order, Callable[[Facts], float | None]] = {
    Order.VOIP: voip_score,
    Order.PERFORMANCE: performance_score,
}
