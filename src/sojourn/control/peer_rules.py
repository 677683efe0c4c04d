"""What policies say of flows with peers: whether each goes, waits or is refused, and what its trigger is for.

All peers are reached over one network, because triggers lead to one place (control/peers.py). A policy cannot choose
another one for its flows; it says which ones they may use. Over a network that it does not list, or that does not meet
`require` now, `otherwise` holds: `any` lets them go, `hold` and `ask` let them wait, `block` refuses them.
"""

from msgspec.structs import replace

from sojourn.control.decide import Decide
from sojourn.control.decide_lanes import Lane
from sojourn.control.explain import Explanation
from sojourn.policy.rules import DEFAULT, Otherwise, Rule, Subject, Trigger
from sojourn.upmt.commands import Placed, SetRules
from sojourn.upmt.peer_commands import HOME, PEERS


class PeerRules:
    """Says what is news for the data path."""

    def __init__(self) -> None:
        self._told: SetRules | None = None

    def news(self, decide: Decide, network: str | None, now: float) -> list[SetRules]:
        """Return the rules for flows with peers, if they are others than those told last."""
        rules = SetRules(HOME, placed(decide, network, now))
        if rules == self._told:
            return []
        self._told = rules
        return [rules]


def placed(decide: Decide, network: str | None, now: float) -> tuple[Placed, ...]:
    """Return each rule in order, with what becomes of its flows; `network`: what peers are reached over.

    None are needed for the default policy alone: flows with peers then just go.
    """
    lanes = tuple(decide.lanes.values())
    if len(lanes) <= 1:
        return ()
    fitting = decide.lets_over(network, now)
    return tuple(_placed(lane, network, fits=lane.label in fitting) for lane in lanes)


def of_peer(decide: Decide, told: Explanation, network: str | None, now: float) -> Explanation:
    """Explain a flow with a peer: where all of them go, and why this one does, or does not."""
    lane = decide.lanes.get(told.policy) or decide.lanes[DEFAULT]
    place = _placed(lane, network, fits=lane.label in decide.lets_over(network, now))
    over = network or "no network yet"
    if place.block or place.tunnel is None:
        why = "the policy blocks it" if lane.policy.blocked else f"its policy does not let it go over {over}"
        return replace(
            told, state="blocked" if place.block else "waiting", reason=f"{why}; peers are reached over {over}"
        )
    return replace(told, state="carried", reason=f"peers are reached over {over}")


def _placed(lane: Lane, network: str | None, *, fits: bool) -> Placed:
    policy = lane.policy
    rule = Rule(lane.label, Subject() if lane.label == DEFAULT else policy.subject)
    own = policy.trigger is Trigger.FLOW
    if policy.blocked:
        return Placed(rule, None, block=True)
    answered = network is not None and lane.place == network
    if network is None or answered or lane.label == DEFAULT or fits:
        return Placed(rule, PEERS, own_trigger=own)
    if policy.otherwise is Otherwise.BLOCK or (policy.otherwise is Otherwise.ASK and lane.blocked):
        return Placed(rule, None, block=True)
    goes = policy.otherwise in (Otherwise.ANY, Otherwise.DIRECT)
    return Placed(rule, PEERS if goes else None, own_trigger=own)
