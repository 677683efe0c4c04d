"""The mobile host's execution entity: networks, tunnels and handovers, by lists of commands."""

import pytest
from msgspec.structs import replace

from sojourn.model import Endpoint, TunnelId
from sojourn.packet import ip
from sojourn.sip import message
from sojourn.upmt import events, signals
from sojourn.upmt.association import (
    SendSip,
)
from sojourn.upmt.commands import (
    Everything,
    Exactly,
    Move,
    MoveFlows,
    OpenTunnel,
    Resumed,
    SendInner,
)
from sojourn.upmt.events_network import NetworkChanged, NetworkDown, NetworkUp
from sojourn.upmt.host_events import (
    CloseChannel,
    FlowGone,
    Handover,
    HandoverDone,
    HostState,
    LeaseGranted,
    PathBlocked,
    PathFailed,
    PathOpened,
    PathRecovered,
    PathSilent,
    PathTested,
    PlanRow,
    Remember,
)
from sojourn.upmt.lease import Lease
from sojourn.upmt.mobile_host import HEAL_EVERY, ME, REOPEN_AFTER
from tests.harness.one_host import FLOW, PHONE, SIX, WIFI, Host, everything, kinds, let_work, opened, opening
from tests.harness.registering import TUNNELS_AT

# Networks and tunnels.


def test_a_network_that_comes_later_gets_a_tunnel_in_its_own_slot() -> None:
    host = Host()
    host.associate(WIFI)
    remember, open_tunnel, path = host.tell(NetworkUp(PHONE), 5.0)
    assert isinstance(remember, Remember)
    assert remember.state.slots == {"wifi": 0, "phone": 1}
    assert isinstance(open_tunnel, OpenTunnel)
    assert open_tunnel.tunnel == host.tunnel(1)
    assert path == PathOpened(PHONE)


def test_a_new_address_moves_the_tunnel_and_the_channel() -> None:
    host = Host()
    host.associate(WIFI)
    elsewhere = replace(WIFI, address="10.9.9.9")
    close, open_tunnel, path, open_channel = host.tell(NetworkChanged(elsewhere, "address changed"), 5.0)
    assert close == CloseChannel(1)
    assert isinstance(open_tunnel, OpenTunnel)
    assert open_tunnel.local == Endpoint("10.9.9.9", 4500)
    assert (path, open_channel) == (PathOpened(elsewhere), opening(2, elsewhere))


def test_a_network_of_a_family_that_the_anchor_lacks_is_blocked_with_the_reason() -> None:
    host = Host()
    commands = host.associate(SIX)
    assert commands[-2:] == [PathOpened(SIX), PathBlocked("six", "the anchor has no IPv6 address")]
    host = Host(plan=[TUNNELS_AT, Endpoint("2001:db8::1", 1800)])
    open_tunnel = host.associate(SIX)[-2]
    assert isinstance(open_tunnel, OpenTunnel)
    assert open_tunnel.remote == Endpoint("2001:db8::1", 1800)


def test_an_anchor_that_lends_no_tunnels_blocks_networks_and_breaks_nothing() -> None:
    host = Host()
    host.associate(WIFI)
    lease = host.machine.lease
    assert lease is not None
    host.machine._associated(replace(lease, tunnels=(), inner_addresses=()), 5.0)
    assert host.machine.networks["wifi"].state == "blocked"
    assert kinds(host.tell(everything("wifi"), 6.0)) == ["Remember", "MoveFlows"]


def test_another_lease_opens_every_path_anew() -> None:
    host = Host()
    host.associate(WIFI)
    lease = host.machine.lease
    assert isinstance(lease, Lease)
    other = replace(lease, vipa="10.201.0.9")
    commands = host.machine._associated(other, 5.0)
    assert commands[0] == LeaseGranted(other, True)
    assert kinds(commands[-4:]) == ["SetDefault", "PathGone", "OpenTunnel", "PathOpened"]


@pytest.mark.parametrize(
    ("event", "fact", "state"),
    [
        (lambda t: events.TunnelTested(t, None, 0.02), PathTested("wifi", 0.02), "works"),
        (events.TunnelRecovered, PathRecovered("wifi"), "works"),
        (lambda t: events.TunnelSilent(t, 0.25), PathSilent("wifi", 0.25), "silent"),
        (lambda t: events.TunnelBlocked(t, "UDP"), PathBlocked("wifi", "UDP"), "blocked"),
        (events.TunnelClosed, PathBlocked("wifi", "the anchor has closed the tunnel"), "blocked"),
        (lambda t: events.TunnelFailed(t, "no route"), PathFailed("wifi", "no route"), "failed"),
    ],
)
def test_what_happens_to_a_tunnel_is_a_fact_about_its_network(event: object, fact: object, state: str) -> None:
    host = Host()
    host.associate(WIFI, PHONE)
    let_work(host, 1)
    assert host.tell(event(host.tunnel(0)), 5.0)[0] == fact  # type: ignore[operator]
    assert host.machine.networks["wifi"].state == state
    assert host.tell(event(TunnelId(0xFFFFFF)), 5.0) == [], "a tunnel that is nobody's"  # type: ignore[operator]


def test_the_channel_leaves_a_network_whose_tunnel_fails_if_another_one_works() -> None:
    host = Host()
    host.associate(WIFI, PHONE)
    let_work(host, 0, 1)
    commands = host.tell(events.TunnelSilent(host.tunnel(0), 0.25), 5.0)
    assert commands == [PathSilent("wifi", 0.25), CloseChannel(1), opening(2, PHONE)]


def test_with_no_tunnel_working_a_new_secret_is_asked_for_now_and_then() -> None:
    """The anchor may have lost the old one."""
    host = Host()
    host.associate(WIFI)
    fact, send = host.tell(events.TunnelSilent(host.tunnel(0), 0.25), 5.0)
    assert fact == PathSilent("wifi", 0.25)
    host.answered([send], 5.0)
    assert kinds(host.tell(events.TunnelSilent(host.tunnel(0), 0.25), 8.0)) == ["PathSilent"]
    assert kinds(host.tell(events.TunnelSilent(host.tunnel(0), 0.25), 5.0 + HEAL_EVERY)) == ["PathSilent", "SendSip"]


def test_a_tunnel_that_the_system_refused_is_opened_again_after_a_second() -> None:
    host = Host()
    host.associate(WIFI)
    host.tell(events.TunnelFailed(host.tunnel(0), "Network is unreachable"), 5.0)
    assert host.machine.deadline() == 5.0 + REOPEN_AFTER
    assert kinds(host.machine.tick(5.0 + REOPEN_AFTER))[:2] == ["OpenTunnel", "PathOpened"]


def test_a_need_of_keys_registers_again() -> None:
    host = Host()
    host.associate(WIFI)
    assert kinds(host.tell(events.SecretNeeded(ME), 5.0)) == ["SendSip"]


def test_after_sleep_tunnels_are_tested_and_the_channel_is_opened_anew() -> None:
    host = Host()
    host.associate(WIFI)
    assert host.tell(Resumed(600.0), 700.0) == [Resumed(600.0), CloseChannel(1), opening(2, WIFI)]


# Handovers.


def test_a_handover_is_stored_signalled_and_carried_out_in_one_turn() -> None:
    """The signal before our own rows: when these are thousands it need not wait for them."""
    host = Host()
    host.associate(WIFI, PHONE)
    plan = (PlanRow(Everything(), "wifi"), PlanRow(Exactly((FLOW,)), "phone"))
    remember, send, move = host.tell(Handover(plan, "a reason"), 5.0)
    assert move == MoveFlows(ME, 1, (Move(Everything(), host.tunnel(0)), Move(Exactly((FLOW,)), host.tunnel(1))))
    assert remember == Remember(HostState(1000, "10.201.0.2", {"wifi": 0, "phone": 1}))
    assert isinstance(send, SendInner)
    assert send.tunnel == host.tunnel(0)


def test_the_anchors_answer_in_the_tunnel_confirms_a_handover() -> None:
    host = Host()
    host.associate(WIFI)
    send = host.tell(everything("wifi"), 5.0)[1]
    assert isinstance(send, SendInner)
    source, destination, payload = ip.udp_parts(send.packet)
    request = message.parse(payload)
    assert isinstance(request, message.Request)
    body = signals.encode([signals.HandoverResponse(1, (signals.RowResult(None, {"moved": 3}),))])
    answer = ip.udp_packet(destination, source, bytes(message.response(request, 200, body=body)))
    done = host.tell(events.InnerReceived(ME, host.tunnel(0), answer), 5.5)
    assert done == [HandoverDone(1, "wifi", 0.5, {"moved": 3})]


def test_what_is_no_answer_in_a_tunnel_is_ignored() -> None:
    host = Host()
    host.associate(WIFI)
    for packet in (b"", b"\x45", ip.udp_packet(Endpoint("10.201.0.1", 5060), Endpoint("10.201.0.2", 5060), b"hello")):
        assert host.tell(events.InnerReceived(ME, host.tunnel(0), packet), 5.0) == []


def test_a_list_too_long_for_a_datagram_waits_until_its_connection_is_registered() -> None:
    host = Host()
    host.associate(WIFI, PHONE)
    host.tell(NetworkDown("wifi", "no carrier"), 5.0)
    many = Exactly(tuple(replace(FLOW, local=Endpoint("10.201.0.2", port)) for port in range(10000, 10100)))
    commands = host.tell(Handover((PlanRow(many, "phone"),), "a reason"), 5.1)
    assert kinds(commands) == ["Remember", "MoveFlows"]
    (register,) = host.tell(opened(2), 5.2)
    assert isinstance(register, SendSip)
    assert b"REGISTER" in register.data
    commands = host.answered([register], 5.3)
    (large,) = [command for command in commands if isinstance(command, SendSip)]
    assert (large.channel, b"HandoverRequest" in large.data) == (2, True)


def test_without_a_lease_there_is_nothing_to_hand_over() -> None:
    host = Host()
    host.tell(NetworkUp(WIFI))
    assert host.tell(everything("wifi"), 1.0) == []


def test_a_flow_that_ended_is_told_to_the_decision() -> None:
    assert Host().tell(events.FlowEnded(ME, FLOW)) == [FlowGone(FLOW)]
