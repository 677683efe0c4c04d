"""Captive networks in the host's control: nothing is put there before the portal is open, then it is used at once."""

from sojourn.control.decide import Decide, PathState, Preferences
from sojourn.control.host_control import ControlCommand, Entry, HostControl
from sojourn.control.portal_answer import Finding, Verdict
from sojourn.control.portals import PortalProbed, Portals, ProbePortal, ProbeWanted
from sojourn.upmt import events
from sojourn.upmt.commands import Everything, Move, MoveFlows, OpenTunnel
from sojourn.upmt.events_network import NetworkDown, NetworkUnderstood, NetworkUp
from tests.harness.one_host import PHONE, WIFI, Host, opened

OPEN = PortalProbed(WIFI, Finding(Verdict.OPEN))
CLOSED = PortalProbed(WIFI, Finding(Verdict.CAPTIVE, "http://login.example/"))
CAPTIVE = Entry(
    "captive", "wifi", "its portal is closed: run `sojourn networks open wifi`", {"portal": "http://login.example/"}
)
OPENED = Entry("open", "wifi", "its portal was opened")


class Control:
    """On cellular since long; Wi-Fi, which is preferred, has just come."""

    def __init__(self) -> None:
        self.host = Host()
        self.machine = HostControl(self.host.machine, Decide(Preferences(("wifi", "cellular"))), Portals())
        self.host.tell = self.tell  # type: ignore[method-assign, assignment]
        self.tell(NetworkUp(PHONE))
        self.tell(PortalProbed(PHONE, Finding(Verdict.OPEN)))
        self.host.answered(self.tell(opened(1)))  # type: ignore[arg-type]
        self.tell(events.TunnelTested(self.host.tunnel(0), None, 0.05), 0.1)
        self.machine.tick(30.0)
        self.came = self.tell(NetworkUp(WIFI), 40.0)

    def tell(self, event: object, now: float = 0.0) -> list[ControlCommand]:
        """Hand in an event."""
        return self.machine.handle(event, now)  # type: ignore[arg-type]

    def wifi_says(self, kind: type, *values: object, now: float) -> list[ControlCommand]:
        """Let the data path tell of Wi-Fi's tunnel."""
        return self.tell(kind(self.host.tunnel(1), *values), now)

    @property
    def state(self) -> PathState:
        """What the decision believes of Wi-Fi."""
        return self.machine.decide.paths["wifi"].state


def moves(commands: list[ControlCommand]) -> list[tuple[Move, ...]]:
    return [command.moves for command in commands if isinstance(command, MoveFlows)]


def test_a_new_network_is_asked_beside_its_test() -> None:
    control = Control()
    assert ProbePortal(WIFI) in control.came
    assert any(isinstance(command, OpenTunnel) for command in control.came)


def test_flows_stay_elsewhere_although_the_portal_lets_the_tunnel_through() -> None:
    control = Control()
    control.wifi_says(events.TunnelTested, None, 0.01, now=40.1)
    assert control.tell(CLOSED, 40.2) == [CAPTIVE]
    assert control.state is PathState.CAPTIVE
    assert moves(control.machine.tick(60.0)) == []
    assert control.machine.decide.active == "phone"


def test_flows_that_had_gone_there_come_back_and_that_is_no_failure_of_the_networks() -> None:
    control = Control()
    control.wifi_says(events.TunnelTested, None, 0.01, now=40.1)
    control.machine.tick(45.0)
    assert control.machine.decide.active == "wifi"
    captive, handover, *rest = control.tell(CLOSED, 46.0)
    assert captive == CAPTIVE
    assert handover == Entry("handover", "phone", "wifi: its portal is closed", {"from": "wifi"})
    assert moves(rest) == [(Move(Everything(), control.host.tunnel(0)),)]
    assert control.machine.decide.paths["wifi"].failures == 0


def test_what_a_captive_networks_tunnel_says_changes_nothing() -> None:
    control = Control()
    control.tell(CLOSED, 40.2)
    said: list[tuple[type, tuple[object, ...]]] = [
        (events.TunnelTested, (None, 0.01)), (events.TunnelSilent, (0.3,)), (events.TunnelRecovered, ()),
        (events.TunnelBlocked, ("UDP",)), (events.TunnelFailed, ("no route",)),
    ]  # fmt: skip
    for kind, values in said:
        assert moves(control.wifi_says(kind, *values, now=41.0)) == []
        assert control.state is PathState.CAPTIVE


def test_once_it_is_open_a_tunnel_that_answers_is_used_after_the_usual_second() -> None:
    control = Control()
    control.tell(CLOSED, 40.2)
    control.wifi_says(events.TunnelTested, None, 0.01, now=40.3)
    assert control.tell(OPEN, 50.0) == [OPENED]
    assert control.state is PathState.WORKS
    assert control.machine.decide.deadline() == 51.0
    assert moves(control.machine.tick(51.0)) == [(Move(Everything(), control.host.tunnel(1)),)]


def test_once_it_is_open_a_tunnel_that_did_not_answer_is_tested_at_once() -> None:
    control = Control()
    control.wifi_says(events.TunnelBlocked, "no answer", now=40.1)
    control.tell(CLOSED, 40.2)
    opened_entry, *rest = control.tell(OPEN, 50.0)
    assert opened_entry == OPENED
    assert any(isinstance(command, OpenTunnel) for command in rest)
    control.wifi_says(events.TunnelTested, None, 0.01, now=50.1)
    assert moves(control.machine.tick(51.2)) == [(Move(Everything(), control.host.tunnel(1)),)]


def test_a_tunnel_that_falls_silent_has_its_network_asked() -> None:
    control = Control()
    control.tell(OPEN, 40.2)
    control.wifi_says(events.TunnelTested, None, 0.01, now=40.3)
    assert ProbePortal(WIFI) in control.wifi_says(events.TunnelSilent, 0.3, now=100.0)
    assert ProbePortal(WIFI) in control.tell(ProbeWanted("wifi"), 200.0)


def test_a_captive_network_that_leaves_is_a_new_one_when_it_comes_back() -> None:
    control = Control()
    control.tell(CLOSED, 40.2)
    control.tell(NetworkDown("wifi", "no carrier"), 41.0)
    assert ProbePortal(WIFI) in control.tell(NetworkUp(WIFI), 42.0)
    assert control.state is PathState.TESTING


def test_what_is_learned_of_a_network_later_may_change_the_choice_and_touches_no_tunnel() -> None:
    control = Control()
    control.tell(OPEN, 40.2)
    cable = NetworkUp(type(WIFI)("dock", "eth1", "10.0.4.2", "10.0.4.1", "other"))
    control.tell(cable, 41.0)
    control.tell(events.TunnelTested(control.host.tunnel(2), None, 0.001), 41.1)
    assert moves(control.machine.tick(50.0)) == []
    known = NetworkUnderstood(type(WIFI)("dock", "eth1", "10.0.4.2", "10.0.4.1", "wifi"))
    commands = control.tell(known, 60.0)
    assert moves(commands) == [(Move(Everything(), control.host.tunnel(2)),)]
    assert not any(isinstance(command, OpenTunnel) for command in commands)
    assert control.tell(NetworkUnderstood(type(WIFI)("gone", "x", "10.0.9.9")), 61.0) == []
