"""Two proxies that allow each other a direct path, over NATs, moves and dead paths; and who learns what."""

import pytest
from msgspec.structs import replace

from sojourn.errors import RemoteProtocolError
from sojourn.i3 import direct_message
from sojourn.i3.direct_message import Carried, Check, Offer
from sojourn.i3.packet import Data, parse
from sojourn.i3.roam_commands import Command
from sojourn.model import Endpoint
from tests.i3.direct_world import DirectWorld, Nat, agent_of, pair_at, pair_behind, talk
from tests.i3.roam_world import Roamer
from tests.i3.world import NODE

A, B = "198.51.100.7", "198.51.100.8"


def by_node(world: DirectWorld, since: int) -> int:
    """Return how many of the later datagrams carried something to a node for a peer."""
    return sum(to == NODE and isinstance(parse(data), Data) for data, _, to in world.wire[since:])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (None, None),
        (Nat(A), Nat(B)),
        (Nat(A), None),
        (Nat(A, symmetric=True), Nat(B, filtering="address")),
        (Nat(A, symmetric=True), Nat(B, filtering="any")),
    ],
)
def test_where_nats_permit_packets_go_straight_and_none_is_lost_on_the_way_there(
    one: Nat | None, other: Nat | None
) -> None:
    world, a, b = pair_behind(one, other)
    assert [agent_of(a, b).why, agent_of(b, a).why] == ["", ""]
    since = len(world.wire)
    assert talk(world, a, b, 2.0) == []
    assert by_node(world, since) == 0
    pair = agent_of(a, b).selected
    assert pair is not None
    assert pair.rtt.srtt == pytest.approx(0.02)


def test_over_ipv6_packets_go_straight_too() -> None:
    world, a, b = pair_at("2001:db8:1::2", "2001:db8:2::2")
    assert talk(world, a, b, 3.0) == []
    pair = agent_of(a, b).selected
    assert pair is not None
    assert pair.remote == Endpoint("2001:db8:2::2", 4000)


def test_behind_one_nat_without_hairpins_they_speak_inside_without_a_node() -> None:
    home = Nat(A)
    world, a, b = pair_behind(home, home)
    for here, there, address in ((a, b, "192.168.1.3"), (b, a, "192.168.1.2")):
        pair = agent_of(here, there).selected
        assert pair is not None
        assert pair.remote.address == address
    world.nodes.clear()
    assert talk(world, a, b, 400.0, 1.0) == [], "keys were renewed three times"


@pytest.mark.parametrize(("one", "other"), [(Nat(A, symmetric=True), Nat(B, symmetric=True)),
                                            (Nat(A, symmetric=True), Nat(B))])  # fmt: skip
def test_where_nats_do_not_permit_it_packets_go_by_the_node_and_it_is_said_why(one: Nat, other: Nat) -> None:
    world, a, b = pair_behind(one, other)
    assert talk(world, a, b, 3.0) == []
    assert agent_of(a, b).selected is None
    assert "NATs or firewalls" in agent_of(a, b).why


def test_a_path_that_dies_loses_nothing_and_is_used_again_when_it_lives() -> None:
    world, a, b = pair_behind(Nat(A), Nat(B))
    world.at(1.0, lambda: setattr(world, "between_dead", True))
    assert talk(world, a, b, 3.0, 0.02) == []
    assert agent_of(a, b).selected is None
    assert "no answer for" in agent_of(a, b).why
    world.between_dead = False
    assert talk(world, a, b, 9.0) == []
    assert agent_of(a, b).selected is not None


def test_a_process_that_did_not_run_does_not_take_its_path_for_dead() -> None:
    world, a, b = pair_behind(None, None)
    pair = agent_of(a, b).selected
    assert pair is not None
    pair.outstanding += [world.now - 1.0] * 5
    a.proxy.forgive()
    assert talk(world, a, b, 1.0) == []
    assert agent_of(a, b).selected is pair
    assert not [one for one in a.told if " by way of " in getattr(one, "what", "")]


def test_with_a_tenth_of_all_packets_lost_the_path_stays() -> None:
    world, a, b = pair_behind(None, None, loss=0.1)
    world.run(1.0)
    for _ in range(10):
        talk(world, a, b, 1.0)
        if agent_of(a, b).selected is None:
            assert "no answer" in agent_of(a, b).why
    assert sum(" by way of " in one.what for one in a.told if hasattr(one, "what")) <= 1


def soft(world: DirectWorld, who: tuple[Roamer, ...]) -> None:
    for number, roamer in enumerate(who):
        outside = f"198.51.100.{50 + number}"
        world.place(roamer, "cell", f"10.1.{number}.2", Nat(outside), use=False)
    world.run(1.0)
    for roamer in who:
        world.at(0.5, lambda roamer=roamer: roamer.use("cell"))  # type: ignore[misc]


@pytest.mark.parametrize("who", ["a", "b", "ab"])
def test_a_planned_move_of_one_or_both_loses_nothing_and_the_direct_path_follows(who: str) -> None:
    world, a, b = pair_behind(Nat(A), Nat(B))
    movers = tuple(each for each in (a, b) if each.name in who)
    soft(world, movers)
    assert talk(world, a, b, 3.0, 0.02) == []
    for here, there in ((a, b), (b, a)):
        pair = agent_of(here, there).selected
        assert pair is not None
        assert pair.path.startswith("cell" if here in movers else "wifi")


@pytest.mark.parametrize("who", ["a", "ab"])
def test_a_network_that_goes_is_followed_by_the_node_at_once_and_directly_soon(who: str) -> None:
    world, a, b = pair_behind(Nat(A), Nat(B))
    talk(world, a, b, 1.0)
    for number, roamer in enumerate(each for each in (a, b) if each.name in who):
        roamer.down("wifi")
        world.place(roamer, "cell", f"10.1.{number}.2", Nat(f"198.51.100.{50 + number}"))
    since = world.now
    talk(world, a, b, 0.2, 0.02)
    first = min(at for at in b.delivered_at if at > since)
    assert first - since < 0.16, "2 RTT by way of the node, and 100 ms"
    assert talk(world, a, b, 3.0, 0.02) == []
    assert agent_of(a, b).selected is not None
    assert agent_of(b, a).selected is not None


# Who learns what.


def offers_to(roamer: Roamer) -> list[Offer]:
    """Return all offers that come to a host from now on."""
    seen: list[Offer] = []
    before = roamer.proxy.told_by_node

    def look(peer: object, plaintext: bytes, now: float) -> list[Command]:
        message = direct_message.parse(plaintext)
        if isinstance(message, Offer):
            seen.append(message)
        return before(peer, plaintext, now)  # type: ignore[arg-type]

    roamer.proxy.told_by_node = look  # type: ignore[method-assign]
    return seen


def test_a_peer_that_does_not_wish_it_never_learns_an_address_nor_do_we_of_it() -> None:
    world = DirectWorld()
    a, b = world.wishing("a", "b"), world.wishing("b", "a", direct=False)
    told_b, told_a = offers_to(b), offers_to(a)
    world.place(a, "wifi", "192.168.1.2", Nat(A))
    world.place(b, "wifi", "192.168.7.2", Nat(B))
    world.run(0.5)
    assert talk(world, a, b, 200.0, 5.0) == []
    assert told_b
    assert [offer.candidates for offer in told_b] == [()] * len(told_b)
    assert [(offer.wants, offer.candidates) for offer in told_a] == [(False, ())] * len(told_a)
    assert agent_of(a, b).why == "the peer does not allow it"
    between = [to for _, source, to in world.wire if NODE not in (source, to)]
    assert between == []


def test_a_host_without_the_wish_takes_nothing_that_comes_directly() -> None:
    world, a, b = pair_behind(None, None)
    peer = b.proxy.peer_at(a.home)
    assert peer is not None
    (known,) = b.proxy.settings.peers
    b.proxy.configure(replace(b.proxy.settings, peers=(replace(known, direct=False),)))
    world.run(0.1)
    assert peer.agent is None
    assert talk(world, a, b, 2.0) == []
    assert agent_of(a, b).why == "the peer does not allow it"
    assert peer.session is not None
    since = len(world.wire)
    packet = b"\x80" + peer.session.index.to_bytes(3) + bytes(60)
    b.do(b.proxy.received("wifi", packet, Endpoint("198.51.100.1", 4000), world.now))
    assert b.proxy.refused["not-direct"] == 1
    assert len(world.wire) == since


# Bad input.


def test_forged_and_replayed_checks_change_nothing_and_are_answered_by_nothing() -> None:
    world, a, b = pair_behind(None, None)
    world.run(6.0)
    where = Endpoint("198.51.100.2", 4000)
    sealed = [data for data, _, to in world.wire if to == where and data[0] & 0x80]
    elsewhere = Endpoint("203.0.113.66", 6000)
    since = len(world.wire)
    pairs = dict(agent_of(b, a).pairs)
    for data in sealed[-10:]:
        b.do(b.proxy.received("wifi", data, elsewhere, world.now))
        b.do(b.proxy.received("wifi", data[:-1] + bytes((data[-1] ^ 1,)), elsewhere, world.now))
    assert b.proxy.refused["replayed"] >= 10
    assert len(world.wire) == since
    assert agent_of(b, a).pairs == pairs


def test_a_node_that_alters_offers_or_tells_a_wrong_address_wins_six_checks_of_a_stranger() -> None:
    world = DirectWorld()
    a, b = world.wishing("a", "b"), world.wishing("b", "a")
    victim = Endpoint("203.0.113.66", 6000)
    world.place(a, "wifi", "192.168.1.2", Nat(A))
    world.place(b, "wifi", "192.168.7.2", Nat(B, symmetric=True))
    world.run(0.2)
    path = a.proxy.path
    assert path is not None
    a.proxy.seen[path] = victim
    a.do(a.proxy.follow(world.now))
    assert talk(world, a, b, 3.0) == []
    came = [data for data, _, to in world.wire if to == victim]
    assert 1 <= len(came) <= 7
    assert max(map(len, came)) < 64


def test_what_belongs_to_the_node_is_not_taken_from_an_address_nor_the_other_way_round() -> None:
    world, a, b = pair_behind(None, None)
    peer = a.proxy.peer_at(b.home)
    assert peer is not None
    assert peer.session is not None
    offer = bytes(Offer(True, 99 << 32 | 1))
    with pytest.raises(RemoteProtocolError):
        a.proxy._read(peer, peer.session, offer, "wifi\n1", Endpoint("198.51.100.2", 4000), world.now)
    for message in (Check(bytes(8), 1), Carried(b"\x01")):
        with pytest.raises(RemoteProtocolError):
            a.proxy.told_by_node(peer, bytes(message), world.now)
    with pytest.raises(RemoteProtocolError):
        a.proxy._read(peer, peer.session, bytes(Carried(b"\x03")), "wifi\n1", Endpoint("198.51.100.2", 4000), world.now)


def test_anything_that_is_not_sealed_from_no_node_is_dropped() -> None:
    world, a, _ = pair_behind(None, None)
    since = len(world.wire)
    for data in (b"", b"\x00\x01\x00\x00!\x12\xa4B" + bytes(12), b"\x10" + bytes(60), b"\x01" + bytes(150)):
        a.do(a.proxy.received("wifi", data, Endpoint("203.0.113.66", 3478), world.now))
    assert a.proxy.refused["no-node"] == 4
    assert len(world.wire) == since
