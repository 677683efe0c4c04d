"""The mobile host's execution entity: channel and association, by lists of commands."""

import pytest

from sojourn.model import Endpoint
from sojourn.sip import message
from sojourn.upmt.association import (
    ChannelClosed,
    CredentialIssued,
    Leave,
    Left,
    RefreshWanted,
    SendSip,
    SipReceived,
)
from sojourn.upmt.commands import (
    AddAssociation,
    CloseTunnel,
    Everything,
    InstallSecret,
    Move,
    MoveFlows,
    OpenTunnel,
    SetDefault,
)
from sojourn.upmt.events_network import NetworkDown, NetworkUp
from sojourn.upmt.host_events import (
    CloseChannel,
    HostState,
    LeaseGranted,
    Notice,
    PathGone,
    PathOpened,
    Remember,
)
from sojourn.upmt.mobile_host import ME
from tests.harness.one_host import PHONE, WIFI, Host, everything, kinds, opened, opening
from tests.harness.registering import TUNNELS_AT


def test_a_first_network_gets_a_slot_and_the_sip_channel() -> None:
    host = Host()
    remember, open_channel = host.tell(NetworkUp(WIFI))
    assert remember == Remember(HostState(1000, None, {"wifi": 0}))
    assert open_channel == opening(1, WIFI)
    (send,) = host.tell(opened(1))
    assert isinstance(send, SendSip)
    assert message.parse(send.data).header("CSeq") == "1 REGISTER"


def test_the_anchors_answer_brings_all_that_the_data_path_needs_in_its_order() -> None:
    host = Host()
    commands = host.associate(WIFI, PHONE)
    lease = host.machine.lease
    assert lease is not None
    assert lease.secret is not None
    issued, *rest = commands
    assert isinstance(issued, CredentialIssued)
    assert rest == [
        LeaseGranted(lease, True),
        Remember(HostState(1000, "10.201.0.2", {"wifi": 0, "phone": 1})),
        AddAssociation(ME, "10.201.0.2", None, lease.tunnels),
        InstallSecret(ME, lease.secret),
        SetDefault(ME, None),
        OpenTunnel(ME, lease.tunnels[0], "wlan0", Endpoint("10.0.2.2", 4500), TUNNELS_AT, True, 25.0),
        PathOpened(WIFI),
        OpenTunnel(ME, lease.tunnels[1], "wwan0", Endpoint("10.0.3.2", 0), TUNNELS_AT, True, 25.0),
        PathOpened(PHONE),
    ]


def test_a_refresh_changes_the_secret_and_nothing_else() -> None:
    host = Host()
    host.associate(WIFI)
    deadline = host.machine.deadline() or 0.0
    assert deadline == pytest.approx(400.0)
    commands = host.answered(host.machine.tick(deadline), deadline)
    lease = host.machine.lease
    assert lease is not None
    assert lease.secret is not None
    assert lease.secret.generation == 2
    assert kinds(commands) == ["LeaseGranted", "Remember", "AddAssociation", "InstallSecret"]
    assert commands[0] == LeaseGranted(lease, False)


def test_the_memory_of_before_is_used() -> None:
    host = Host(state=HostState(5000, None, {"phone": 7}))
    (open_channel,) = host.tell(NetworkUp(PHONE))
    assert open_channel == opening(1, PHONE)
    host.answered(host.tell(opened(1)))
    remember, _, move = host.tell(everything("phone"))
    assert move == MoveFlows(ME, 5001, (Move(Everything(), host.tunnel(7)),))
    assert isinstance(remember, Remember)
    assert remember.state.move == 6000


def test_a_refusal_for_good_is_said_once_and_ends_all_attempts() -> None:
    host = Host(secret="wrong")
    (notice,) = host.associate(WIFI)
    assert isinstance(notice, Notice)
    assert notice.kind == "refused"
    assert "join again" in notice.text
    assert host.machine.refused
    assert host.tell(ChannelClosed(1, "the anchor closed it"), 30.0) == []
    assert kinds(host.tell(NetworkUp(PHONE), 31.0)) == ["Remember"]
    assert host.machine.deadline() is None


def test_an_anchor_that_cannot_be_reached_is_said_once_and_tried_on_every_network() -> None:
    host = Host()
    host.tell(NetworkUp(WIFI))
    host.tell(NetworkUp(PHONE))
    why = "203.0.113.1:5061 refuses connections"
    commands = host.tell(ChannelClosed(1, why), 0.1)
    assert opening(2, PHONE) in commands
    commands += host.tell(ChannelClosed(2, why), 0.2)
    assert [command for command in commands if isinstance(command, Notice)] == [Notice("unreachable", why)]
    assert host.machine.problem == why
    assert host.machine.deadline() == pytest.approx(1.1)
    assert host.machine.tick(1.1) == [opening(3, WIFI)]


def test_the_channel_moves_with_its_network_and_is_registered_on() -> None:
    host = Host()
    host.associate(WIFI, PHONE)
    commands = host.tell(NetworkDown("wifi", "no carrier"), 5.0)
    assert commands == [
        PathGone("wifi", "no carrier"), CloseChannel(1), CloseTunnel(host.tunnel(0)), opening(2, PHONE),
    ]  # fmt: skip
    assert host.tell(ChannelClosed(1, "closed here"), 5.1) == [], "no news"
    (send,) = host.tell(opened(2), 5.2)
    assert isinstance(send, SendSip)
    assert send.channel == 2
    assert "LeaseGranted" in kinds(host.answered([send], 5.3))


def test_a_channel_that_was_left_is_forgotten_once_it_is_closed() -> None:
    host = Host()
    host.associate(WIFI, PHONE)
    for turn in range(20):
        leaving, coming = (WIFI, PHONE) if turn % 2 == 0 else (PHONE, WIFI)
        channel = host.machine.channels.channel
        host.tell(NetworkDown(leaving.name, "x"), float(turn))
        host.tell(ChannelClosed(channel or 0, "closed here"), float(turn))
        host.answered(host.tell(opened(host.machine.channels.channel or 0), float(turn)), float(turn))
        host.tell(NetworkUp(leaving), float(turn))
        assert host.machine.channels.network == coming.name
    assert len(host.machine.association._channels) == 1


def test_bytes_that_are_no_sip_end_the_channel() -> None:
    host = Host()
    host.associate(WIFI, PHONE)
    notice, close, *rest = host.tell(SipReceived(1, b"HTTP/1.1 400 Bad Request\r\n\r\n"), 5.0)
    assert isinstance(notice, Notice)
    assert close == CloseChannel(1)
    assert opening(2, PHONE) in rest


def test_wishes_for_a_refresh_do_not_disturb_a_channel_that_is_being_opened() -> None:
    host = Host()
    host.tell(NetworkUp(WIFI))
    assert CloseChannel(1) not in host.tell(RefreshWanted(), 0.1)
    assert host.machine.channels.channel == 1


def test_leaving_says_goodbye_and_ends() -> None:
    host = Host()
    host.associate(WIFI)
    (send,) = host.tell(Leave(), 5.0)
    assert host.answered([send], 5.0) == [Left()]
