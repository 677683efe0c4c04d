"""Private identifiers of single flows: told, used, honoured after a move, taken out, and bounded."""

from hypothesis import given
from hypothesis import strategies as st

from sojourn.i3.flow_triggers import MOST_OWN, MOST_THEIRS, FlowPorts, FlowTriggers, ports_of
from sojourn.i3.identifier import Identifier
from sojourn.i3.packet import Data, parse
from sojourn.model import Endpoint
from sojourn.packet.ip import packed, udp_packet
from tests.i3.roam_world import Roamer, RoamWorld
from tests.i3.world import NODE


def say(a: Roamer, b: Roamer, text: str, port: int = 7, *, own: bool = False) -> None:
    packet = udp_packet(Endpoint(a.home, port), Endpoint(b.home, 9), text.encode())
    a.do(a.proxy.ip_receive(packet, packed(b.home), a.world.now, own_trigger=own))


def answer(b: Roamer, a: Roamer, text: str, port: int = 7) -> None:
    packet = udp_packet(Endpoint(b.home, 9), Endpoint(a.home, port), text.encode())
    b.do(b.proxy.ip_receive(packet, packed(a.home), b.world.now))


def sent_to(world: RoamWorld, since: int, host: Roamer) -> list[Identifier]:
    """Return the identifiers of data packets that a host has sent since."""
    outer = set(host.outer.values())
    messages = [parse(data) for data, source, to in world.wire[since:] if source in outer and to == NODE]
    return [message.stack[0] for message in messages if isinstance(message, Data)]


def talking() -> tuple[RoamWorld, Roamer, Roamer]:
    world = RoamWorld()
    a, b = world.pair()
    for _ in range(2):
        say(a, b, "hello", 1000)
        answer(b, a, "hello", 1000)
        world.run(0.5)
    a.got(), b.got()
    return world, a, b


def test_a_flow_gets_an_identifier_of_its_own_and_the_others_keep_the_peers() -> None:
    world, a, b = talking()
    say(a, b, "mine", own=True)
    world.run(0.5)
    ((flow, own),) = next(iter(a.proxy.by_home.values())).flows.own.items()
    assert flow == FlowPorts(17, 7, 9)
    since = len(world.wire)
    answer(b, a, "for the flow")
    answer(b, a, "for another", 1000)
    world.run(0.1)
    (peer,) = a.proxy.by_home.values()
    assert peer.own is not None
    assert sent_to(world, since, b) == [own.wanted.identifier, peer.own.identifier]
    assert a.got() == ["for the flow", "for another"]


def test_it_is_told_alone_where_no_packet_takes_it_along_and_again_to_who_did_not_hear() -> None:
    world, a, b = talking()
    say(a, b, "mine", own=True)
    world.loss = 1.0
    world.run(0.21)
    world.loss = 0.0
    world.run(0.5)
    (peer,) = b.proxy.by_home.values()
    answer(b, a, "to the peer's")
    world.run(0.5)
    (own,) = next(iter(a.proxy.by_home.values())).flows.own.values()
    assert peer.flows.target(FlowPorts(17, 9, 7)) == own.wanted.identifier


def test_after_a_move_it_leads_to_the_new_network_and_after_the_flow_nowhere() -> None:
    world, a, b = talking()
    say(a, b, "mine", own=True)
    world.run(0.5)
    a.down("wifi")
    a.up("cellular", "203.0.113.101")
    world.run(0.5)
    since = len(world.wire)
    answer(b, a, "there?")
    world.run(0.1)
    assert a.got() == ["there?"]
    (own,) = next(iter(a.proxy.by_home.values())).flows.own.values()
    assert own.wanted.identifier in sent_to(world, since, b)
    standing = len(world.nodes[NODE].table)
    a.do(a.proxy.flow_ended(packed(b.home), FlowPorts(17, 7, 9), world.now))
    world.run(0.2)
    assert len(world.nodes[NODE].table) == standing - 1
    answer(b, a, "lost")
    world.run(11.0)
    answer(b, a, "asks where")
    world.run(0.5)
    answer(b, a, "found")
    world.run(0.5)
    assert a.got()[-1] == "found", "what leads nowhere is forgotten, and the peer's identifier used"


def test_a_peer_that_opens_many_flows_uses_bounded_memory_at_both_ends() -> None:
    world, a, b = talking()
    for port in range(2000, 2000 + MOST_OWN + 10):
        say(a, b, "x", port, own=True)
        world.run(0.02)
    world.run(1.0)
    assert len(next(iter(a.proxy.by_home.values())).flows.own) == MOST_OWN
    assert len(b.got()) == MOST_OWN + 10
    theirs = FlowTriggers()
    for port in range(MOST_THEIRS + 5):
        theirs.told(FlowPorts(6, port, 22), Identifier(bytes(32)))
    assert theirs.target(FlowPorts(6, 4, 22)) is None
    assert theirs.target(FlowPorts(6, 5, 22)) is not None


@given(st.binary(max_size=80), st.booleans())
def test_any_bytes_are_a_flow_or_none(packet: bytes, came: bool) -> None:
    found = ports_of(packet, came=came)
    assert found is None or found.reversed().reversed() == found
