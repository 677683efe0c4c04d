"""Two proxies over a node: seed 001's story, and what follows from it."""

from functools import partial

from sojourn.i3.identifier import public
from sojourn.i3.packet import Data, parse
from sojourn.i3.roam_commands import Moved, PathWorks
from sojourn.i3.roam_paths import network_of
from tests.i3.roam_world import Roamer, RoamWorld
from tests.i3.world import NODE


def sent_to(world: RoamWorld, since: int, host: Roamer) -> list[str]:
    """Say which identifiers a host's data went to, in order: "H(a)", "H(b)", "private"."""
    names = {public(each.home): f"H({each.name})" for each in world.roamers}
    outers = set(host.outer.values())
    stacks = [
        message.stack[0]
        for data, source, destination in world.wire[since:]
        if source in outers and destination == NODE and isinstance(message := parse(data), Data)
    ]
    return [names.get(stack, "private") for stack in stacks]


def test_a_host_tests_its_network_and_inserts_its_public_trigger() -> None:
    world = RoamWorld()
    a = world.roamer("a")
    a.up("wifi", "198.51.100.1")
    world.run(0.2)
    assert [type(one) for one in a.told] == [PathWorks, Moved]
    assert [network_of(path) for path in a.proxy.client.stands(public(a.home))] == ["wifi"]


def test_seed_001_step_by_step() -> None:
    """A's first packet goes to H(B.hip); B's answer carries B's private identifier to H(A.hip); and so on."""
    world = RoamWorld()
    a, b = world.pair()
    begin = len(world.wire)
    # C_A sends. P_A has no entry for B: the packet goes to B's public identifier, once there are keys.
    a.send(b, "question")
    world.run(0.1)
    assert b.got() == ["question"]
    assert sent_to(world, begin, a) == ["H(b)", "H(b)"], "the Hello, and the packet"
    peer_a = b.proxy.peer_at(a.home)
    assert peer_a is not None
    # P_B sees that it came to its public identifier: it owes A a private one, and waits for a packet to take it along.
    assert peer_a.owed is not None
    assert peer_a.own is not None
    at_b = len(world.wire)
    b.send(a, "answer")
    assert peer_a.owed is None
    world.run(0.05)
    assert a.got() == ["answer"]
    assert sent_to(world, at_b, b) == ["H(a)"], "B does not know A's private identifier yet"
    # P_A puts B's private identifier into its translation table, and owes its own, because this came to H(A.hip).
    peer_b = a.proxy.peer_at(b.home)
    assert peer_b is not None
    assert peer_b.identifier == peer_a.own.identifier
    assert peer_b.owed is not None
    world.run(0.05)
    at_a = len(world.wire)
    a.send(b, "more")
    world.run(0.05)
    assert sent_to(world, at_a, a) == ["private"]
    assert peer_b.own is not None
    assert peer_a.identifier == peer_b.own.identifier
    # From now on both send to private identifiers, and nothing is owed.
    at_b = len(world.wire)
    b.send(a, "thanks")
    world.run(0.5)
    assert (a.got(), b.got()) == (["thanks"], ["more"])
    assert sent_to(world, at_b, b) == ["private"]
    assert (peer_a.owed, peer_b.owed) == (None, None)


def test_without_a_packet_to_take_it_along_the_identifier_goes_alone_after_200_ms() -> None:
    world = RoamWorld()
    a, b = world.pair()
    a.send(b, "one way")
    world.run(0.15)
    assert a.proxy.by_home[next(iter(a.proxy.by_home))].identifier is None
    world.run(0.2)
    peer = a.proxy.peer_at(b.home)
    assert peer is not None
    assert peer.identifier is not None
    assert peer.packets_in == 0


def test_both_move_at_once_and_nothing_that_is_sent_later_is_lost() -> None:
    world = RoamWorld(delay=0.01)
    a, b = world.pair()
    a.send(b, "before")
    b.send(a, "before")
    world.run(1.0)
    a.got(), b.got()
    moved_at = world.now
    for host, address in ((a, "203.0.113.101"), (b, "203.0.113.102")):
        host.down("wifi")
        host.up("cellular", address)
    for number in range(40):
        world.at(number * 0.01, partial(a.send, b, f"{number}"))
        world.at(number * 0.01, partial(b.send, a, f"{number}"))
    world.run(1.0)
    rtt = 4 * world.delay
    first = min(at for at in b.delivered_at if at > moved_at)
    assert first - moved_at <= 2 * rtt + 0.1
    got = b.got()
    assert [int(text) for text in got] == list(range(int(got[0]), 40)), "in order, each once"
