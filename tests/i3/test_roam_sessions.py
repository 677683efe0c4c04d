"""Who peers are, what keys they have, and what an attacker gains: nothing that is theirs."""

from functools import partial

import pytest

from sojourn.i3 import handshake
from sojourn.i3.identifier import public
from sojourn.i3.packet import Data, parse
from sojourn.i3.roam import RoamProxy
from sojourn.i3.roam_commands import PeerTold
from sojourn.i3.roam_sessions import Settings
from sojourn.packet.ip import packed
from tests.i3.roam_world import Roamer, RoamWorld
from tests.i3.world import NODE, own, seeded


def payloads(world: RoamWorld, since: int = 0) -> list[bytes]:
    sent = [parse(data) for data, _, _ in world.wire[since:] if data[0] == 0x10]
    return [one.payload for one in sent if isinstance(one, Data)]


def test_no_byte_of_an_inner_packet_and_no_private_identifier_passes_a_node_in_the_clear() -> None:
    world = RoamWorld()
    a, b = world.pair()
    for _ in range(3):
        a.send(b, "SECRET WORDS")
        b.send(a, "OTHER SECRET")
        world.run(0.5)
    assert a.got() and b.got()  # noqa: PT018
    everything = b"".join(payloads(world))
    for secret in (b"SECRET", packed(a.home)[4:], packed(b.home)[4:]):
        assert secret not in everything
    for host in (a, b):
        for peer in host.proxy.by_home.values():
            assert peer.own is not None
            assert bytes(peer.own.identifier) not in everything


def test_a_peer_never_gets_the_others_address() -> None:
    world = RoamWorld()
    a, b = world.pair()
    for _ in range(3):
        a.send(b, "x")
        b.send(a, "x")
        world.run(0.5)
    outer = bytes(int(part) for part in a.outer["wifi"].address.split("."))
    assert not any(outer in data for data in b.came)
    assert not any(source == a.outer["wifi"] and to == b.outer["wifi"] for _, source, to in world.wire)


def test_two_hellos_that_cross_make_one_session() -> None:
    world = RoamWorld()
    a, b = world.pair()
    a.send(b, "from a")
    b.send(a, "from b")
    world.run(1.0)
    assert (a.got(), b.got()) == (["from b"], ["from a"])
    ours, theirs = a.proxy.peer_at(b.home), b.proxy.peer_at(a.home)
    assert ours is not None
    assert theirs is not None
    assert ours.session is not None
    assert theirs.session is not None
    assert (ours.session.index, ours.session.peer_index) == (theirs.session.peer_index, theirs.session.index)
    lower = a if a.identity.keys.exchange < b.identity.keys.exchange else b
    assert ours.session.initiator is (lower is a)


def test_keys_are_renewed_every_120_s_and_nothing_is_lost_by_it() -> None:
    world = RoamWorld()
    a, b = world.pair()
    for number in range(400):
        world.at(number * 1.0, partial(a.send, b, f"{number}"))
        world.at(number * 1.0 + 0.5, partial(b.send, a, f"{number}"))
    indices = set()
    for _ in range(40):
        world.run(10.0)
        peer = a.proxy.peer_at(b.home)
        assert peer is not None
        assert peer.session is not None
        indices.add(peer.session.index)
    world.run(5.0)
    assert [int(text) for text in b.got()] == list(range(400))
    assert [int(text) for text in a.got()] == list(range(400))
    assert len(indices) == 4


def test_a_host_that_is_no_peer_is_not_spoken_to() -> None:
    world = RoamWorld()
    b, m = world.roamer("b", "a"), world.roamer("m", "b")
    for host, address in ((b, "198.51.100.2"), (m, "198.51.100.3")):
        host.up("wifi", address)
    world.run(0.5)
    m.send(b, "let me in")
    world.run(20.0)
    assert not b.got()
    assert b.proxy.refused["no-peer"] >= 3
    assert PeerTold(b.home, "does not answer") in m.told


def test_with_accept_anyone_a_host_known_by_its_address_alone_is_met_and_the_address_shows_the_keys() -> None:
    world = RoamWorld()
    a, b = world.roamer("a", "b", keys=False), world.roamer("b", anyone=True)
    for host, address in ((a, "198.51.100.1"), (b, "198.51.100.2")):
        host.up("wifi", address)
    world.run(0.5)
    a.send(b, "hello")
    world.run(1.0)
    assert b.got() == ["hello"]
    peer = a.proxy.peer_at(b.home)
    assert peer is not None
    assert peer.keys == b.identity.keys


def test_keys_that_do_not_make_the_address_are_not_believed() -> None:
    """M stands in for B at the node, as a hostile node may: it can answer Who, but not with keys of B's address."""
    world = RoamWorld()
    a, m = world.roamer("a", "b", keys=False), world.roamer("m", anyone=True)
    b = world.roamer("b")
    a.up("wifi", "198.51.100.1")
    m.up("wifi", "198.51.100.3")
    world.run(0.5)
    a.proxy.by_home[packed(b.home)].public = public(m.home)  # what a node could do: lead H(b) to m
    a.send(b, "for b alone")
    world.run(5.0)
    peer = a.proxy.by_home[packed(b.home)]
    assert peer.keys is None
    assert a.proxy.refused["no-peer"] >= 1
    assert not m.got()


def test_a_host_that_holds_only_the_public_identifier_gets_copies_at_most_and_can_read_and_answer_nothing() -> None:
    """A hostile node gives M a trigger for B's public identifier: greetings reach M, too."""
    world = RoamWorld()
    a, b = world.pair()
    m = world.roamer("m", "a")
    m.up("wifi", "198.51.100.3")
    world.run(0.5)
    node = world.nodes[NODE]
    (trigger,) = node.table.match(public(b.home), world.now)
    outer = m.outer["wifi"]
    trigger.address = (outer.address, outer.port)  # now everything for H(b) goes to m
    a.send(b, "for b")
    world.run(3.0)
    assert not m.got()
    assert m.proxy.refused["noise"] >= 1
    trigger.address = (b.outer["wifi"].address, b.outer["wifi"].port)
    world.run(6.0)
    assert b.got() == ["for b"], "when it leads to b again, b gets it"


def test_repeated_and_changed_packets_are_counted_and_deliver_nothing() -> None:
    world = RoamWorld()
    a, b = world.pair()
    a.send(b, "once")
    world.run(0.5)
    came = list(b.came)
    b.got()
    for data in came:
        b.do(b.proxy.received("wifi", data, NODE, world.now))
        if len(data) < 60:
            continue
        changed = data[:43] + bytes((data[43] ^ 0x40,)) + data[44:]  # of a sealed packet: another counter
        b.do(b.proxy.received("wifi", changed, NODE, world.now))
    world.run(1.0)
    assert not b.got()
    assert b.proxy.refused["replayed"] >= 1
    assert b.proxy.refused["forged"] >= 1
    b.send(a, "still there")
    world.run(0.5)
    assert a.got() == ["still there"]


def test_a_peer_may_send_only_as_itself_and_only_to_us() -> None:
    world = RoamWorld()
    a, b = world.pair()
    a.send(b, "hello")
    world.run(0.5)
    b.got()
    real = a.home
    a.home = "fd53:6f6a::bad"
    a.send(b, "as somebody else")
    a.home = real
    world.run(0.5)
    assert not b.got()
    assert b.proxy.refused["inner-source"] == 1


def test_a_peer_whose_process_was_replaced_is_met_again_within_seconds() -> None:
    world = RoamWorld()
    a, b = world.pair()
    a.send(b, "before")
    world.run(1.0)
    b.got()
    outer = b.outer["wifi"]
    world.roamers.remove(b)
    again = world.roamer("b", "a")
    again.proxy._random = lambda size: (b"other" * 13)[:size]
    again.outer["wifi"] = outer
    again.do(again.proxy.open_path("wifi", world.now))
    again.use("wifi")
    for number in range(20):
        world.at(number * 1.0, partial(a.send, again, f"{number}"))
    world.run(22.0)
    assert "19" in again.got()


@pytest.mark.parametrize("who", ["a", "b"])
def test_a_host_whose_clock_was_set_back_is_met_again_once_its_old_keys_are_over(who: str) -> None:
    """A small computer without a clock of its own starts an hour late; one of the two has the lower key."""
    world = RoamWorld()
    pair = world.pair()
    old, other = pair if who == "a" else pair[::-1]
    old.send(other, "before")
    world.run(1.0)
    other.got()
    world.roamers.remove(old)
    again = world.roamer(who, other.name)
    again.proxy = RoamProxy(again.identity, again.proxy.settings, seeded("again"), 1.7e9 - 3600)
    again.outer["wifi"] = old.outer["wifi"]
    again.do(again.proxy.open_path("wifi", world.now))
    again.use("wifi")
    for number in range(220):
        world.at(number * 1.0, partial(again.send, other, f"{number}"))
    world.run(221.0)
    assert "219" in other.got()
    assert other.proxy.refused["replayed"] >= 1


def test_a_flood_of_greetings_costs_a_bounded_number_of_answers() -> None:
    world = RoamWorld()
    a, b = world.pair()
    a.send(b, "one")
    world.run(0.001)
    hello = next(data for data in payloads(world) if data[0] == 1)
    flood = bytes(Data((public(b.home),), hello))
    for _ in range(300):
        b.do(b.proxy.received("wifi", flood, NODE, world.now))
    assert b.proxy.refused["replayed"] == 299
    assert len([data for data in payloads(world) if data[0] == handshake.ACCEPT]) == 1


def test_a_flood_of_strangers_greetings_does_not_keep_peers_from_new_keys() -> None:
    world = RoamWorld()
    a, b = world.pair()
    junk = bytes((handshake.HELLO,)).ljust(handshake.HELLO_BYTES, b"\x01")

    def flood() -> None:
        for host in (a, b):
            for _ in range(10):
                host.do(host.proxy.received("wifi", bytes(Data((host.proxy.public,), junk)), NODE, world.now))

    for number in range(200):
        world.at(number * 1.0, partial(a.send, b, f"{number}"))
        world.at(number * 1.0 + 0.5, partial(b.send, a, f"{number}"))
    for turn in range(9000):
        world.at(115.005 + turn * 0.01, flood)
    world.run(201.0)
    assert b.proxy.refused["rate"] > 80_000
    assert [int(text) for text in b.got()] == list(range(200))
    assert [int(text) for text in a.got()] == list(range(200))


def test_a_peer_known_by_its_address_alone_is_asked_for_its_keys_beforehand_and_meets_through_a_flood() -> None:
    world = RoamWorld()
    a, b = world.roamer("a", "b"), world.roamer("b", "a", keys=False)
    for host, address in ((b, "198.51.100.2"), (a, "198.51.100.1")):
        host.up("wifi", address)
        world.run(10.0)
    peer = b.proxy.by_home[packed(a.home)]
    assert peer.keys == a.identity.keys
    assert not any(isinstance(told, PeerTold) for told in b.told), "nobody has wanted it yet"
    junk = bytes((handshake.HELLO,)).ljust(handshake.HELLO_BYTES, b"\x01")

    def flood() -> None:
        for _ in range(10):
            b.do(b.proxy.received("wifi", bytes(Data((b.proxy.public,), junk)), NODE, world.now))

    for turn in range(400):
        world.at(turn * 0.01, flood)
    world.run(1.0)
    a.send(b, "hello")
    world.run(1.0)
    assert b.got() == ["hello"]


def test_a_peer_that_is_away_is_asked_for_its_keys_ever_more_rarely() -> None:
    world = RoamWorld()
    b = world.roamer("b", "a", keys=False)
    b.up("wifi", "198.51.100.2")
    world.run(3600.0)
    peer = next(iter(b.proxy.by_home.values()))
    assert 8 <= peer.key_asks <= 16
    assert peer.keys is None


def test_lost_packets_of_the_handshake_are_sent_again() -> None:
    world = RoamWorld(loss=0.3)
    a, b = world.pair()
    world.run(5.0)
    a.send(b, "through")
    world.run(20.0)
    assert b.got() == ["through"]


def test_a_new_private_identifier_is_told_and_the_previous_one_honoured() -> None:
    world = RoamWorld()
    a, b = world.pair()
    for _ in range(2):
        a.send(b, "x")
        b.send(a, "x")
        world.run(0.5)
    peer, at_b = a.proxy.peer_at(b.home), b.proxy.peer_at(a.home)
    assert peer is not None
    assert at_b is not None
    before = at_b.own
    a.got(), b.got()
    b.do(b.proxy.choose_anew(at_b, world.now))
    for number in range(20):
        world.at(number * 0.05, partial(a.send, b, f"{number}"))
    world.run(2.0)
    assert len(b.got()) == 20
    assert at_b.own is not None
    assert peer.identifier == at_b.own.identifier
    assert before is not None
    assert at_b.previous == before
    world.run(40.0)
    assert at_b.previous is None
    assert before.identifier not in {trigger for trigger in _identifiers(world)}


def _identifiers(world: RoamWorld) -> list[bytes]:
    return [one.identifier for host in world.roamers for one in host.proxy.wanted()]


def test_a_peer_that_is_forgotten_leaves_no_trigger_behind() -> None:
    world = RoamWorld()
    a, b = world.pair()
    a.send(b, "x")
    b.send(a, "x")
    world.run(0.5)
    (own,) = (peer.own for peer in b.proxy.by_home.values())
    assert own is not None
    assert b.proxy.client.stands(own.identifier)
    b.proxy.configure(Settings(b.proxy.settings.nodes))
    world.run(1.0)
    assert not b.proxy.client.paths_of(own.identifier)
    assert not world.nodes[NODE].table.match(own.identifier, world.now)


def test_a_forged_accept_ends_nothing() -> None:
    """Whoever sees a Hello knows its index, and may send anything in its peer's name."""
    world = RoamWorld()
    a, b = world.pair()
    a.send(b, "hello")
    hello = next(data for data in payloads(world) if data[0] == handshake.HELLO)
    forged = bytes((handshake.ACCEPT, 0, 0, 1)) + hello[1:4]
    forged = bytes(Data((public(a.home),), forged.ljust(handshake.ACCEPT_BYTES, b"\x01")))
    for _ in range(3):
        a.do(a.proxy.received("wifi", forged, NODE, world.now))
    assert a.proxy.refused["noise"] == 3
    world.run(0.2)
    assert b.got() == ["hello"]


def test_a_stranger_cannot_insert_the_private_identifier_that_he_has_seen() -> None:
    """Identifiers alone give no right: the secret behind one goes to the node only."""
    world = RoamWorld()
    a, b = world.pair()
    a.send(b, "x")
    world.run(0.5)
    peer = b.proxy.peer_at(a.home)
    assert peer is not None
    assert peer.own is not None
    thief: Roamer = world.roamer("m")
    thief.up("wifi", "198.51.100.3")
    world.run(0.5)
    stolen = own("thief")
    forged = type(stolen)(peer.own.identifier, stolen.right, stolen.evidence)
    thief.do(thief.proxy.insert(forged, world.now))
    world.run(1.0)
    assert thief.proxy.refused["trigger-wrong"] == 1
