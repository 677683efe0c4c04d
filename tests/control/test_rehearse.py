"""Which running flows would move under other policies."""

import msgspec
import pytest

from sojourn.control.rehearse import Running, rehearse, target_of
from sojourn.model import TCP, Endpoint, Flow, Origin
from sojourn.policy.rules import DEFAULT, Facts, Order, Otherwise, Policy, Require, Subject, Via

CABLE, WIFI, CELL = Facts("eth0", "ethernet"), Facts("wlan0", "wifi"), Facts("wwan0", "cellular", metered=True)
FACTS = (CABLE, WIFI, CELL)
SSH = Origin(1, "/usr/bin/ssh", command="ssh")
REST = Policy(DEFAULT, networks=("ethernet", "wifi", "*"))


def running(port: int, network: str | None, label: str = DEFAULT, origin: Origin | None = None) -> Running:
    flow = Flow(TCP, Endpoint("10.201.0.2", 40000), Endpoint("192.0.2.1", port))
    return Running(flow, origin, label, network)


def test_flows_that_another_policy_would_cover_move_and_the_rest_is_not_spoken_of() -> None:
    shell = Policy("shell", Subject(applications=("ssh",)), ("wifi",))
    flows = [running(22, "eth0", origin=SSH), running(80, "eth0"), running(443, "wwan0")]
    (moving,) = rehearse([shell, REST], [REST], flows, FACTS, None)
    assert (moving.flow.remote.port, moving.policy, moving.came_from, moving.to) == (22, "shell", "eth0", "wlan0")
    assert moving.why == "policy 'shell' prefers wlan0"


def test_nothing_moves_when_nothing_changes_whatever_patience_has_left_where_it_is() -> None:
    assert rehearse([REST], [REST], [running(80, "wwan0")], FACTS, None) == []


def test_another_general_order_moves_what_no_policy_covers() -> None:
    flows = [running(80, "eth0"), running(22, "eth0", "shell", SSH)]
    shell = Policy("shell", Subject(applications=("ssh",)), ("ethernet",))
    (moving,) = rehearse([shell, Policy(DEFAULT, networks=("wifi", "*"))], [shell, REST], flows, FACTS, None)
    assert (moving.flow.remote.port, moving.to, moving.why) == (80, "wlan0", "the general order prefers wlan0")


def test_what_becomes_of_a_flow_with_a_peer_is_not_what_becomes_of_another_one_on_the_same_network() -> None:
    peer = msgspec.structs.replace(running(22, "wwan0"), peers_over="wwan0")
    policies = [Policy(DEFAULT, networks=("wifi",))]
    for flows in ([peer, running(80, "wwan0")], [running(80, "wwan0"), peer]):
        (moving,) = rehearse(policies, [REST], flows, FACTS, None)
        assert (moving.flow.remote.port, moving.to) == (80, "wlan0")


@pytest.mark.parametrize(
    ("policy", "here", "to", "why"),
    [
        (Policy("x", blocked=True), "eth0", None, "policy 'x' blocks it"),
        (Policy("x", via=Via.DIRECT), "eth0", "eth0", "a flow that runs cannot become direct"),
        (Policy("x", networks=("wifi", "*"), stay=True), "eth0", "eth0", "it may stay"),
        (Policy("x", networks=("wifi", "*"), order=Order.STICKY), "eth0", "eth0", "it may stay"),
        (Policy("x", networks=("none",)), "eth0", "eth0", "nothing fits policy 'x': any network will do"),
        (Policy("x", networks=("none",)), None, "eth0", "nothing fits policy 'x': any network will do"),
        (Policy("x", networks=("none",), otherwise=Otherwise.HOLD), "eth0", None, "nothing fits policy 'x': it waits"),
        (Policy("x", networks=("none",), otherwise=Otherwise.BLOCK), "eth0", None,
         "nothing fits policy 'x': it is refused"),
        (Policy("x", networks=("none",), otherwise=Otherwise.ASK), "eth0", None,
         "nothing fits policy 'x': it waits for your answer"),
        (Policy("x", require=Require(metered=True)), "eth0", "wwan0", "policy 'x' prefers wwan0"),
    ],
)  # fmt: skip
def test_where_a_policy_wants_a_flow(policy: Policy, here: str | None, to: str | None, why: str) -> None:
    assert target_of(policy, FACTS, here, None) == (to, why)


def test_without_any_network_that_works_flows_wait() -> None:
    assert target_of(Policy("x"), (), "eth0", None) == (None, "nothing fits policy 'x': it waits")
