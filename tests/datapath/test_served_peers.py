"""Who is served otherwise than one packet at a time, and from when to when."""

from collections.abc import Iterable

from sojourn.datapath.served_peers import FEW, IDLE, MANY, MOST_HOMES, WITHIN, Place, Served, ServedPeers
from sojourn.i3.peer import Peer
from sojourn.model import TunnelId
from sojourn.packet.ip import packed
from tests.i3.direct_world import agent_of, met


class Noted(ServedPeers):
    """Notes where it is to send."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[Place] = []
        self.given_back: list[str] = []

    def has(self, index: TunnelId) -> bool:
        return bool(index)

    def enter(self, home: bytes, served: Served, place: Place) -> bool:
        if place != served.place:
            self.places.append(place)
            served.place = place
        return bool(home)

    def leave(self, served: Served) -> None:
        served.place = None

    def borrowed(self) -> Iterable[str]:
        return {place.network for place in self.places}

    def back(self, network: str) -> None:
        self.given_back.append(network)
        self.places.clear()


def test_many_packets_in_a_short_time_make_a_peer_served_and_few_in_two_seconds_end_it() -> None:
    world, a, b = met()
    peer, home, noted = a.proxy.by_home[packed(b.home)], packed(b.home), Noted()
    for number in range(MANY * 3):
        noted.moved(home, peer, number * WITHIN * 2 / MANY)
    assert noted.served == {}, "half as many as it takes"
    for _ in range(MANY):
        noted.moved(home, peer, world.now)
    noted.follow(a.proxy, world.now)
    (place,) = noted.places
    assert (place.network, place.remote.address, place.mtu) == ("wifi", "198.51.100.2", 1448)
    noted.served[home].packets = FEW
    noted.follow(a.proxy, world.now + IDLE + 0.1)
    assert noted.served
    noted.follow(a.proxy, world.now + 2 * IDLE + 0.2)
    assert noted.served == {}
    assert noted.given_back == ["wifi"]


def test_a_path_in_doubt_is_left_but_not_one_over_which_packets_come() -> None:
    world, a, b = met()
    peer, home, noted = a.proxy.by_home[packed(b.home)], packed(b.home), Noted()
    for _ in range(MANY):
        noted.moved(home, peer, world.now)
    pair = agent_of(a, b).selected
    assert pair is not None
    pair.outstanding = [world.now, world.now + 0.06, world.now + 0.12]
    pair.heard = world.now + 0.01
    noted.follow(a.proxy, world.now + 0.13)
    assert noted.served
    pair.heard = world.now - 0.01
    noted.follow(a.proxy, world.now + 0.13)
    assert noted.served == {}


def test_any_number_of_home_addresses_takes_bounded_memory() -> None:
    _, a, b = met()
    peer, noted = a.proxy.by_home[packed(b.home)], Noted()
    for number in range(MOST_HOMES + 100):
        noted.moved(number.to_bytes(16), peer, 0.0)
    assert len(noted._seen) == MOST_HOMES
    stranger = Peer("", b.home, None, configured=False)
    noted.moved(bytes(16), stranger, 0.0)
    assert len(noted._seen) == MOST_HOMES, "who has no direct path is not counted"
