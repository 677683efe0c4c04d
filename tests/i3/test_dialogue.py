"""ROAM's story (seed 001) as far as triggers tell it: A and B, a node between them, and both on the move."""

from sojourn.i3.client import NodeSilent, NotPresent, TriggerGone, TriggerRefused, TriggerStands, public_trigger
from sojourn.i3.identifier import public
from sojourn.i3.packet import ANSWER, CHALLENGE, DATA, INSERT, REMOVE, Status
from sojourn.model import Endpoint
from tests.i3.world import NODE, World, own


def test_a_reaches_b_by_the_hash_of_its_home_address_and_both_go_on_by_private_triggers() -> None:
    world = World()
    a, b = world.host("a", wifi="198.51.100.1"), world.host("b", wifi="192.0.2.1")
    a.insert(public_trigger(a.identity), "wifi")
    b.insert(public_trigger(b.identity), "wifi")

    # PA encapsulates the packet and sends it to H(B.hip); B's proxy gets it by its public trigger.
    a.send(public(b.identity.address), b"syn", "wifi")
    assert b.got() == [b"syn"]

    # PB owes A a private trigger; not knowing one of A's, it uses H(A.hip).
    b_private, a_private = own("b for a"), own("a for b")
    b.insert(b_private, "wifi")
    b.send(public(a.identity.address), b"syn ack, and b's private identifier", "wifi")
    assert a.got() == [b"syn ack, and b's private identifier"]

    # PA was reached by its public trigger, too, and now owes one.
    a.insert(a_private, "wifi")
    a.send(b_private.identifier, b"ack, and a's private identifier", "wifi")
    b.send(a_private.identifier, b"data", "wifi")
    assert (a.got(), b.got()) == ([b"data"], [b"ack, and a's private identifier"])


def test_an_insert_is_challenged_at_the_address_that_it_came_from_before_anything_changes() -> None:
    world = World()
    b = world.host("b", wifi="192.0.2.1")
    b.insert(own("x"), "wifi")
    assert [data[0] for data, _, _ in world.wire] == [INSERT, CHALLENGE, INSERT, ANSWER]
    sizes = [len(data) for data, _, _ in world.wire]
    assert sizes[1] < sizes[0]
    assert sizes[3] < sizes[2]
    assert b.told == [TriggerStands(own("x").identifier, "wifi", b.paths["wifi"])]


def test_when_a_moves_it_inserts_the_new_address_and_removes_the_old_one_by_way_of_the_new() -> None:
    world = World()
    a, b = world.host("a", wifi="198.51.100.1"), world.host("b", wifi="192.0.2.1")
    a.insert(own("a"), "wifi")
    world.cut.add(a.paths["wifi"])
    a.paths["cellular"] = Endpoint("198.51.100.77", 4000)
    a.insert(own("a"), "cellular")
    a.remove(own("a"), "wifi", via="cellular")
    assert [data[0] for data, _, _ in world.wire[-2:]] == [REMOVE, ANSWER]
    assert TriggerGone(own("a").identifier, "wifi") in a.told
    b.send(own("a").identifier, b"where are you", "wifi")
    assert a.got() == [b"where are you"]
    assert sum(data[0] == DATA for data, source, _ in world.wire if source == NODE) == 1


def test_both_move_in_the_same_moment_and_find_each_other_again() -> None:
    world = World()
    a, b = world.host("a", wifi="198.51.100.1"), world.host("b", wifi="192.0.2.1")
    for host in (a, b):
        host.insert(own(host.name), "wifi")
    for host, new in ((a, "198.51.100.2"), (b, "192.0.2.2")):
        world.cut.add(host.paths["wifi"])
        host.paths["cellular"] = Endpoint(new, 4000)
        host.insert(own(host.name), "cellular")
        host.remove(own(host.name), "wifi", via="cellular")
    a.send(own("b").identifier, b"still there", "cellular")
    b.send(own("a").identifier, b"yes", "cellular")
    assert (a.got(), b.got()) == ([b"yes"], [b"still there"])


def test_a_soft_handover_has_two_triggers_for_a_while_and_each_packet_comes_by_both() -> None:
    world = World()
    a = world.host("a", wifi="198.51.100.1", cellular="198.51.100.2")
    b = world.host("b", wifi="192.0.2.1")
    a.insert(own("a"), "wifi")
    a.insert(own("a"), "cellular")
    b.send(own("a").identifier, b"twice", "wifi")
    assert a.got() == [b"twice", b"twice"]
    a.remove(own("a"), "wifi")
    b.send(own("a").identifier, b"once", "wifi")
    assert a.got() == [b"once"]


def test_a_trigger_is_refreshed_every_twenty_seconds_and_ends_thirty_after_the_last() -> None:
    world = World()
    a = world.host("a", wifi="198.51.100.1")
    a.insert(own("a"), "wifi")
    world.wire.clear()
    world.run(100)
    assert [data[0] for data, _, _ in world.wire] == [INSERT, ANSWER] * 5
    assert len(world.node.table) == 1
    world.cut.add(a.paths["wifi"])
    world.run(31)
    assert len(world.node.table) == 0
    assert world.node.shares.triggers == 0


def test_who_sends_to_an_identifier_that_nobody_has_is_told_when_it_asks() -> None:
    world = World()
    a = world.host("a", wifi="198.51.100.1")
    for _ in range(3):  # the first is challenged, the second asks, the third has its answer
        a.send(own("nobody").identifier, b"hello", "wifi")
    assert a.told == [NotPresent(own("nobody").identifier)]
    assert world.node.refused["no-trigger"] == 3


def test_when_a_node_falls_silent_everything_is_asked_of_the_next() -> None:
    second = Endpoint("203.0.113.10", 5070)
    world = World(NODE, second)
    a, b = world.host("a", wifi="198.51.100.1"), world.host("b", wifi="192.0.2.1")
    a.insert(own("a"), "wifi")
    world.cut.add(NODE)
    world.run(40)
    assert NodeSilent(NODE) in a.told
    assert len(world.nodes[second].table) == 1
    b.client.nodes.reverse()
    b.send(own("a").identifier, b"by the other", "wifi")
    assert a.got() == [b"by the other"]


def test_a_restarted_node_is_told_everything_again_by_refreshes_alone() -> None:
    world = World()
    a = world.host("a", wifi="198.51.100.1")
    a.insert(own("a"), "wifi")
    world.nodes[NODE] = World().node
    world.run(25)
    assert len(world.node.table) == 1


def test_what_a_node_refuses_is_told_with_its_reason() -> None:
    world = World()
    a, thief = world.host("a", wifi="198.51.100.1"), world.host("thief", wifi="192.0.2.66")
    thief.client._identity = thief.identity
    thief.insert(public_trigger(a.identity), "wifi")
    assert thief.told == [TriggerRefused(public(a.identity.address), "wifi", Status.WRONG)]
    assert world.node.refused["wrong"] == 1
    assert len(world.node.table) == 0
