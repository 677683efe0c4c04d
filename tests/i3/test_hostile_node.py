"""A hostile node, or somebody in its place: what it can make a host believe and do."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sojourn.i3.challenge import Address
from sojourn.i3.client import Arrived, TriggerRefused, TriggerStands
from sojourn.i3.handshake import SEALED
from sojourn.i3.node import RendezvousNode
from sojourn.i3.packet import DATA, INSERT, Answer, Challenge, Data, Echo, Location, Message, Request, Status, parse
from sojourn.model import Endpoint
from tests.i3.direct_world import pair_at
from tests.i3.roam_world import RoamWorld
from tests.i3.test_packet import MESSAGES
from tests.i3.world import NODE, World, own


@pytest.mark.parametrize("number", [0, 1, 7])
def test_a_hostile_node_cannot_make_a_host_believe_what_it_did_not_ask(number: int) -> None:
    world = World()
    a = world.host("a", wifi="198.51.100.1")
    a.insert(own("a"), "wifi")
    a.told.clear()
    told: list[Message] = [
        Answer(Status.WRONG, 30, number, bytes(16), Endpoint("192.0.2.1", 1)),
        Challenge(number, b"n" * 16),
        Location(True, 30, own("b").identifier, bytes(16), Endpoint("192.0.2.66", 53)),
        Echo(number, b"mygroup!"),
    ]
    for message in told:
        assert a.client.received("wifi", bytes(message), NODE, world.now) == []
    assert a.client.received("wifi", bytes(Data((own("a").identifier,))), Endpoint("192.0.2.66", 1801), 0.0) == []
    assert a.client.stands(own("a").identifier) == ["wifi"]


def test_a_node_that_points_elsewhere_does_not_turn_a_host_on_a_victim() -> None:
    world = World()
    a = world.host("a", wifi="198.51.100.1")
    for _ in range(2):
        a.send(own("b").identifier, b"hello", "wifi")
    lie = Location(True, 30, own("b").identifier, bytes(16), Endpoint("198.51.100.200", 53))
    a.do(a.client.received("wifi", bytes(lie), NODE, world.now))
    a.send(own("b").identifier, b"hello", "wifi")
    assert {to for _, source, to in world.wire if source == a.paths["wifi"]} == {NODE}


def test_a_node_that_challenges_for_ever_gets_six_answers() -> None:
    world = World()
    a = world.host("a", wifi="198.51.100.1")
    sent = a.client.insert(own("a"), "wifi", world.now)
    count = 0
    while sent:
        message = parse(sent[0].data)  # type: ignore[union-attr]
        assert isinstance(message, Request)
        sent, count = a.client.received("wifi", bytes(Challenge(message.number, bytes(16))), NODE, world.now), count + 1
    assert count == 6


@given(st.binary(max_size=120) | MESSAGES.map(bytes))
def test_no_bytes_upset_a_client(data: bytes) -> None:
    world = World()
    a = world.host("a", wifi="198.51.100.1")
    a.insert(own("a"), "wifi")
    for command in a.client.received("wifi", data, NODE, world.now):
        assert isinstance(command, Arrived | TriggerRefused | TriggerStands)


def test_what_a_node_makes_of_a_packet_comes_as_it_is() -> None:
    """A node may drop, copy and rewrite: only what peers seal tells them. No state of the client changes."""
    world = World()
    a = world.host("a", wifi="198.51.100.1")
    a.insert(own("a"), "wifi")
    forged = bytes(Data((own("a").identifier,), b"not what was sent"))
    for _ in range(3):
        a.do(a.client.received("wifi", forged, NODE, world.now))
    assert a.got() == [b"not what was sent"] * 3
    assert a.client.stands(own("a").identifier) == ["wifi"]


def test_a_node_that_answers_nothing_is_left_and_one_that_only_drops_packets_is_not() -> None:
    """Whether packets reach anybody is what peers tell each other; a node's echo tells that it is there."""
    other = Endpoint("203.0.113.10", 5070)
    world = World(NODE, other)
    a = world.host("a", wifi="198.51.100.1")
    a.insert(own("a"), "wifi")
    world.node.handle = lambda datagram, source, now: (  # type: ignore[method-assign]
        [] if datagram[0] == DATA else RendezvousNode.handle(world.node, datagram, source, now)
    )
    for _ in range(100):
        a.send(own("a").identifier, b"dropped", "wifi")
        world.run(0.05, 0.05)
    assert (a.got(), a.client.node) == ([], NODE)
    world.node.handle = lambda datagram, source, now: []  # type: ignore[method-assign]
    for _ in range(100):
        a.send(own("a").identifier, b"dropped", "wifi")
        world.run(0.05, 0.05)
    assert a.client.node == other


def test_a_node_that_claims_to_be_of_a_group_gets_what_its_hosts_would_tell_it_anyway() -> None:
    liar = Endpoint("203.0.113.66", 1801)
    world = World(NODE, liar)
    for node in world.nodes.values():
        node.group = b"thegroup"
    a = world.host("a", wifi="198.51.100.1")
    a.insert(own("a"), "wifi")
    a.do(a.client.measure("wifi", world.now))
    world.settle()
    a.do(a.client.prefer(liar, world.now))
    world.settle()
    [request] = [data for data, _, to in world.wire if to == liar and data[0] == INSERT][:1]
    thief = ("203.0.113.66", 1801)
    told = [parse(data) for data, _ in world.node.handle(request, thief, world.now)]
    assert [type(message) for message in told] == [Challenge], "a nonce is good at the address that it was made for"


def between(world: RoamWorld, change: Callable[[bytes], list[bytes]]) -> None:
    """Let the node make of each sealed packet that it forwards what `change` says."""
    node = world.nodes[NODE]

    def handle(datagram: bytes, source: Address, now: float) -> list[tuple[bytes, Address]]:
        sends: list[tuple[bytes, Address]] = []
        for reply, to in RendezvousNode.handle(node, datagram, source, now):
            message = parse(reply) if reply[0] == DATA else None
            if isinstance(message, Data) and message.payload[0] & SEALED:
                sends += [(bytes(replace(message, payload=each)), to) for each in change(message.payload)]
            else:
                sends.append((reply, to))
        return sends

    node.handle = handle  # type: ignore[method-assign]


def flipped(payload: bytes) -> bytes:
    return payload[:-9] + bytes((payload[-9] ^ 1,)) + payload[-8:]


def test_a_node_that_copies_and_rewrites_what_passes_it_gains_a_count_and_peers_get_all_of_it_once() -> None:
    world = RoamWorld()
    a, b = world.pair()
    between(world, lambda payload: [flipped(payload), payload, payload, payload[:-1], payload[:9], payload + b"x"])
    for number in range(10):
        a.send(b, f"{number}")
        b.send(a, f"{number}")
        world.run(0.1)
    assert a.got() == b.got() == [str(number) for number in range(10)]
    for host in (a, b):
        assert host.proxy.refused["forged"] >= 10
        assert host.proxy.refused["replayed"] >= 10


def test_a_node_that_drops_what_passes_it_delays_and_delivers_nothing_else() -> None:
    world = RoamWorld()
    a, b = world.pair()
    a.send(b, "met")
    world.run(0.5)
    assert b.got() == ["met"]
    between(world, lambda _payload: [])
    a.send(b, "dropped")
    world.run(3.0)
    assert b.got() == []
    between(world, lambda payload: [payload])
    a.send(b, "after")
    world.run(6.0)
    assert b.got()[-1] == "after"


def test_a_node_that_alters_an_offer_of_the_direct_path_keeps_it_from_being_made_and_leads_no_check_anywhere() -> None:
    """It lets data pass, which is longer here, so that all that can be seen of the offers is what becomes of them."""
    world, a, b = pair_at("198.51.100.1", "198.51.100.2")
    altered: list[bytes] = []

    def change(payload: bytes) -> list[bytes]:
        if len(payload) > 400:
            return [payload]
        altered.append(payload)
        return [flipped(payload)]

    between(world, change)
    for number in range(20):
        a.send(b, f"{number:400}")
        b.send(a, f"{number:400}")
        world.run(0.2)
    assert [int(text) for text in a.got()] == [int(text) for text in b.got()] == list(range(20))
    assert len(altered) > 4
    assert all(NODE in (source, to) for _, source, to in world.wire)
    assert min(host.proxy.refused["forged"] for host in (a, b)) >= 2
