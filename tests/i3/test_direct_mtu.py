"""What size of packets a direct path carries: found by probes alone, and never believed longer than it is true."""

import pytest

from sojourn.i3.direct_checks import Pair
from sojourn.i3.direct_message import SizeProbe
from sojourn.i3.direct_mtu import DirectMtu
from sojourn.model import Endpoint
from sojourn.packet.path_mtu import MTU_CONFIRM_EVERY, MTU_RAISE_AFTER
from tests.i3.direct_world import DirectWorld, Nat, agent_of, met, talk
from tests.i3.roam_world import Roamer
from tests.i3.world import seeded


def rooms(a: Roamer, b: Roamer) -> list[int]:
    return [agent_of(here, there).mtu.inner for here, there in ((a, b), (b, a))]


@pytest.mark.parametrize(
    ("mtu", "inner"), [(1500, 1448), (1492, 1440), (1420, 1368), (1400, 1348), (1332, 1280), (1300, 1280)]
)
def test_both_ends_find_what_the_path_carries(mtu: int, inner: int) -> None:
    _, a, b = met(mtu=mtu)
    assert rooms(a, b) == [inner, inner]


def test_over_ipv6_the_outer_header_is_twenty_bytes_longer() -> None:
    _, a, b = met(mtu=1480, six=True)  # what the world counts is IPv4's
    assert rooms(a, b) == [1500 - 72, 1500 - 72]


def test_a_device_of_1280_bytes_has_nothing_searched() -> None:
    world, a, b = met(device_mtu=1280)
    assert rooms(a, b) == [1280, 1280]
    assert not any(len(data) > 1280 for data, _, _ in world.wire)


def test_a_path_that_becomes_narrow_falls_back_and_one_that_grows_is_found_again() -> None:
    world, a, b = met()
    world.mtu = 1400
    assert talk(world, a, b, MTU_CONFIRM_EVERY + 2.0) == [], "small packets pass all the time"
    assert rooms(a, b) == [1348, 1348]
    world.mtu = 1500
    assert talk(world, a, b, 20.0) == []
    assert rooms(a, b) == [1348, 1348], "asked about again after ten minutes only"
    assert talk(world, a, b, MTU_RAISE_AFTER, every=1.0) == []
    assert rooms(a, b) == [1448, 1448]


def test_while_it_is_searched_anew_packets_have_1280_bytes_at_most() -> None:
    world, a, b = met()
    world.mtu = 1320
    seen: set[int] = set()
    for _ in range(120):
        talk(world, a, b, 0.1)
        seen |= set(rooms(a, b))
    assert seen == {1448, 1280}


def test_a_move_begins_at_1280_again_and_by_way_of_the_node_it_stays_there() -> None:
    world, a, b = met()
    world.mtu = 1420
    world.place(a, "cell", "198.51.100.9")
    b_peer = b.proxy.peer_at(a.home)
    assert b_peer is not None
    assert talk(world, a, b, 3.0) == []
    assert rooms(a, b) == [1368, 1368]
    world.between_dead = True
    talk(world, a, b, 3.0)
    assert agent_of(b, a).selected is None
    assert b_peer.room() == 1280


def test_behind_nats_a_probe_finds_its_way_as_checks_do() -> None:
    world = DirectWorld()
    a, b = world.wishing("a", "b"), world.wishing("b", "a")
    world.place(a, "wifi", "192.168.1.2", Nat("198.51.100.7"))
    world.place(b, "wifi", "192.168.7.2", Nat("198.51.100.8"))
    world.run(0.5)
    assert talk(world, a, b, 3.0) == []
    assert rooms(a, b) == [1448, 1448]


def test_an_idle_path_is_asked_nothing_and_a_silent_one_ever_more_rarely() -> None:
    pair = Pair("wifi", Endpoint("198.51.100.2", 4000), 1, 0.0)
    size = DirectMtu(seeded("size"), 1448)
    size.begin(pair, 0.0)
    asked: list[tuple[float, SizeProbe]] = []
    while (due := size.deadline()) is not None and due < 3600.0:
        asked += [(due, probe) for probe in size.tick(pair, due)[0]]
    assert 3 < len(asked) < 30, "nothing is heard of the peer"
    size.begin(pair, 0.0)
    (probe,), check = size.tick(pair, 0.0)
    assert check
    assert size.answered(probe.transaction, 0.1) is pair
    assert size.inner == 1448
    assert size.answered(probe.transaction, 0.2) is None, "an answer counts once"
    size.tick(pair, size.deadline() or 0.0)
    assert size.deadline() is None, "no packets, no probes"


def test_an_answer_of_the_path_before_counts_for_nothing() -> None:
    pair = Pair("wifi", Endpoint("198.51.100.2", 4000), 1, 0.0)
    size = DirectMtu(seeded("size"), 1448)
    size.begin(pair, 0.0)
    (probe,), _ = size.tick(pair, 0.0)
    size.begin(Pair("cell", pair.remote, 1, 0.0), 0.1)
    assert size.answered(probe.transaction, 0.2) is None
    assert size.inner == 1280
