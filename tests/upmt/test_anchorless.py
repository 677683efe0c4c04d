"""A host with peers and no anchor: its networks are paths to the decision all the same."""

from sojourn.model import Network
from sojourn.upmt.anchorless import AnchorlessHost
from sojourn.upmt.events_network import NetworkDown, NetworkUp
from sojourn.upmt.host_events import HostState, PathBlocked, PathGone, PathOpened, PathRecovered, PathSilent, PathTested
from sojourn.upmt.peer_events import RendezvousBlocked, RendezvousSilent, RendezvousWorks

WIFI = Network("wifi", "wlan0", "192.168.1.2")


def test_what_rendezvous_nodes_answer_is_what_the_decision_hears() -> None:
    host = AnchorlessHost(HostState(), bytes)
    assert host.handle(NetworkUp(WIFI), 1.0) == [PathOpened(WIFI)]
    assert host.networks["wifi"].state == "testing"
    assert host.handle(RendezvousWorks("wifi", 0.02), 1.1) == [PathTested("wifi", 0.02, "a rendezvous node")]
    assert host.handle(NetworkUp(WIFI), 1.2) == [], "the same address again is no new path"
    assert host.networks["wifi"].state == "works"
    assert host.handle(RendezvousSilent("wifi", 0.4), 2.0) == [PathSilent("wifi", 0.4)]
    assert host.handle(RendezvousWorks("wifi", 0.02, again=True), 3.0) == [PathRecovered("wifi")]
    assert host.handle(RendezvousBlocked("wifi", "why"), 4.0) == [PathBlocked("wifi", "why")]
    assert host.handle(NetworkDown("wifi", "pulled"), 5.0) == [PathGone("wifi", "pulled")]
    assert host.handle(RendezvousWorks("wifi", 0.02), 6.0) == []


def test_nothing_is_ever_asked_of_an_anchor() -> None:
    host = AnchorlessHost(HostState(), bytes)
    host.handle(NetworkUp(WIFI), 1.0)
    assert host.deadline() is None
    assert host.tick(100.0) == []
    assert host.lease is None
