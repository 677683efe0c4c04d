from collections.abc import Iterator

import pytest

from sojourn.datapath.outlets import KEPT_PER_TUNNEL, KNOWN_SOURCES, KNOWN_STRANGERS, Outlet, Outlets
from sojourn.linux.udp import UdpSocket
from sojourn.model import Endpoint, TunnelId

TUNNEL, OTHER = TunnelId(1), TunnelId(2)
PEER, PEER6 = Endpoint("192.0.2.9", 4000), Endpoint("2001:db8::9", 4000)
VIA = (0, 8, bytes(12))


@pytest.fixture
def sockets() -> Iterator[tuple[UdpSocket, UdpSocket]]:
    pair = UdpSocket.open(Endpoint("127.0.0.1", 0)), UdpSocket.open(Endpoint("::1", 0))
    yield pair
    for sock in pair:
        sock.close()


def anchor(sockets: tuple[UdpSocket, UdpSocket]) -> Outlets:
    outlets = Outlets()
    outlets.listening += sockets
    return outlets


def test_a_hosts_tunnel_uses_its_own_socket(sockets: tuple[UdpSocket, UdpSocket]) -> None:
    outlets = Outlets()
    outlets.of_tunnel[TUNNEL] = sockets[0]
    assert outlets.find(TUNNEL, PEER) == Outlet(sockets[0], (PEER.address, PEER.port))
    assert outlets.find(OTHER, PEER) is None


def test_an_anchor_reaches_a_stranger_by_the_socket_of_his_family(sockets: tuple[UdpSocket, UdpSocket]) -> None:
    outlets = anchor(sockets)
    for sock, peer in zip(sockets, (PEER, PEER6), strict=True):
        found = outlets.find(TUNNEL, peer)
        assert found is not None
        assert found.socket is sock


def test_an_answer_goes_back_the_way_that_the_question_came(sockets: tuple[UdpSocket, UdpSocket]) -> None:
    outlets = anchor(sockets)
    way = Outlet(sockets[0], (PEER.address, PEER.port), VIA)
    outlets.current = PEER, way
    assert outlets.find(TUNNEL, PEER) == way
    outlets.current = None
    outlets.remember(TUNNEL, PEER, way)
    assert outlets.find(TUNNEL, PEER) == way
    assert outlets.find(OTHER, PEER) == way._replace(via=None)


def test_only_a_few_addresses_of_a_tunnel_are_kept(sockets: tuple[UdpSocket, UdpSocket]) -> None:
    outlets = anchor(sockets)
    ends = [Endpoint("192.0.2.9", port) for port in range(1, KEPT_PER_TUNNEL + 2)]
    for end in ends:
        outlets.remember(TUNNEL, end, Outlet(sockets[0], (end.address, end.port), VIA))
    known = [outlets.find(TUNNEL, end) for end in ends]
    assert [found is not None and found.via is not None for found in known] == [False] + [True] * KEPT_PER_TUNNEL


def test_a_closed_listening_socket_is_not_used_again(sockets: tuple[UdpSocket, UdpSocket]) -> None:
    outlets = anchor(sockets)
    outlets.remember(TUNNEL, PEER, Outlet(sockets[0], (PEER.address, PEER.port), VIA))
    outlets.listening.remove(sockets[0])
    assert outlets.find(TUNNEL, PEER) is None


def test_sources_are_remembered_within_bounds_however_many_there_are(sockets: tuple[UdpSocket, UdpSocket]) -> None:
    outlets = anchor(sockets)
    for port in range(KNOWN_SOURCES + 10):
        assert outlets.endpoint(sockets[0], ("192.0.2.1", port)) == Endpoint("192.0.2.1", port)
    assert len(outlets._sources) <= KNOWN_SOURCES
    assert outlets.endpoint(sockets[1], ("fe80::1%eth0", 5, 0, 2)) == Endpoint("fe80::1", 5)


def test_a_stranger_and_the_tunnel_he_is_given_are_answered_from_where_he_asked(
    sockets: tuple[UdpSocket, UdpSocket],
) -> None:
    outlets = anchor(sockets)
    asked = Outlet(sockets[0], (PEER.address, PEER.port), VIA)
    outlets.current = PEER, asked
    outlets.keep_way_back(PEER)
    outlets.keep_way_back(PEER6)
    outlets.current = None
    assert outlets.find(None, PEER) == outlets.find(TUNNEL, PEER) == asked
    assert outlets.find(None, PEER6) == Outlet(sockets[1], (PEER6.address, PEER6.port)), "was not the sender just now"


def test_strangers_are_forgotten_oldest_first(sockets: tuple[UdpSocket, UdpSocket]) -> None:
    outlets = anchor(sockets)
    for port in range(1, KNOWN_STRANGERS + 2):
        peer = Endpoint("192.0.2.9", port)
        outlets.current = peer, Outlet(sockets[0], (peer.address, port), VIA)
        outlets.keep_way_back(peer)
    outlets.current = None
    ways = [outlets.find(None, Endpoint("192.0.2.9", port)) for port in (1, 2)]
    assert [way is not None and way.via for way in ways] == [None, VIA]
