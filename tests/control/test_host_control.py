"""Execution and decision as one machine: facts are decided on, carried out and logged in one turn."""

import pytest
from msgspec.structs import replace

from sojourn.control.decide import GRACE, Decide, Preferences
from sojourn.control.host_control import ControlCommand, Entry, HostControl
from sojourn.control.policies import PoliciesChanged
from sojourn.control.questions import AnswerGiven
from sojourn.model import TunnelId
from sojourn.packet import ip
from sojourn.policy.match import parse
from sojourn.policy.rules import DEFAULT, Otherwise, Policy, Require, Subject
from sojourn.sip import message
from sojourn.upmt import events, signals
from sojourn.upmt.association import ChannelClosed
from sojourn.upmt.commands import (
    CloseTunnel,
    Everything,
    Exactly,
    Labelled,
    Matching,
    Move,
    MoveFlows,
    OpenTunnel,
    SendInner,
)
from sojourn.upmt.events_network import NetworkChanged, NetworkDown, NetworkUp
from sojourn.upmt.host_events import CloseChannel, HandoverWanted
from sojourn.upmt.mobile_host import ME, REOPEN_AFTER
from tests.harness.one_host import FLOW, PHONE, WIFI, Host, opened, opening


class Control:
    """The machine, before its association."""

    def __init__(self) -> None:
        self.host = Host()
        self.machine = HostControl(self.host.machine, Decide(Preferences(("wifi", "cellular"))))
        self.host.tell = self.tell  # type: ignore[method-assign, assignment]

    def tell(self, event: object, now: float = 0.0) -> list[ControlCommand]:
        """Hand in an event."""
        return self.machine.handle(event, now)  # type: ignore[arg-type]

    def associate(self) -> list[ControlCommand]:
        """Let the channel open, and return what the anchor's answer brings."""
        return list(self.host.answered(self.tell(opened(1))))  # type: ignore[arg-type]

    def tested(self, slot: int, now: float) -> list[ControlCommand]:
        """Let the anchor answer in a tunnel."""
        return self.tell(events.TunnelTested(self.host.tunnel(slot), None, 0.02), now)

    def confirm(self, commands: list[ControlCommand], now: float, **counts: int) -> list[ControlCommand]:
        """Let the anchor answer the signal among some commands."""
        (send,) = [command for command in commands if isinstance(command, SendInner)]
        source, destination, payload = ip.udp_parts(send.packet)
        request = message.parse(payload)
        assert isinstance(request, message.Request)
        (asked,) = signals.decode(request.body)
        assert isinstance(asked, signals.HandoverRequest)
        body = signals.encode([signals.HandoverResponse(asked.move, (signals.RowResult(None, counts),))])
        answer = ip.udp_packet(destination, source, bytes(message.response(request, 200, body=body)))
        return self.tell(events.InnerReceived(ME, send.tunnel, answer), now)


def on_both() -> Control:
    """Return a machine whose networks both work since long, its flows on Wi-Fi."""
    control = Control()
    control.tell(NetworkUp(WIFI))
    control.tell(NetworkUp(PHONE))
    commands = control.associate()
    control.tested(0, 0.1)
    control.tested(1, 0.1)
    control.confirm(commands, 0.2, moved=0)
    control.machine.tick(30.0)
    return control


def everything(number: int, tunnel: TunnelId) -> MoveFlows:
    return MoveFlows(ME, number, (Move(Everything(), tunnel),))


def test_a_first_network_brings_tunnel_handover_and_log_in_one_turn() -> None:
    control = Control()
    control.tell(NetworkUp(WIFI))
    commands = control.associate()
    open_tunnel, network, handover, _remember, send, move = commands[-6:]
    assert isinstance(open_tunnel, OpenTunnel)
    assert network == Entry("network", "wifi", "wlan0 has 10.0.2.2")
    assert handover == Entry("handover", "wifi", "a network is there", {"from": None})
    assert isinstance(send, SendInner)
    assert move == everything(1, control.host.tunnel(0))
    assert control.tested(0, 0.1) == [Entry("works", "wifi", "the anchor answers", {"rtt_ms": 20.0})]
    assert control.confirm(commands, 0.25, moved=3) == [
        Entry("confirmed", "wifi", "move 1", {"seconds": 0.25, "moved": 3})
    ]


def test_a_silent_network_is_left_in_the_turn_that_tells_of_it() -> None:
    control = on_both()
    silent, handover, send, move, close, open_channel = control.tell(
        events.TunnelSilent(control.host.tunnel(0), 0.2504), 40.0
    )
    assert silent == Entry("silent", "wifi", "no answer for 250 ms")
    assert handover == Entry("handover", "phone", "wifi: no answer for 250 ms", {"from": "wifi"})
    assert isinstance(send, SendInner)
    assert send.tunnel == control.host.tunnel(1)
    assert move == everything(2, control.host.tunnel(1))
    assert (close, open_channel) == (CloseChannel(1), opening(2, PHONE))


def test_a_network_that_went_has_given_its_flows_away_before_its_tunnel_is_closed() -> None:
    control = on_both()
    commands = control.tell(NetworkDown("wifi", "no carrier"), 40.0)
    assert commands[0] == Entry("gone", "wifi", "no carrier")
    assert commands[1] == Entry("handover", "phone", "wifi: no carrier", {"from": None})
    moved = commands.index(everything(2, control.host.tunnel(1)))
    assert moved < commands.index(CloseTunnel(control.host.tunnel(0)))


@pytest.mark.parametrize(
    ("event", "entry"),
    [
        (lambda t: events.TunnelBlocked(t, "UDP is blocked"), Entry("blocked", "phone", "UDP is blocked")),
        (lambda t: events.TunnelFailed(t, "no route"), Entry("failed", "phone", "no route")),
        (events.TunnelRecovered, Entry("recovered", "phone", "answers again")),
    ],
)
def test_facts_about_a_network_without_flows_are_logged_and_no_more(event: object, entry: Entry) -> None:
    control = on_both()
    assert control.tell(event(control.host.tunnel(1)), 40.0) == [entry]  # type: ignore[operator]


def test_the_users_order_is_logged_with_who_gave_it() -> None:
    control = on_both()
    handover, send, move = control.tell(HandoverWanted("phone", (FLOW,), reason="by the window"), 40.0)
    assert handover == Entry("handover", "phone", "ordered by the window", {"from": "wifi"})
    assert isinstance(send, SendInner)
    assert move == MoveFlows(ME, 2, (Move(Exactly((FLOW,)), control.host.tunnel(1)),))
    handover, move = control.tell(HandoverWanted("phone", match=parse("-p tcp")), 40.0)
    assert move == MoveFlows(ME, 3, (Move(Matching(parse("-p tcp")), control.host.tunnel(1)),))


def test_a_flow_that_ended_is_forgotten_and_nobody_hears_of_it() -> None:
    control = on_both()
    control.tell(HandoverWanted("phone", (FLOW,)), 40.0)
    assert control.tell(events.FlowEnded(ME, FLOW), 41.0) == []
    assert control.machine.decide.pinned == {}


def test_notices_become_lines_of_the_log() -> None:
    control = Control()
    control.tell(NetworkUp(WIFI))
    entry, *_ = control.tell(ChannelClosed(1, "refused"), 0.1)
    assert entry == Entry("unreachable", None, "refused")


def test_the_deadline_is_the_earlier_of_both() -> None:
    control = on_both()
    assert control.machine.deadline() == control.machine.host.deadline()
    control.tell(NetworkChanged(WIFI, "gateway changed"), 40.0)
    assert control.machine.deadline() == 40.0 + GRACE
    commands = control.machine.tick(40.0 + GRACE)
    assert everything(2, control.host.tunnel(1)) in commands
    control.confirm(commands, 40.6)
    control.tell(events.TunnelFailed(control.host.tunnel(0), "no route"), 41.0)
    assert control.machine.deadline() == 41.0 + REOPEN_AFTER
    assert any(isinstance(command, OpenTunnel) for command in control.machine.tick(41.0 + REOPEN_AFTER))


def test_other_policies_move_flows_in_the_turn_that_brings_them() -> None:
    control = on_both()
    commands = control.tell(PoliciesChanged((Policy(DEFAULT, networks=("cellular", "*")),)), 31.0)
    moves = [command for command in commands if isinstance(command, MoveFlows)]
    assert moves == [everything(2, control.host.tunnel(1))]
    assert control.machine.decide.active == "phone"


def test_an_answer_moves_the_flows_that_waited_for_it() -> None:
    control = on_both()
    asking = Policy(DEFAULT, require=Require(cost=("nothing",)), otherwise=Otherwise.ASK)
    control.tell(PoliciesChanged((asking,)), 31.0)
    assert control.machine.decide.questions.open == []
    control.tell(events.FlowSeen(ME, FLOW, None), 31.5)
    (question,) = control.machine.decide.questions.open
    assert control.machine.decide.active is None
    control.tell(AnswerGiven(question.id, "phone"), 32.0)
    assert control.machine.decide.active == "phone"


def test_a_name_that_became_known_moves_the_flows_to_it_and_no_others() -> None:
    control = on_both()
    decide = control.machine.decide
    decide.flows.seen(FLOW, "wifi")
    other = replace(FLOW, remote=replace(FLOW.remote, address="203.0.113.99"))
    decide.flows.seen(other, "wifi")
    named = Policy("org", Subject(names=("*.example.org",)), ("cellular",))
    rest = Policy(DEFAULT, networks=("wifi", "*"))
    control.tell(PoliciesChanged((named, rest)), 31.0)
    known = replace(named, subject=Subject(names=named.subject.names, destinations=(f"{FLOW.remote.address}/32",)))
    commands = control.tell(PoliciesChanged((known, rest), names_only=True), 32.0)
    (order,) = [command for command in commands if isinstance(command, MoveFlows)]
    assert order.moves == (Move(Labelled("org"), control.host.tunnel(1)),)
    assert decide.flows.count("org") == 1
    assert control.tell(PoliciesChanged((known, rest), names_only=True), 33.0) == []
    assert decide.flows.remotes() == {FLOW.remote.address, "203.0.113.99"}
