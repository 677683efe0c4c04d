"""The host's association against the anchor's own registrar."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sojourn.errors import LocalProtocolError
from sojourn.model import Endpoint
from sojourn.sip.message import Address, Request, parse, request, response
from sojourn.sip.server import Incoming, SipServer
from sojourn.sip.via import make
from sojourn.upmt import lease as lease_module
from sojourn.upmt.association import (
    Associated,
    AssociationClient,
    AssociationCommand,
    AssociationSettings,
    ChannelClosed,
    ChannelOpened,
    CloseChannel,
    CredentialIssued,
    Leave,
    Left,
    PassedOn,
    RefreshWanted,
    Refused,
    SendSip,
    SipReceived,
    State,
    Unreachable,
)
from tests.upmt.association_pair import LEASE, LOCAL, OTHER, SETTINGS, SOURCE, Anchor, Pair, fixed, registers


def test_the_first_association_turns_the_token_into_an_own_credential() -> None:
    pair = Pair()
    assert pair.open() == [CredentialIssued("own" * 8), Associated(LEASE)]
    assert pair.host.state is State.ASSOCIATED
    first, second = registers(pair.sent)
    assert first.header("Authorization") is None
    assert first.call_id == second.call_id
    assert (first.cseq.sequence, second.cseq.sequence) == (1, 2)
    assert first.via.branch != second.via.branch
    assert first.via.tid == "laptop"
    assert str(first.to) == "<sip:alice@45.0.0.1>"
    assert (first.uri, first.header("Expires")) == ("sip:45.0.0.1", "600")


def test_the_refresh_at_two_thirds_uses_the_own_credential_and_names_the_vipa() -> None:
    pair = Pair()
    pair.open(now=100)
    assert pair.host.deadline() == pytest.approx(500)
    assert pair.carry(pair.host.tick(500), 500) == [Associated(LEASE)]
    last = registers(pair.sent)[-1]
    assert last.header("VIpAddr") == "1.2.3.4"
    assert pair.anchor.accepted[-1].first is False
    assert pair.anchor.accepted[-1].wanted == "1.2.3.4"
    assert pair.anchor.subscriber.one_time is None


def test_a_stale_nonce_costs_one_more_round_and_nothing_else() -> None:
    pair = Pair()
    pair.open()
    before = len(pair.sent)
    assert pair.carry(pair.host.tick(400), 400) == [Associated(LEASE)]
    assert len(pair.sent) - before == 2


def test_from_another_network_the_nonce_is_stale_too() -> None:
    pair = Pair()
    pair.open()
    pair.source = Endpoint("65.0.0.1", 5000)
    pair.host.handle(ChannelOpened(2, OTHER, True), 10)
    assert pair.carry(pair.host.handle(RefreshWanted(), 10), 10) == [Associated(LEASE)]


def test_a_wrong_secret_is_refused_for_good_and_asked_once() -> None:
    pair = Pair(replace(SETTINGS, secret="guess"))
    (refused,) = pair.open()
    assert isinstance(refused, Refused)
    assert (refused.status, refused.why, refused.permanent) == (403, "Unknown user or wrong secret", True)
    assert "token" in (refused.remedy or "")
    assert len(pair.sent) == 2
    assert pair.host.deadline() is None
    assert pair.host.state is State.REFUSED


def test_rejected_credentials_are_not_sent_again_to_an_anchor_that_says_401_again() -> None:
    host = AssociationClient(SETTINGS, fixed())
    challenge = ("WWW-Authenticate", 'Digest realm="r", nonce="n", algorithm=SHA-256, qop="auth"')
    commands = host.handle(ChannelOpened(1, LOCAL, True), 0)
    for _ in range(2):
        (sent,) = commands
        assert isinstance(sent, SendSip)
        asked = parse(sent.data)
        assert isinstance(asked, Request)
        commands = host.handle(SipReceived(1, bytes(response(asked, 401, headers=[challenge]))), 0)
    assert commands == [
        Refused(401, "the anchor does not accept this user and secret", "join again with a fresh token", True)
    ]


def test_a_token_of_another_terminal_is_refused_with_the_remedy() -> None:
    anchor = Anchor()
    Pair(anchor=anchor).open()
    (refused,) = Pair(replace(SETTINGS, tid="phone"), anchor).open()
    assert isinstance(refused, Refused)
    assert refused.why == "This token belongs to another terminal"
    assert refused.remedy == "make a token for this host on the anchor: sojourn anchor token --name NAME"


def test_423_is_followed_by_the_interval_that_the_anchor_wants() -> None:
    pair = Pair(replace(SETTINGS, expires=10))
    assert Associated(replace(LEASE, expires=60.0)) in pair.open()
    assert [read.header("Expires") for read in registers(pair.sent)] == ["10", "10", "60"]


def answered(
    host: AssociationClient, commands: list[AssociationCommand], status: int, now: float, **headers: str
) -> list[AssociationCommand]:
    """Answer the one request in `commands` by a bare status."""
    (sent,) = commands
    assert isinstance(sent, SendSip)
    asked = parse(sent.data)
    assert isinstance(asked, Request)
    fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return host.handle(SipReceived(sent.channel, bytes(response(asked, status, headers=fields))), now)


def test_an_exhausted_pool_is_said_and_tried_again_when_the_anchor_says() -> None:
    host = AssociationClient(SETTINGS, fixed())
    commands = answered(host, host.handle(ChannelOpened(1, LOCAL, True), 0), 503, 5, Retry_After="120")
    assert commands == [Refused(503, "Service Unavailable", None, False)]
    assert host.deadline() == pytest.approx(125)
    assert isinstance(host.tick(125)[0], SendSip)


def test_attempts_back_off_from_one_second_to_sixty() -> None:
    host = AssociationClient(SETTINGS, fixed())
    now, waits = 0.0, []
    commands = host.handle(ChannelOpened(1, LOCAL, True), now)
    for _ in range(9):
        answered(host, commands, 500, now)
        due = host.deadline()
        assert due is not None
        waits.append(due - now)
        now = due
        commands = host.tick(now)
    assert all(0.75 * 2**n <= wait <= 1.25 * 2**n for n, wait in enumerate(waits[:6]))
    assert all(45 <= wait <= 75 for wait in waits[6:])


def test_no_answer_is_unreachable_after_timer_f() -> None:
    host = AssociationClient(SETTINGS, fixed())
    host.handle(ChannelOpened(1, LOCAL, True), 0)
    assert host.deadline() == 32
    (lost,) = host.tick(32)
    assert isinstance(lost, Unreachable)
    assert lost.retry_at == host.deadline()


def test_a_new_channel_does_not_wait_for_the_retry_on_the_old_one() -> None:
    pair = Pair()
    pair.host.handle(ChannelOpened(1, LOCAL, True), 0)
    pair.host.tick(32)
    assert Associated(LEASE) in pair.open(now=32.1, channel=2)
    assert pair.host.deadline() == pytest.approx(432.1)


def test_over_udp_the_request_is_sent_again_and_a_late_copy_of_the_answer_is_passed_over() -> None:
    pair = Pair()
    commands = pair.host.handle(ChannelOpened(1, LOCAL, False), 0)
    assert pair.host.deadline() == 0.5
    assert pair.host.tick(0.5) == commands
    assert Associated(LEASE) in pair.carry(commands, 0.6)
    assert b"SIP/2.0/UDP" in pair.sent[0]


def test_what_is_pending_moves_to_a_new_channel() -> None:
    pair = Pair()
    pair.host.handle(ChannelOpened(1, LOCAL, True), 0)
    assert Associated(LEASE) in pair.open(now=1, channel=2)
    assert pair.host.handle(ChannelClosed(1, "link down"), 2) == []


def test_a_channel_that_closes_under_a_request_is_unreachable_until_another_opens() -> None:
    pair = Pair()
    pair.host.handle(ChannelOpened(1, LOCAL, True), 0)
    assert pair.host.handle(ChannelClosed(1, "link down"), 1) == [Unreachable("link down", None)]
    assert pair.host.deadline() is None
    assert Associated(LEASE) in pair.open(now=9, channel=2)


def test_a_refresh_that_is_due_without_channel_is_made_when_one_opens() -> None:
    pair = Pair()
    pair.open()
    pair.host.handle(ChannelClosed(1, "link down"), 10)
    assert pair.host.tick(400) == [Unreachable("no connection to the anchor", None)]
    assert pair.host.deadline() is None
    assert Associated(LEASE) in pair.open(now=500, channel=2)


def test_a_new_channel_alone_registers_nothing() -> None:
    pair = Pair()
    pair.open()
    assert pair.host.handle(ChannelOpened(2, OTHER, True), 10) == []


def test_refresh_wanted_registers_now_also_after_a_refusal() -> None:
    pair = Pair()
    pair.open()
    assert pair.carry(pair.host.handle(RefreshWanted(), 50), 50) == [Associated(LEASE)]
    refused = Pair(replace(SETTINGS, secret="guess"))
    refused.open()
    assert isinstance(refused.host.handle(RefreshWanted(), 50)[0], SendSip)


def test_leaving_ends_the_association_with_expires_0() -> None:
    pair = Pair()
    pair.open()
    assert pair.carry(pair.host.handle(Leave(), 20), 20) == [Left()]
    assert pair.anchor.accepted[-1].expires == 0
    assert (pair.host.state, pair.host.lease, pair.host.deadline()) == (State.LEFT, None, None)


def test_leaving_does_not_wait_for_long_nor_for_what_is_not_there() -> None:
    pair = Pair()
    pair.open()
    assert isinstance(pair.host.handle(Leave(), 20)[0], SendSip)
    assert pair.host.deadline() == 22
    assert pair.host.tick(22) == [Left(told=False)]
    assert AssociationClient(SETTINGS, fixed()).handle(Leave(), 0) == [Left()]


def test_an_answer_that_proves_nothing_is_not_believed() -> None:
    host = AssociationClient(SETTINGS, fixed())
    commands = answered(host, host.handle(ChannelOpened(1, LOCAL, True), 0), 200, 0, VIpAddr="6.6.6.6")
    assert isinstance(commands[0], Unreachable)
    assert host.lease is None


def test_figure_9_association_in_the_papers_form() -> None:
    """M1 and M2, with Terminal_ID as user, no digest, no body; the answer has VIpAddr and nothing more."""
    settings = AssociationSettings("Terminal_ID", "45.0.0.1", "Terminal_ID", "x", offer=None, require_proof=False)
    host = AssociationClient(settings, fixed())
    (sent,) = host.handle(ChannelOpened(1, Endpoint("192.168.100.25", 5060), False), 0)
    assert isinstance(sent, SendSip)
    m1 = parse(sent.data)
    assert isinstance(m1, Request)
    assert (m1.method, m1.uri) == ("REGISTER", "sip:45.0.0.1")
    assert (m1.via.host, m1.via.tid, m1.via.parameters["rport"]) == ("192.168.100.25", "Terminal_ID", None)
    assert (m1.to.user, m1.from_.user, m1.contacts[0].user, m1.body) == (
        "Terminal_ID",
        "Terminal_ID",
        "Terminal_ID",
        b"",
    )
    server = SipServer()
    incoming = server.received(m1, 1, Endpoint("160.80.100.1", 33000), False, 0)
    assert isinstance(incoming, Incoming)
    m2 = response(incoming.request, 200, headers=[("VIpAddr", "1.2.3.4")])
    assert m2.via.parameters["received"] == "160.80.100.1"
    (associated,) = host.handle(SipReceived(1, bytes(m2)), 0.1)
    assert associated == Associated(lease_module.from_headers("1.2.3.4", None, 600))


def test_a_signal_is_passed_on_and_options_is_answered() -> None:
    host = AssociationClient(SETTINGS, fixed())
    host.handle(ChannelOpened(1, LOCAL, True), 0)
    via = make("TLS", SOURCE, "z9hG4bKa")
    common = {"via": via, "from_": Address("sip:45.0.0.1"), "to": Address("sip:alice@x"), "call_id": "q", "sequence": 1}
    signal = request("MESSAGE", "sip:alice@x", **common)  # type: ignore[arg-type]
    options = request("OPTIONS", "sip:alice@x", **common)  # type: ignore[arg-type]
    commands = host.handle(SipReceived(1, bytes(signal) + bytes(options)), 0)
    assert commands[0] == PassedOn(1, signal)
    assert isinstance(commands[1], SendSip)
    assert commands[1].data.startswith(b"SIP/2.0 200 ")
    refused = host.handle(SipReceived(1, bytes(request("INVITE", "sip:alice@x", **common))), 0)  # type: ignore[arg-type]
    assert isinstance(refused[0], SendSip)
    assert refused[0].data.startswith(b"SIP/2.0 405 ")


def test_the_answer_to_a_signal_is_passed_on() -> None:
    host = AssociationClient(SETTINGS, fixed())
    host.handle(ChannelOpened(1, LOCAL, True), 0)
    common = {"via": make("TLS", LOCAL, "z9hG4bKsig"), "from_": Address("sip:a"), "to": Address("sip:b")}
    signal = request("MESSAGE", "sip:b", call_id="q", sequence=1, **common)  # type: ignore[arg-type]
    answer = response(signal, 200)
    assert host.handle(SipReceived(1, bytes(answer)), 0) == [PassedOn(1, answer)]


def test_a_stream_that_is_no_sip_is_given_up_and_a_datagram_is_passed_over() -> None:
    host = AssociationClient(SETTINGS, fixed())
    host.handle(ChannelOpened(1, LOCAL, True), 0)
    host.handle(ChannelOpened(2, OTHER, False), 0)
    (close,) = host.handle(SipReceived(1, b"HTTP/1.1 400 Bad Request\r\n\r\n"), 0)
    assert isinstance(close, CloseChannel)
    assert host.handle(SipReceived(2, b"nonsense"), 0) == []
    assert host.handle(SipReceived(9, b"unknown channel"), 0) == []


def test_an_anchor_known_by_an_ipv6_address_is_written_in_brackets() -> None:
    pair = Pair(replace(SETTINGS, domain="2001:db8::1"))
    commands = pair.host.handle(ChannelOpened(1, Endpoint("2001:db8::25", 40000), True), 0)
    assert Associated(LEASE) in pair.carry(commands, 0)
    assert registers(pair.sent)[0].uri == "sip:[2001:db8::1]"


@pytest.mark.parametrize("change", [{"tid": "two words"}, {"tid": ""}, {"user": ""}])
def test_settings_that_cannot_be_written_are_our_own_mistake(change: dict[str, str]) -> None:
    with pytest.raises(LocalProtocolError):
        AssociationClient(replace(SETTINGS, **change), fixed())


def test_secrets_are_not_shown() -> None:
    assert "token" not in repr(SETTINGS)
    assert "own" not in repr(CredentialIssued("own"))


@given(st.data())
def test_no_answer_makes_the_machine_raise(data: st.DataObject) -> None:
    pair = Pair()
    commands = pair.host.handle(ChannelOpened(1, LOCAL, data.draw(st.booleans())), 0)
    for now in range(4):
        sent = next((command for command in commands if isinstance(command, SendSip)), None)
        answer = pair.anchor.answer(sent.data, now) if sent is not None else None
        whole = bytearray(answer or b"SIP/2.0 200 OK\r\n\r\n")
        for _ in range(data.draw(st.integers(0, 4))):
            at = data.draw(st.integers(0, len(whole) - 1))
            whole[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
        commands = pair.host.handle(SipReceived(1, bytes(whole)), now)
        due = pair.host.deadline()
        if due is not None:
            commands += pair.host.tick(due)
