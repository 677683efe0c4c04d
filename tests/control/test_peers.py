"""Which network peers are reached over."""

from sojourn.control.peers import PeerPaths
from sojourn.model import Endpoint, Network
from sojourn.upmt.events_network import NetworkDown, NetworkUp
from sojourn.upmt.peer_commands import CloseRendezvous, OpenRendezvous, UseRendezvous
from sojourn.upmt.peer_events import (
    RendezvousBlocked,
    RendezvousMoved,
    RendezvousSilent,
    RendezvousStayed,
    RendezvousWorks,
)

WIFI, CELL = Network("wifi", "wlan0", "192.168.1.2"), Network("cell", "wwan0", "10.64.0.2")


def paths() -> PeerPaths:
    return PeerPaths(lambda networks: sorted(networks, key=lambda one: one.name != "wifi"))


def test_a_network_gets_a_socket_and_is_used_at_once_when_it_is_the_only_one() -> None:
    peers = paths()
    assert peers.handle(NetworkUp(CELL)) == [OpenRendezvous("cell", "wwan0", Endpoint("10.64.0.2", 0))]
    assert peers.follow(None) == [UseRendezvous("cell")]
    assert peers.follow(None) == [], "said once"
    assert peers.handle(NetworkUp(CELL)) == [], "nothing new"


def test_a_better_network_is_used_once_a_node_answers_over_it() -> None:
    peers = paths()
    for event in (NetworkUp(CELL), RendezvousWorks("cell", 0.01)):
        peers.handle(event)
    assert peers.follow(None) == [UseRendezvous("cell")]
    peers.handle(NetworkUp(WIFI))
    assert peers.follow(None) == []
    peers.handle(RendezvousWorks("wifi", 0.01))
    assert peers.follow(None) == [UseRendezvous("wifi")]
    peers.moved(RendezvousMoved("wifi", "cell", 0.02, True))
    assert peers.serving == "wifi"


def test_the_decisions_network_goes_before_the_order_if_it_leads_anywhere() -> None:
    peers = paths()
    for network in (WIFI, CELL):
        peers.handle(NetworkUp(network))
        peers.handle(RendezvousWorks(network.name, 0.01))
    assert peers.follow("cell") == [UseRendezvous("cell")]
    peers.handle(RendezvousSilent("cell", 0.4))
    assert peers.follow("cell") == [UseRendezvous("wifi")]
    peers.handle(RendezvousWorks("cell", 0.01, again=True))
    assert peers.follow("cell") == [UseRendezvous("cell")]


def test_with_nothing_that_works_it_stays_where_it_is() -> None:
    peers = paths()
    for network in (WIFI, CELL):
        peers.handle(NetworkUp(network))
        peers.handle(RendezvousWorks(network.name, 0.01))
    assert peers.follow(None) == [UseRendezvous("wifi")]
    peers.handle(RendezvousBlocked("wifi", "why"))
    peers.handle(RendezvousBlocked("cell", "why"))
    assert peers.follow(None) == []
    assert peers.handle(NetworkDown("wifi", "pulled")) == [CloseRendezvous("wifi")]
    assert peers.follow(None) == [UseRendezvous("cell")]


def test_an_address_that_changes_is_another_socket_and_is_used_again() -> None:
    peers = paths()
    peers.handle(NetworkUp(WIFI))
    peers.follow(None)
    other = Network("wifi", "wlan0", "192.168.7.2")
    assert peers.handle(NetworkUp(other)) == [OpenRendezvous("wifi", "wlan0", Endpoint("192.168.7.2", 0))]
    assert peers.follow(None) == [UseRendezvous("wifi")]


def test_a_network_that_peers_could_not_be_moved_to_is_tried_when_the_one_that_serves_fails() -> None:
    peers = paths()
    peers.handle(NetworkUp(CELL))
    peers.handle(RendezvousWorks("cell", 0.01))
    peers.follow(None)
    peers.moved(RendezvousMoved("cell", None, 0.02, False))
    peers.handle(NetworkUp(WIFI))
    peers.handle(RendezvousWorks("wifi", 0.01))
    assert peers.follow(None) == [UseRendezvous("wifi")]
    peers.stayed(RendezvousStayed("wifi"))
    assert peers.follow(None) == [], "not again and again"
    peers.handle(RendezvousSilent("cell", 0.4))
    assert peers.follow(None) == [UseRendezvous("wifi")]
    peers.moved(RendezvousMoved("wifi", "cell", 0.1, False))
    peers.handle(RendezvousWorks("cell", 0.01, again=True))
    assert peers.follow(None) == [], "it works now, and is the better one"
