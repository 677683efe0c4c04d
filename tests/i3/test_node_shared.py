"""Nodes that share their triggers: any of them serves any host, and none keeps what another could not know."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.i3.client import NodeSilent, TriggerRefused, public_trigger
from sojourn.i3.forwarding import forward
from sojourn.i3.identifier import public
from sojourn.i3.orders import LookUpTrigger, PutTrigger, TriggersChanged, TriggersFound
from sojourn.i3.packet import DATA, Challenge, Data, Location, Request, Right, Status, parse
from sojourn.i3.shared_table import OUTAGE
from sojourn.i3.shares import ALWAYS, Rates
from sojourn.i3.standing import Wanted
from sojourn.i3.table import TRIGGER_LIFE
from sojourn.model import Endpoint
from tests.i3.shared_world import ONE, THREE, TWO, SharedWorld
from tests.i3.test_node import chain
from tests.i3.world import Host, own


def at(world: SharedWorld, name: str, address: str, *nodes: Endpoint) -> Host:
    """Return a host that knows these nodes, in this order."""
    host = world.host(name, wifi=address)
    host.client.nodes = list(nodes)
    return host


def pair(world: SharedWorld) -> tuple[Host, Host]:
    """Return a, which speaks to node one, and b, which speaks to node two and has a trigger."""
    a, b = at(world, "a", "198.51.100.1", ONE, TWO, THREE), at(world, "b", "192.0.2.1", TWO, THREE, ONE)
    b.insert(own("b"), "wifi")
    assert b.client.stands(own("b").identifier) == ["wifi"]
    return a, b


def froms(world: SharedWorld, host: Host) -> list[Endpoint]:
    """Return who has sent Data to a host since the last call."""
    found = [source for data, source, to in world.wire if to in host.paths.values() and data[0] == DATA]
    world.wire.clear()
    return found


def test_a_packet_at_any_node_reaches_the_host_by_the_node_that_its_nat_knows() -> None:
    world = SharedWorld(ONE, TWO, THREE)
    a, b = pair(world)
    a.send(own("b").identifier, b"by another node", "wifi")
    assert b.got() == [b"by another node"]
    assert froms(world, b) == [TWO]


def test_the_sender_is_told_of_that_node_and_sends_there_from_then_on() -> None:
    world = SharedWorld(ONE, TWO, THREE)
    a, b = pair(world)
    for _ in range(2):
        a.send(own("b").identifier, b"asking", "wifi")
    told = [parse(data) for data, _, to in world.wire if to in a.paths.values()]
    assert [one.node for one in told if isinstance(one, Location)] == [TWO]
    world.wire.clear()
    a.send(own("b").identifier, b"straight", "wifi")
    assert [to for _, source, to in world.wire if source in a.paths.values()] == [TWO]
    assert b.got() == [b"asking", b"asking", b"straight"]


def test_what_is_known_is_not_asked_again_until_it_changes() -> None:
    world = SharedWorld(ONE, TWO)
    a, b = pair(world)
    for _ in range(50):
        a.send(own("b").identifier, b"x", "wifi")
    assert sum(isinstance(order, LookUpTrigger) for order in world.asked) == 1
    b.paths["cellular"] = Endpoint("192.0.2.77", 4000)
    b.insert(own("b"), "cellular")
    b.remove(own("b"), "wifi", via="cellular")
    world.wire.clear()
    b.got()
    a.client._cache.clear()  # by its own node again
    a.send(own("b").identifier, b"after the move", "wifi")
    assert [to for data, _, to in world.wire if data[0] == DATA][-1] == b.paths["cellular"]
    assert b.got() == [b"after the move"]


def test_many_hosts_of_one_identifier_at_several_nodes_get_one_copy_each() -> None:
    world = SharedWorld(ONE, TWO, THREE)
    members = [at(world, f"m{n}", f"192.0.2.{n}", node) for n, node in enumerate((ONE, TWO, TWO, THREE, THREE), 1)]
    for member in members:
        member.insert(own("group"), "wifi")
    sender = at(world, "s", "198.51.100.1", ONE)
    sender.send(own("group").identifier, b"to all", "wifi")
    assert [member.got() for member in members] == [[b"to all"]] * 5
    relayed = [to for data, source, to in world.wire if source == ONE and to in (TWO, THREE) and data[0] == DATA]
    assert sorted(relayed) == [TWO, THREE], "one packet a node"


def test_a_relayed_packet_is_relayed_no_further_whatever_the_store_says() -> None:
    world = SharedWorld(ONE, TWO)
    _, b = pair(world)
    forged = bytes(Data((own("b").identifier,), b"round and round", relayed=True))
    world.put(forged, Endpoint("192.0.2.66", 1), ONE)
    world.settle()
    assert b.got() == []
    assert world.shared[ONE].refused["no-trigger"] == 1


def test_a_chain_of_triggers_is_looked_up_link_by_link_and_a_loop_is_refused() -> None:
    world = SharedWorld(ONE, TWO)
    names = chain(4)
    b, a = at(world, "b", "192.0.2.1", TWO), at(world, "a", "198.51.100.1", ONE)
    for one, after in pairwise(names):
        b.insert(Wanted(one, Right.LEFT, target=(after,)), "wifi")
    b.insert(Wanted(names[-1], Right.KEY, b"s" * 16), "wifi")
    a.send(names[0], b"along the chain", "wifi")
    assert b.got() == [b"along the chain"]


def test_a_loop_that_goes_by_way_of_two_nodes_is_refused_when_it_is_closed() -> None:
    world = SharedWorld(ONE, TWO)
    b, a = at(world, "b", "192.0.2.1", TWO), at(world, "a", "198.51.100.1", ONE)
    x, y, z = chain(2)
    b.insert(Wanted(y, Right.LEFT, target=(z, x)), "wifi")
    a.insert(Wanted(x, Right.LEFT, target=(y,)), "wifi")
    assert a.told[-1] == TriggerRefused(x, "wifi", Status.LOOP)


def test_any_node_knows_the_nonces_of_any_other() -> None:
    world = SharedWorld(ONE, TWO)
    address, request = ("192.0.2.1", 4000), Request(0x11, Right.KEY, 1, own("b").identifier, own("b").evidence)
    [(challenge, _)] = world.shared[ONE].handle(bytes(request), address, world.now)
    made = parse(challenge)
    assert isinstance(made, Challenge)
    again = Request(0x11, Right.KEY, 2, own("b").identifier, own("b").evidence, made.nonce)
    assert world.shared[TWO].handle(bytes(again), address, world.now) == []
    assert isinstance(world.shared[TWO].orders[0], PutTrigger)
    assert world.shared[ONE].group == world.shared[TWO].group != bytes(8)


def test_a_node_that_dies_is_replaced_within_a_second_and_the_next_one_has_the_triggers_already() -> None:
    world = SharedWorld(ONE, TWO, THREE)
    a, b = pair(world)
    longest, last = 0.0, world.now
    for step in range(300):
        if step == 100:
            world.cut.add(TWO)
        a.send(own("b").identifier, b"x", "wifi")
        b.send(own("b").identifier, b"keeps b busy", "wifi")
        world.run(0.02, 0.02)
        if b"x" in b.got():
            longest, last = max(longest, world.now - last), world.now
    assert longest < 1.0
    assert b.client.node == THREE
    assert NodeSilent(TWO) in b.told
    assert sum(order.record.via == (THREE,) for order in world.asked if isinstance(order, PutTrigger)) >= 1


def test_changing_to_a_nearer_node_loses_nothing_and_leaves_no_second_trigger() -> None:
    world = SharedWorld(ONE, TWO)
    a, b = pair(world)
    b.do(b.client.measure("wifi", world.now, [TWO, ONE]))
    world.settle()
    b.client.nodes = [TWO, ONE]
    b.do(b.client.prefer(ONE, world.now))
    world.settle()
    a.send(own("b").identifier, b"x", "wifi")
    assert b.got() == [b"x"]
    assert froms(world, b) == [ONE]
    assert len(world.book.look_up(own("b").identifier[:16], world.now)) == 1


def test_a_host_whose_nat_shows_each_node_another_port_takes_the_old_trigger_out() -> None:
    """Address-dependent mapping (RFC 4787 §4.1)."""
    world = SharedWorld(ONE, TWO)
    _, b = pair(world)
    b.do(b.client.measure("wifi", world.now, [TWO, ONE]))
    world.settle()
    b.client.nodes = [TWO, ONE]
    b.paths["wifi"] = Endpoint("192.0.2.1", 4999)
    b.do(b.client.prefer(ONE, world.now))
    world.settle()
    [record] = world.book.look_up(own("b").identifier[:16], world.now)
    assert record.target == ("192.0.2.1", 4999)
    assert b.client.stands(own("b").identifier) == ["wifi"]


def test_while_the_store_is_silent_what_is_known_is_served_and_refreshed_and_nothing_new_is_taken() -> None:
    world = SharedWorld(ONE, TWO)
    a, b = pair(world)
    a.send(own("b").identifier, b"before", "wifi")
    b.told.clear()
    world.store_goes()
    for _ in range(int(3 * TRIGGER_LIFE)):
        world.run(1.0)
        a.send(own("b").identifier, b"during", "wifi")
    assert len(b.got()) == 3 * TRIGGER_LIFE
    assert not any(isinstance(one, TriggerRefused) for one in b.told)
    a.insert(own("a"), "wifi")
    assert TriggerRefused(own("a").identifier, "wifi", Status.LATER) in a.told
    world.store_comes_back()
    world.run(5)
    assert a.client.stands(own("a").identifier) == ["wifi"], "it was asked for again by itself"


def test_what_nobody_refreshes_is_not_served_for_ever_without_the_store() -> None:
    world = SharedWorld(ONE, TWO)
    a, b = pair(world)
    a.send(own("b").identifier, b"before", "wifi")
    assert b.got() == [b"before"]
    world.store_goes()
    world.hosts.remove(b)
    world.run(OUTAGE + 60, 5.0)
    world.wire.clear()
    a.send(own("b").identifier, b"is nobody there", "wifi")
    assert not [data for data, _, to in world.wire if to in b.paths.values()]


def test_a_store_that_comes_back_empty_is_told_by_the_nodes_what_their_hosts_have() -> None:
    world = SharedWorld(ONE, TWO)
    a, b = pair(world)
    a.send(own("b").identifier, b"before", "wifi")
    world.store_goes()
    world.run(12)
    world.store_comes_back(empty=True)
    a.client._cache.clear()
    a.send(own("b").identifier, b"after", "wifi")
    assert b.got() == [b"before", b"after"]
    assert len(world.book.look_up(own("b").identifier[:16], world.now)) == 1


def test_the_limit_of_a_neighbourhood_holds_over_all_nodes() -> None:
    world = SharedWorld(ONE, TWO, max_triggers=100)
    statuses = []
    for number in range(30):
        host = at(world, f"h{number}", "192.0.2.66", (ONE, TWO)[number % 2])
        host.paths["wifi"] = Endpoint("192.0.2.66", 5000 + number)
        world.beat()
        host.insert(own(f"t{number}"), "wifi")
        statuses.append(host.client.stands(own(f"t{number}").identifier) == ["wifi"])
    assert sum(statuses) <= max(ALWAYS, 100 // 8)
    late = at(world, "late", "192.0.2.1", TWO)
    late.insert(own("late"), "wifi")
    assert late.client.stands(own("late").identifier) == ["wifi"]


def test_the_public_identifier_is_signed_for_the_node_that_is_spoken_to() -> None:
    world = SharedWorld(ONE, TWO)
    a, b = at(world, "a", "198.51.100.1", ONE), at(world, "b", "192.0.2.1", TWO)
    b.insert(public_trigger(b.identity), "wifi")
    a.send(public(b.identity.address), b"hello", "wifi")
    assert b.got() == [b"hello"]


def test_a_flood_for_unknown_identifiers_costs_its_sender_a_share_for_each_look_up() -> None:
    world = SharedWorld(ONE, rates=Rates(packets=320, requests=10))
    there = world.shared[ONE]
    for number in range(2000):
        there.handle(bytes(Data((own(str(number)).identifier,))), ("192.0.2.66", 1), world.now)
    assert sum(isinstance(order, LookUpTrigger) for order in there.orders) <= 2 * 320 / 16
    assert there.refused["rate"] > 1900


def test_what_waits_for_the_store_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sojourn.i3.node_shared.MAX_WAITING", 50)
    world = SharedWorld(ONE, rates=Rates(1e9, 1e9))
    there = world.shared[ONE]
    for number in range(80):
        there.handle(bytes(Data((own(str(number)).identifier,))), ("192.0.2.66", 1), world.now)
    assert there.refused["waiting"] == 30
    assert len(there.orders) == 50
    world.after(ONE)
    assert there.refused["no-trigger"] == 50


def test_what_a_fellow_node_relays_is_not_counted_as_one_hosts() -> None:
    world = SharedWorld(ONE, TWO, rates=Rates(packets=5, requests=100))
    pair(world)
    node, packet = world.shared[TWO], bytes(Data((own("b").identifier,), b"x", relayed=True))
    sent = sum(len(node.handle(packet, (ONE.address, ONE.port), world.now)) for _ in range(100))
    assert sent == 10
    node.shares.fellows = frozenset({ONE.address})
    assert sum(len(node.handle(packet, (ONE.address, ONE.port), world.now)) for _ in range(100)) == 100


def test_an_answer_that_a_change_has_overtaken_is_not_kept() -> None:
    """The word of a change may be read before the answer that is older than it is taken in."""
    world = SharedWorld(ONE, TWO)
    pair(world)
    node, place = world.shared[ONE], own("b").identifier[:16]
    packet = bytes(Data((own("b").identifier,), b"x"))
    for change in (place, None):
        assert node.handle(packet, ("192.0.2.66", 1), world.now) == []
        assert node.orders == [LookUpTrigger(place)]
        node.orders.clear()
        node.told(TriggersChanged(change), world.now)
        sent = node.told(TriggersFound(place, world.book.look_up(place, world.now)), world.now)
        assert [to for _, to in sent] == [(TWO.address, TWO.port)], "who waited has waited long enough"
    assert node.handle(packet, ("192.0.2.66", 1), world.now) == []
    assert node.orders == [LookUpTrigger(place)]
    node.told(TriggersFound(place, world.book.look_up(place, world.now)), world.now)
    assert len(node.handle(packet, ("192.0.2.66", 1), world.now)) == 1


@settings(deadline=None)
@given(st.binary(max_size=50), st.integers(0, 20), st.integers(0, 80), st.booleans(), st.booleans())
def test_the_fast_way_over_two_nodes_does_what_the_obvious_one_does(
    payload: bytes, hops: int, copies: int, relayed: bool, here: bool
) -> None:
    world = SharedWorld(ONE, TWO)
    pair(world)
    node = world.shared[TWO if here else ONE]
    node.told(TriggersFound(own("b").identifier[:16], world.book.look_up(own("b").identifier[:16], 0.0)), world.now)
    datagram = bytes((0x10, 0x21 if relayed else 1, hops, copies)) + own("b").identifier + payload
    sent = node.handle(datagram, ("192.0.2.66", 1), world.now)
    if hops > 16 or not 1 <= copies <= 64:
        assert sent == []
    else:
        packet = Data((own("b").identifier,), payload, hops, copies, relayed=relayed)
        assert sent == forward(node.table, packet, world.now).sends
