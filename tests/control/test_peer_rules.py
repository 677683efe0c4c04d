"""What policies say of flows with peers."""

from msgspec.structs import replace

from sojourn.control.decide import Decide
from sojourn.control.explain import explain
from sojourn.control.peer_rules import PeerRules, of_peer, placed
from sojourn.control.rehearse import Running, rehearse
from sojourn.model import HOMES, TCP, Endpoint, Flow
from sojourn.policy.rules import DEFAULT, Otherwise, Policy, Subject, Trigger, Via
from sojourn.upmt.peer_commands import HOME, PEERS
from tests.control.networks import PHONE, WIFI, works
from tests.control.policies import REST, decide_with

PEER = Policy("peers", Subject(destinations=(HOMES,)), ("wifi",), via=Via.PEER, otherwise=Otherwise.HOLD)


def there(*policies: Policy) -> Decide:
    decide = decide_with(*policies, REST)
    works(decide, WIFI, PHONE)
    return decide


def place(decide: Decide, network: str | None) -> tuple[object, bool]:
    first = placed(decide, network, 1.0)[0]
    return first.tunnel, first.block


def test_the_default_alone_needs_no_rules() -> None:
    assert placed(there(), WIFI.name, 1.0) == ()


def test_flows_wait_while_peers_are_reached_over_a_network_that_their_policy_does_not_list() -> None:
    decide = there(PEER)
    assert place(decide, WIFI.name) == (PEERS, False)
    assert place(decide, PHONE.name) == (None, False)
    assert place(decide, None) == (PEERS, False), "the proxy itself keeps packets until there is a network"
    assert placed(decide, PHONE.name, 1.0)[-1].tunnel == PEERS, "what no policy covers just goes"
    assert place(there(replace(PEER, otherwise=Otherwise.BLOCK)), PHONE.name) == (None, True)
    assert place(there(replace(PEER, otherwise=Otherwise.ANY)), PHONE.name) == (PEERS, False)
    assert place(there(replace(PEER, blocked=True)), WIFI.name) == (None, True)
    own = placed(there(replace(PEER, trigger=Trigger.FLOW)), WIFI.name, 1.0)
    assert [each.own_trigger for each in own] == [True, False]


def test_only_news_are_told() -> None:
    decide, rules = there(PEER), PeerRules()
    (told,) = rules.news(decide, WIFI.name, 1.0)
    assert told.association == HOME
    assert rules.news(decide, WIFI.name, 2.0) == []
    assert rules.news(decide, PHONE.name, 3.0) != []


def test_why_a_flow_waits_is_explained_and_what_a_change_would_do_rehearsed() -> None:
    decide = there(PEER)
    flow = Flow(TCP, Endpoint("fd53:6f6a::1", 4000), Endpoint("fd53:6f6a::2", 22))
    told = of_peer(decide, explain(decide, "peers", 1.0, flow, None), PHONE.name, 1.0)
    assert told.state == "waiting"
    assert told.reason == f"its policy does not let it go over {PHONE.name}; peers are reached over {PHONE.name}"
    told = of_peer(decide, explain(decide, "peers", 1.0, flow, WIFI.name), WIFI.name, 1.0)
    assert (told.state, told.reason) == ("carried", f"peers are reached over {WIFI.name}")
    running = [Running(flow, None, DEFAULT, PHONE.name, PHONE.name)]
    (moving,) = rehearse((PEER, REST), (REST,), running, decide.facts_of(1.0), None)
    assert (moving.policy, moving.to) == ("peers", None)
    assert "it waits" in moving.why
    assert rehearse((replace(PEER, networks=("*",)), REST), (REST,), running, decide.facts_of(1.0), None) == []
