"""Captive portals: when a network is asked, and what follows."""

from sojourn.control.portal_answer import Finding, Verdict
from sojourn.control.portals import (
    CAPTIVE_EVERY,
    PATIENCE,
    TROUBLE_EVERY,
    PathCaptive,
    PathReleased,
    PortalProbed,
    Portals,
    ProbePortal,
    ProbeWanted,
)
from sojourn.model import Network
from sojourn.upmt.events_network import Description, NetworkChanged, NetworkDescribed, NetworkDown, NetworkUp

WIFI = Network("wlan0", "wlan0", "192.0.2.5", "192.0.2.1", "wifi")
LOGIN = "http://login.example/"
OPEN, UNKNOWN = Finding(Verdict.OPEN), Finding(Verdict.UNKNOWN)
CLOSED = Finding(Verdict.CAPTIVE, LOGIN)
ASK = [ProbePortal(WIFI)]


def connected(finding: Finding | None = None, *, enabled: bool = True) -> Portals:
    portals = Portals(enabled=enabled)
    assert portals.handle(NetworkUp(WIFI), 0.0) == (ASK if enabled else [])
    if finding is not None:
        portals.handle(PortalProbed(WIFI, finding), 1.0)
    return portals


def described(connectivity: str | None) -> NetworkDescribed:
    return NetworkDescribed("wlan0", Description(connectivity=connectivity))  # type: ignore[arg-type]


def test_a_new_network_is_asked_at_once_and_an_open_one_never_again() -> None:
    portals = connected()
    assert portals.handle(PortalProbed(WIFI, OPEN), 0.2) == []
    assert portals.deadline() is None
    assert not portals.is_captive("wlan0")


def test_a_captive_network_is_told_once_and_asked_again_and_again_until_it_is_open() -> None:
    portals = connected()
    assert portals.handle(PortalProbed(WIFI, CLOSED), 1.0) == [PathCaptive("wlan0", LOGIN)]
    assert portals.is_captive("wlan0")
    assert portals.portal("wlan0") == LOGIN
    assert portals.deadline() == 1.0 + CAPTIVE_EVERY
    assert portals.tick(1.0 + CAPTIVE_EVERY) == ASK
    assert portals.handle(PortalProbed(WIFI, CLOSED), 12.0) == []
    assert portals.tick(12.0 + CAPTIVE_EVERY) == ASK
    assert portals.handle(PortalProbed(WIFI, OPEN), 23.0) == [PathReleased(WIFI)]
    assert (portals.is_captive("wlan0"), portals.portal("wlan0"), portals.deadline()) == (False, None, None)


def test_whoever_has_just_logged_in_may_have_it_asked_at_once() -> None:
    portals = connected(CLOSED)
    assert portals.handle(ProbeWanted("wlan0"), 3.0) == ASK
    assert portals.handle(ProbeWanted("nowhere"), 3.0) == []


def test_a_portal_that_does_not_answer_for_a_while_stays_closed() -> None:
    portals = connected(CLOSED)
    portals.tick(11.0)
    assert portals.handle(PortalProbed(WIFI, UNKNOWN), 12.0) == []
    assert portals.is_captive("wlan0")
    assert portals.deadline() == 12.0 + CAPTIVE_EVERY


def test_without_a_verdict_it_is_asked_more_and_more_rarely_until_the_tunnel_works() -> None:
    portals = connected()
    waits = []
    now = 0.0
    for _ in range(6):
        portals.handle(PortalProbed(WIFI, UNKNOWN), now)
        deadline = portals.deadline()
        assert deadline is not None
        waits.append(deadline - now)
        now = deadline
        assert portals.tick(now) == ASK
    assert waits == [2.0, 5.0, 15.0, 30.0, 30.0, 30.0]
    portals.handle(PortalProbed(WIFI, UNKNOWN), now)
    portals.works("wlan0")
    assert portals.deadline() is None


def test_a_probe_that_never_ends_is_repeated() -> None:
    assert connected().deadline() == PATIENCE


def test_a_tunnel_in_trouble_has_its_network_asked_but_not_all_the_time() -> None:
    portals = connected(OPEN)
    assert portals.trouble("wlan0", 2.0) == []
    assert portals.deadline() == 1.0 + TROUBLE_EVERY
    assert portals.tick(1.0 + TROUBLE_EVERY) == ASK
    portals.handle(PortalProbed(WIFI, OPEN), 32.0)
    assert portals.trouble("wlan0", 100.0) == ASK
    assert portals.trouble("nowhere", 100.0) == []


def test_another_address_is_another_network_and_an_old_answer_is_not_about_it() -> None:
    portals = connected()
    moved = Network("wlan0", "wlan0", "198.51.100.5", "198.51.100.1", "wifi")
    assert portals.handle(NetworkChanged(moved, "address changed"), 1.0) == [ProbePortal(moved)]
    assert portals.handle(PortalProbed(WIFI, CLOSED), 2.0) == []
    assert portals.handle(PortalProbed(moved, CLOSED), 2.0) == [PathCaptive("wlan0", LOGIN)]


def test_a_network_that_is_gone_is_forgotten() -> None:
    portals = connected(CLOSED)
    assert portals.handle(NetworkDown("wlan0", "no carrier"), 2.0) == []
    assert portals.handle(PortalProbed(WIFI, CLOSED), 2.5) == []
    assert not portals.is_captive("wlan0")
    assert portals.deadline() is None


def test_network_managers_suspicion_is_followed_up_and_believed_where_the_probe_finds_nothing() -> None:
    portals = connected(OPEN)
    assert portals.handle(described("portal"), 5.0) == ASK
    assert portals.handle(described("portal"), 5.1) == []
    assert portals.handle(PortalProbed(WIFI, UNKNOWN), 6.0) == [PathCaptive("wlan0", None)]
    assert portals.handle(described("full"), 8.0) == ASK
    assert portals.handle(PortalProbed(WIFI, OPEN), 8.5) == [PathReleased(WIFI)]


def test_where_probes_are_turned_off_network_managers_word_is_all_there_is() -> None:
    portals = connected(enabled=False)
    assert portals.deadline() is None
    assert portals.handle(described("portal"), 1.0) == [PathCaptive("wlan0", None)]
    assert portals.handle(described("limited"), 2.0) == []
    assert portals.handle(described("full"), 3.0) == [PathReleased(WIFI)]
    assert portals.handle(described(None), 4.0) == []
    assert portals.trouble("wlan0", 5.0) == []


def test_where_probes_are_turned_off_its_word_may_also_come_before_the_network() -> None:
    portals = Portals(enabled=False)
    assert portals.handle(described("portal"), 1.0) == []
    assert portals.handle(NetworkUp(WIFI), 2.0) == [PathCaptive("wlan0", None)]
