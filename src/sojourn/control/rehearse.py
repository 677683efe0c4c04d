"""What other policies would do to the flows that run now: `sojourn policy test`, without applying anything.

Patience is left out (hysteresis, minimum stay): it is told where flows would end up.
"""

from collections.abc import Sequence

from msgspec import Struct

from sojourn.model import Flow, Origin
from sojourn.policy.language import rules_of
from sojourn.policy.rank import fits, rank
from sojourn.policy.rules import DEFAULT, Facts, Order, Otherwise, Policy, Via
from sojourn.policy.spans import LocalTime
from sojourn.policy.subject import compile_rules


class Running(Struct, frozen=True):
    """A flow as it is now."""

    flow: Flow
    origin: Origin | None
    label: str
    network: str | None
    peers_over: str | None = None
    """Of a flow with a peer: what peers are reached over. It can wait or be refused, and go nowhere else."""
    hosts: tuple[str, ...] = ()
    """Names by which a program has asked for its destination."""


class Moving(Struct, frozen=True):
    """A flow that would move."""

    flow: Flow
    policy: str
    """The policy that would cover it."""
    came_from: str | None
    to: str | None
    """None: it would wait, or be refused."""
    why: str


def rehearse(
    policies: Sequence[Policy],
    before: Sequence[Policy],
    running: Sequence[Running],
    facts: Sequence[Facts],
    local_time: LocalTime | None,
) -> list[Moving]:
    """Return the flows that would move if `policies` held instead of `before`; both have the default last."""
    names: dict[str, tuple[str, ...]] = {}
    label_of = compile_rules(rules_of(policies), names)
    by_label = {policy.label: policy for policy in policies}
    held = {policy.label: _essence(policy) for policy in before}
    known: dict[tuple[str, str | None, str | None], tuple[str | None, str]] = {}
    moving: list[Moving] = []
    for one in running:
        names[one.flow.remote.address] = one.hosts  # asked in the next line, and of this flow alone
        label = label_of(one.flow, one.origin)
        policy = by_label[label]
        if label == one.label and held.get(label) == _essence(policy):
            continue
        key = (label, one.network, one.peers_over)
        if key not in known:
            known[key] = (
                with_peer(policy, facts, one.peers_over, local_time)
                if one.peers_over is not None
                else target_of(policy, facts, one.network, local_time)
            )
        to, why = known[key]
        if to != one.network:
            moving.append(Moving(one.flow, label, one.network, to, why))
    return moving


def target_of(
    policy: Policy, facts: Sequence[Facts], here: str | None, local_time: LocalTime | None
) -> tuple[str | None, str]:
    """Return where a policy wants a flow that is `here`, and why; None = nowhere."""
    name = f"policy {policy.label!r}" if policy.label != DEFAULT else "the general order"
    if policy.blocked:
        return None, f"{name} blocks it"
    if policy.via is Via.DIRECT:
        return here, "a flow that runs cannot become direct"
    ranking = rank(policy, facts, here, local_time)
    if ranking.fitting:
        if here in ranking.fitting and (policy.stay or policy.order is Order.STICKY):
            return here, "it may stay"
        return ranking.fitting[0], f"{name} prefers {ranking.fitting[0]}"
    match policy.otherwise:
        case Otherwise.ANY if ranking.working:
            return here if here in ranking.working else ranking.working[0], f"nothing fits {name}: any network will do"
        case Otherwise.BLOCK:
            return None, f"nothing fits {name}: it is refused"
        case Otherwise.ASK:
            return None, f"nothing fits {name}: it waits for your answer"
    return None, f"nothing fits {name}: it waits"


def with_peer(
    policy: Policy, facts: Sequence[Facts], over: str, local_time: LocalTime | None
) -> tuple[str | None, str]:
    """Return what becomes of a flow with a peer: peers are reached `over` one network (control/peer_rules.py)."""
    name = f"policy {policy.label!r}" if policy.label != DEFAULT else "the general order"
    if policy.blocked:
        return None, f"{name} blocks it"
    there = next((one for one in facts if one.name == over), None)
    if policy.label == DEFAULT or (there is not None and fits(policy, there, local_time)):
        return over, f"{name} lets it go over {over}"
    if policy.otherwise in (Otherwise.ANY, Otherwise.DIRECT):
        return over, f"{over} does not fit {name}: it goes there all the same"
    refused = policy.otherwise is Otherwise.BLOCK
    return None, f"peers are reached over {over}, which does not fit {name}: it {'is refused' if refused else 'waits'}"


def _essence(policy: Policy) -> tuple[object, ...]:
    """Return what makes a difference for flows."""
    return (policy.networks, policy.require, policy.order, policy.via, policy.otherwise, policy.stay, policy.blocked)
