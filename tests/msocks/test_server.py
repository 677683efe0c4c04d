"""Dialogues between proxy and client, both machines, whole and one byte at a time; and what intruders get."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.msocks import client, frames, server, socks5
from sojourn.msocks.client import Account, Answered, Replied, Return, SetUp
from sojourn.msocks.frames import Challenges, Reconnect, Resumed, Status
from sojourn.msocks.server import Asked, Heard, Hello, Login, Refused, Resume, Say, ServerDialogue
from sojourn.msocks.socks5 import Address, Code, Command, Reply, Request
from sojourn.packet.noise import public

PROXY = X25519PrivateKey.from_private_bytes(b"\x01" * 32)
ANN = Account("ann", b"p" * 32, b"\x02" * 32, public(PROXY))
WEB = Request(Command.CONNECT, Address("example.org", 443))
BOUND = Reply(Code.SUCCEEDED, Address("192.0.2.1", 4000))
ID = b"s" * 16


def proxy(*methods: int) -> ServerDialogue:
    return ServerDialogue(PROXY, b"\x03" * 32, methods or (socks5.SOJOURN, socks5.PASSWORD, socks5.NO_LOGIN))


def fed(machine: Any, data: bytes, *, slowly: bool) -> list[Any]:  # noqa: ANN401 - either end
    if not slowly:
        return list(machine.feed(data))
    return [event for byte in data for event in machine.feed(bytes([byte]))]


def said(events: list[Any]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, Say | client.Say | Refused))


def set_up(request: Request = WEB, *, slowly: bool = False, account: Account = ANN) -> tuple[ServerDialogue, SetUp]:
    """Bring both ends to the request."""
    here, there = proxy(), SetUp(account, b"\x04" * 32, request)
    events = fed(here, there.begin(), slowly=slowly)
    assert events[1:] == [Hello(account.user, public(X25519PrivateKey.from_private_bytes(account.static)))]
    answer = said(events) + said(here.welcome(b"p" * 32))
    asked = fed(here, said(fed(there, answer, slowly=slowly)), slowly=slowly)
    assert asked == [Asked(request)]
    return here, there


@pytest.mark.parametrize("slowly", [False, True])
def test_our_method_opens_a_session_whose_key_both_ends_know(slowly: bool) -> None:
    here, there = set_up(slowly=slowly)
    events = fed(there, here.reply(BOUND, ID) + b"first bytes", slowly=slowly)
    assert events == [Replied(BOUND, ID)]
    assert there.key == here.key != b""
    assert there.rest.startswith(b"first") or slowly


@pytest.mark.parametrize("slowly", [False, True])
@pytest.mark.parametrize("right", [False, True])
def test_plain_socks_with_a_password(slowly: bool, right: bool) -> None:
    here = proxy(socks5.PASSWORD)
    assert fed(here, socks5.greeting(0, 2), slowly=slowly) == [Say(b"\5\2")]
    assert fed(here, socks5.password("ann", "word"), slowly=slowly) == [Login("ann", "word")]
    answer = here.login(right)
    assert said(answer) == socks5.password_answer(right)
    assert isinstance(answer[0], Say if right else Refused)
    if right:
        assert fed(here, socks5.request(WEB), slowly=slowly) == [Asked(WEB)]
        assert here.reply(BOUND) == socks5.reply(BOUND)
        assert here.user == "ann"
        assert here.key == b""


def test_a_client_that_does_not_wait_for_answers_is_served_and_its_first_bytes_are_kept() -> None:
    here = proxy(socks5.NO_LOGIN)
    assert here.feed(socks5.greeting(0) + socks5.request(WEB) + b"GET /") == [Say(b"\5\0"), Asked(WEB)]
    here.reply(BOUND)
    assert here.rest == b"GET /"


def test_who_offers_no_usable_method_is_told_so() -> None:
    assert proxy(socks5.SOJOURN).feed(socks5.greeting(0, 2)) == [Refused("method", b"\5\xff")]


def test_an_address_type_that_nobody_knows_is_answered_with_its_code() -> None:
    (_, refused) = proxy(socks5.NO_LOGIN).feed(socks5.greeting(0) + b"\5\1\0\7\0")
    assert isinstance(refused, Refused)
    assert refused.data[1] == Code.ADDRESS_NOT_SUPPORTED


def test_who_does_not_know_the_secret_gets_as_far_as_the_answer_and_no_further() -> None:
    here, there = proxy(), SetUp(Account("ann", b"wrong" * 6 + b"!!", b"\x02" * 32, public(PROXY)), b"\x04" * 32, WEB)
    here.feed(there.begin())
    with pytest.raises(RemoteProtocolError):
        there.feed(socks5.choice(socks5.SOJOURN) + said(here.welcome(b"p" * 32)))
    (refused,) = here.feed(frames.frame(frames.FrameType.RECORD, bytes(40)))
    assert isinstance(refused, Refused)


def test_a_client_that_talks_to_another_proxy_notices() -> None:
    other = Account("ann", b"p" * 32, b"\x02" * 32, public(X25519PrivateKey.from_private_bytes(b"\x09" * 32)))
    events = proxy().feed(SetUp(other, b"\x04" * 32, WEB).begin())
    assert events[1:] == [Refused("noise")]


def test_a_user_who_is_not_known_is_told_so() -> None:
    here, there = proxy(), SetUp(ANN, b"\x04" * 32, WEB)
    events = here.feed(there.begin())
    (refused,) = here.refuse(frames.Refusal.USER)
    assert isinstance(refused, Refused)
    assert refused.reason == "user"
    with pytest.raises(RemoteProtocolError) as error:
        there.feed(said(events) + refused.data)
    assert error.value.reason == "user"


def test_control_connections_carry_heartbeats_both_ways() -> None:
    here, there = set_up(Request(Command.CONTROL, socks5.NOWHERE))
    assert there.feed(here.reply(BOUND, ID)) == [Replied(BOUND, ID)]
    for number in range(3):
        assert here.feed(there.record(frames.Ping(number))) == [Heard(frames.Ping(number))]
        pong = frames.Ping(number, b"c" * 24)
        assert there.feed(here.record(pong)) == [client.Heard(pong)]


def test_control_is_not_for_plain_clients() -> None:
    here = proxy(socks5.NO_LOGIN)
    here.feed(socks5.greeting(0) + socks5.request(Request(Command.CONTROL, socks5.NOWHERE)))
    here.reply(BOUND)
    assert here.feed(frames.frame(frames.FrameType.RECORD, bytes(40))) == []


def test_bind_is_answered_twice() -> None:
    here, there = set_up(Request(Command.BIND, socks5.NOWHERE))
    second = Reply(Code.SUCCEEDED, Address("198.51.100.1", 9))
    assert there.feed(here.reply(BOUND, ID, last=False)) == [Replied(BOUND, ID)]
    assert there.feed(here.reply(second, ID) + b"x") == [Replied(second, ID)]
    assert there.rest == b"x"


@pytest.mark.parametrize("slowly", [False, True])
@pytest.mark.parametrize("fresh", [True, False])
def test_a_session_comes_back_at_once_with_a_fresh_challenge_and_one_round_later_without(
    slowly: bool, fresh: bool
) -> None:
    challenges = Challenges(b"x")
    here, key = proxy(), b"k" * 32
    order = Reconnect(ID, 1, 500, challenges.make(100.0) if fresh else client.NO_CHALLENGE)
    there = Return(key, order)
    events = fed(here, there.begin(), slowly=slowly)
    if not fresh:
        events = fed(here, said(fed(there, said(events) + said(here.challenge(challenges.make(100.0))),
                                    slowly=slowly)), slowly=slowly)  # fmt: skip
    resume = events[-1]
    assert isinstance(resume, Resume)
    assert resume.asked.proved(key, resume.proof)
    assert challenges.fresh(resume.asked.challenge, 101.0)
    answer = Resumed(Status.RESUMED, 1, 77)
    here.resumed()
    choice = said(events) if fresh else b""
    data = choice + answer.encode(key, resume.asked) + b"more"
    assert fed(there, data, slowly=slowly) == [Answered(answer, True)]
    assert here.feed(b"stream") == []
    assert here.rest == b"stream"


def test_a_client_that_answers_no_challenge_right_is_sent_away() -> None:
    here = proxy()
    here.feed(socks5.greeting(socks5.SOJOURN))
    order = Reconnect(ID, 1, 0, client.NO_CHALLENGE).encode(b"k" * 32)
    for _ in range(server.MAX_CHALLENGES):
        assert isinstance(here.feed(order)[0], Resume)
        assert isinstance(here.challenge(bytes(24))[0], Say)
    here.feed(order)
    assert here.challenge(bytes(24)) == [Refused("challenge")]


def test_an_answer_that_is_not_proved_is_not_believed_unless_it_says_unknown() -> None:
    for status in Status:
        there = Return(b"k" * 32, Reconnect(ID, 1, 0, bytes(24)))
        forged = socks5.choice(socks5.SOJOURN) + Resumed(status, 1, 0).encode(None, Reconnect(ID, 1, 0, bytes(24)))
        if status is Status.UNKNOWN:
            assert there.feed(forged) == [Answered(Resumed(status, 1, 0), False)]
        else:
            with pytest.raises(RemoteProtocolError):
                there.feed(forged)


def test_half_handshakes_hold_no_more_than_their_limit() -> None:
    here = proxy(socks5.NO_LOGIN)
    here.feed(socks5.greeting(0) + b"\5\1\0\3")
    (refused,) = here.feed(b"\xff" + bytes(5000))
    assert isinstance(refused, Refused)


@given(st.lists(st.binary(max_size=60), max_size=6), st.sampled_from([b"", b"\5\1\0", b"\5\1\x8d", b"\5\1\2"]))
def test_nonsense_never_gets_more_than_an_answer(pieces: list[bytes], start: bytes) -> None:
    here = proxy()
    events = here.feed(start)
    for piece in pieces:
        events += here.feed(piece)
    assert not any(isinstance(event, Heard) for event in events)


@given(st.binary(max_size=120), st.booleans())
def test_a_client_believes_no_nonsense(data: bytes, choose: bool) -> None:
    for there in (SetUp(ANN, b"\x04" * 32, WEB), Return(b"k" * 32, Reconnect(ID, 1, 0, bytes(24)))):
        there.begin()
        try:
            events = there.feed((b"\5\x8d" if choose else b"") + data)
        except RemoteProtocolError:
            continue
        assert not any(isinstance(event, Replied) for event in events)
