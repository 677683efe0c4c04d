"""Policies about peers: whom they speak of, what they refuse, and that they are written as they are read."""

from sojourn.i3.home import HomeIdentity
from sojourn.model import HOMES, Endpoint, Flow
from sojourn.policy.language import Context, read
from sojourn.policy.rules import Policy, Trigger, Via
from sojourn.policy.subject import covers
from sojourn.policy.write import table_of

ALICE, BOB = (HomeIdentity(bytes((number,)) * 32, bytes(32)).address for number in (1, 2))
CONTEXT = Context(peers={"alice": ALICE, "bob": BOB})


def one(**table: object) -> Policy:
    reading = read([table], CONTEXT)
    assert reading.errors == ()
    return reading.policies[0]


def mistake(**table: object) -> str:
    (error,) = read([table], CONTEXT).errors
    return str(error)


def flow(to: str) -> Flow:
    return Flow(6, Endpoint(BOB if ":" in to else "10.0.0.2", 4000), Endpoint(to, 22))


def test_via_peer_speaks_of_flows_with_peers_and_of_no_other() -> None:
    policy = one(via="peer", port=22, networks=["wifi"])
    assert policy.subject.destinations == (HOMES,)
    assert (policy.label, policy.via) == ("peers", Via.PEER)
    assert covers(policy.subject, flow(ALICE), None)
    assert not covers(policy.subject, flow("192.0.2.1"), None)


def test_a_peer_is_meant_by_its_name_and_nothing_more_need_be_said() -> None:
    policy = one(peer="alice", trigger="flow")
    assert (policy.label, policy.via, policy.trigger) == ("alice", Via.PEER, Trigger.FLOW)
    assert covers(policy.subject, flow(ALICE), None)
    assert not covers(policy.subject, flow(BOB), None)
    assert one(peer=["bob", "alice"]).subject.destinations == (f"{BOB}/128", f"{ALICE}/128")
    assert one(peer="*").subject.destinations == (HOMES,)


def test_what_a_policy_about_peers_cannot_mean_is_told() -> None:
    told = mistake(peer="alcie")
    assert "no peer is called 'alcie'" in told
    assert "Did you mean 'alice'?" in told
    assert "leads to no peer" in mistake(peer="alice", via="anchor")
    assert "stands beside `peer`" in mistake(peer="alice", destination="10.0.0.0/8")
    assert "is no peer's" in mistake(via="peer", destination="10.0.0.0/8")
    assert "is no home address" in mistake(via="peer", destination="*.example.org")
    assert "not reached past the nodes" in mistake(via="peer", otherwise="direct")
    assert "about flows with peers" in mistake(port=22, trigger="flow")
    assert "copies" in mistake(peer="alice", copies=2)
    assert "peer" in mistake(peer=7)


def test_it_is_written_as_it_is_read() -> None:
    for table in ({"peer": "alice", "trigger": "flow", "otherwise": "hold"}, {"via": "peer", "port": 22}):
        policy = one(**table)
        assert one(**table_of(policy)) == policy
