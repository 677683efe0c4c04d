"""PolicyPush: made by the anchor, sent once to each host, taken by the host."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.model import Endpoint
from sojourn.sip import message
from sojourn.sip.rules import refusal
from sojourn.upmt import policy_push
from sojourn.upmt.association_events import SendSip
from sojourn.upmt.policy_push import (
    MAX_PUSH_BYTES,
    MAX_PUSHED,
    PolicyPush,
    PolicyPushed,
    PushReceived,
    PushSender,
    decode,
    decode_answer,
    encode,
    make_push,
    received,
)

PUSH = make_push(({"application": "zoom", "networks": ["wifi"]},), {"cellular": "metered"}, ("wifi", "*"))
HOME = Endpoint("198.51.100.7", 40000)
OTHER = make_push((), {"wifi": "free"}, ())


def sender() -> PushSender:
    made = PushSender("2001:db8::1", lambda count: bytes(count))
    assert made.offer(PUSH, 0.0) == []
    return made


def asked(data: bytes) -> message.Request:
    request = message.parse(data)
    assert isinstance(request, message.Request)
    return request


def answer_of(data: bytes) -> message.Response:
    order, *_ = received(7, asked(data))
    assert isinstance(order, SendSip)
    response = message.parse(order.data)
    assert isinstance(response, message.Response)
    return response


def test_the_version_is_the_content_s() -> None:
    same = make_push(({"networks": ["wifi"], "application": "zoom"},), {"cellular": "metered"}, ("wifi", "*"))
    assert same.version == PUSH.version
    assert PUSH.version != OTHER.version
    assert make_push((), {}, ()) == PolicyPush()
    assert decode(encode(PUSH)) == PUSH
    assert encode(OTHER) == f'{{"mType":"PolicyPush","version":{OTHER.version},"costs":{{"wifi":"free"}}}}'.encode()


def test_a_host_gets_the_push_once_on_each_connection() -> None:
    made = sender()
    (send,) = made.registered("laptop", 3, HOME, 0, 1.0)
    assert (send.origin, send.destination) == (3, HOME)
    data = send.data
    assert made.registered("laptop", 3, HOME, 0, 2.0) == []
    request = asked(data)
    assert refusal(request, ("MESSAGE",)) is None
    assert decode(request.body) == PUSH
    assert made.answered(answer_of(data), 3, 3.0) == []
    assert made.registered("laptop", 3, HOME, 0, 400.0) == []
    assert len(made.registered("laptop", 4, HOME, 0, 500.0)) == 1


def test_a_change_goes_to_all_hosts_and_one_that_comes_meanwhile_after_the_answer() -> None:
    made = sender()
    (send,) = made.registered("laptop", 3, HOME, 0, 1.0)
    first = send.data
    assert made.offer(OTHER, 2.0) == []
    (send,) = made.answered(answer_of(first), 3, 3.0)
    second = send.data
    assert (send.origin, decode(asked(second).body)) == (3, OTHER)
    made.answered(answer_of(second), 3, 4.0)
    (send,) = made.offer(PUSH, 5.0)
    third = send.data
    made.answered(answer_of(third), 3, 6.0)
    assert made.offer(PUSH, 7.0) == []
    assert len(made.offer(PolicyPush(), 8.0)) == 1


def test_a_host_that_has_the_push_is_not_told_again_and_one_is_told_what_was_taken_back_while_it_was_away() -> None:
    made = sender()
    assert made.registered("laptop", 3, HOME, PUSH.version, 1.0) == []
    assert made.offer(PUSH, 2.0) == []
    nothing = PushSender("192.0.2.1", lambda count: bytes(count))
    (send,) = nothing.registered("laptop", 3, HOME, PUSH.version, 1.0)
    assert decode(asked(send.data).body) == PolicyPush()
    nothing.answered(answer_of(send.data), 3, 2.0)
    assert nothing.registered("laptop", 3, HOME, 0, 3.0) == []


def test_nothing_is_said_while_nothing_is_offered() -> None:
    made = PushSender("192.0.2.1", lambda count: bytes(count))
    assert made.registered("laptop", 3, HOME, 0, 1.0) == []


def test_a_host_that_does_not_answer_gets_it_at_its_next_registration() -> None:
    made = sender()
    made.registered("laptop", 3, HOME, 0, 1.0)
    assert made.deadline() == 33.0
    made.tick(33.0)
    assert made.deadline() is None
    assert len(made.registered("laptop", 3, HOME, 0, 40.0)) == 1
    made.forget("laptop")
    assert made.offer(OTHER, 41.0) == []


def test_an_answer_that_is_nobody_s_or_comes_from_elsewhere_is_ignored() -> None:
    made = sender()
    (send,) = made.registered("laptop", 3, HOME, 0, 1.0)
    data = send.data
    right = answer_of(data)
    assert made.answered(right, 4, 2.0) == []
    assert made.deadline() is not None
    made.answered(right, 3, 2.0)
    assert made.deadline() is None
    assert made.answered(right, 3, 2.0) == []


def test_a_host_answers_and_passes_on_what_it_was_given() -> None:
    (send,) = sender().registered("laptop", 3, HOME, 0, 1.0)
    data = send.data
    answer, passed_on = received(7, asked(data))
    assert passed_on == PushReceived(PUSH)
    assert isinstance(answer, SendSip)
    response = answer_of(data)
    assert (answer.channel, response.status) == (7, 200)
    assert decode_answer(response.body) == PolicyPushed(PUSH.version)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b'{"mType":"HandoverRequest"}', b'{"mType":"PolicyPush","version":-1}',
        b'{"mType":"PolicyPush","policies":[1]}', b'{"mType":"PolicyPush","costs":{"a":1}}', b"\xff",
        encode(PolicyPush(1, ({"a": "x" * MAX_PUSH_BYTES},))), encode(PolicyPush(1, ({},) * (MAX_PUSHED + 1))),
        b'{"mType":"PolicyPush","policies":' + b"[" * 5000,
    ],
)  # fmt: skip
def test_a_host_refuses_what_is_no_push_or_too_much_of_one(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(body)
    (send,) = sender().registered("laptop", 3, HOME, 0, 1.0)
    data = send.data
    request = asked(data)
    request.body = body
    (answer,) = received(7, request)
    assert isinstance(answer, SendSip)
    assert answer.data.startswith(b"SIP/2.0 400 Not a PolicyPush\r\n")


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda tail: encode(PUSH)[:-1] + tail))
def test_any_bytes_are_a_push_or_a_protocol_error(body: bytes) -> None:
    for reader in (decode, decode_answer):
        try:
            reader(body)
        except RemoteProtocolError:
            continue


def test_the_answer_to_something_else_is_not_taken_for_a_push() -> None:
    request = asked(sender().registered("laptop", 3, HOME, 0, 1.0)[0].data)
    request.method = "OPTIONS"
    assert policy_push.received(7, request) == []


def test_the_page_s_push_and_its_answer_are_what_the_program_writes() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "wire.md").read_text()
    (body,) = re.findall(r"^```json push\n(.*)\n```$", page, re.MULTILINE)
    (told,) = re.findall(r"^```json pushed\n(.*)\n```$", page, re.MULTILINE)
    push = decode(body.encode())
    assert make_push(push.policies, push.costs, push.order) == push
    assert encode(push) == body.encode()
    assert encode(PolicyPushed(push.version)) == told.encode()
