import pytest

from sojourn.sip.message import Request, Response, parse
from sojourn.sip.rules import Unanswerable, options_answer, refusal, refuse, remedy_of
from tests.sip.test_message import M1, M3, plain_request


def refused(request: Request) -> Response:
    """Return the answer to a request that must be refused."""
    answer = refusal(request)
    assert answer is not None
    return answer


def changed(old: bytes, new: bytes) -> Request:
    """Return Fig. 9's handover request with something else in it."""
    assert old in M3
    request = parse(M3.replace(old, new))
    assert isinstance(request, Request)
    return request


@pytest.mark.parametrize("data", [M1, M3])
def test_the_messages_of_figure_9_are_taken(data: bytes) -> None:
    request = parse(data)
    assert isinstance(request, Request)
    assert refusal(request) is None


def test_another_version_gets_505() -> None:
    assert refused(changed(b"SIP/2.0\r\nVia", b"SIP/3.0\r\nVia")).status == 505


def test_an_unknown_method_gets_405_with_those_that_are_known() -> None:
    request = plain_request()
    request.method = "INVITE"
    request.headers.set("CSeq", "7 INVITE")
    answer = refused(request)
    assert (answer.status, answer.header("Allow")) == (405, "REGISTER, MESSAGE, OPTIONS")


def test_an_unknown_scheme_gets_416() -> None:
    assert refused(changed(b"MESSAGE sip:45.0.0.1", b"MESSAGE tel:+391234")).status == 416


def test_an_unknown_extension_gets_420_and_is_named() -> None:
    answer = refused(plain_request(Require="100rel, path"))
    assert (answer.status, answer.header("Unsupported")) == (420, "100rel, path")


def test_an_unknown_content_gets_415_with_what_is_known() -> None:
    answer = refused(changed(b"application/text", b"application/sdp"))
    assert (answer.status, answer.header("Accept")) == (415, "application/json, application/text")
    assert refused(changed(b"Content-Type", b"Content-Encoding: gzip\r\nContent-Type")).status == 415


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"CSeq: 1 MESSAGE", b"CSeq: 1 REGISTER"),
        (b"CSeq: 1 MESSAGE", b"CSeq: x"),
        (b"CSeq: 1 MESSAGE", b"CSeq: 2147483648 MESSAGE"),
        (b"CSeq: 1 MESSAGE\r\n", b""),
        (b"Call-ID: 2@192.168.100.25\r\n", b""),
        (b"Max-Forwards: 70", b"Max-Forwards: many"),
        (b"Max-Forwards: 70", b"Max-Forwards: 256"),
        (b"Max-Forwards: 70", b"Max-Forwards: 70\r\nMax-Forwards: 70"),
        (b"To: <sip:45.0.0.1>", b'To: "open <sip:45.0.0.1>'),
        (b"To: <sip:45.0.0.1>", b"To: <sip:45.0.0.1>\r\nTo: <sip:45.0.0.2>"),
        (b"Contact: <sip:Terminal_ID>", b"Contact: *, <sip:Terminal_ID>"),
        (b"MESSAGE sip:45.0.0.1", b"MESSAGE <sip:45.0.0.1>"),
        (b"MESSAGE sip:45.0.0.1", b"MESSAGE sip:45.0.0.1 sip:x"),
    ],
)
def test_what_is_malformed_gets_400_with_the_reason_in_one_line(old: bytes, new: bytes) -> None:
    answer = refused(changed(old, new))
    assert answer.status == 400
    assert "\n" not in answer.phrase


def test_without_a_usable_via_there_is_no_answer() -> None:
    with pytest.raises(Unanswerable):
        refusal(changed(b"Via: SIP/2.0/UDP", b"Via: nonsense"))


def test_ack_is_never_answered_and_cancel_finds_nothing() -> None:
    ack, cancel = plain_request(), plain_request()
    ack.method, cancel.method = "ACK", "CANCEL"
    ack.headers.set("CSeq", "7 ACK")
    cancel.headers.set("CSeq", "7 CANCEL")
    with pytest.raises(Unanswerable):
        refusal(ack)
    assert refused(cancel).status == 481


def test_options_tells_what_we_can_do() -> None:
    answer = options_answer(plain_request())
    assert (answer.status, answer.header("Allow")) == (200, "REGISTER, MESSAGE, OPTIONS")
    assert answer.header("Accept") == "application/json, application/text"


def test_a_remedy_travels_as_a_warning() -> None:
    answer = parse(bytes(refuse(plain_request(), 403, "No", 'make a "token"')))
    assert isinstance(answer, Response)
    assert remedy_of(answer) == "make a 'token'"
    assert remedy_of(refuse(plain_request(), 403, "No")) is None
