from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.model import Endpoint
from sojourn.sip.message import Request, parse, response
from sojourn.sip.server import Incoming, Send, SipServer
from tests.sip.test_message import M1, M2, M3, plain_request

SOURCE = Endpoint("160.80.100.1", 33000)


def read(data: bytes) -> Request:
    """Parse a request."""
    request = parse(data)
    assert isinstance(request, Request)
    return request


def test_a_new_request_comes_out_with_its_way_back() -> None:
    incoming = SipServer().received(read(M1), "udp", SOURCE, False, 0)
    assert isinstance(incoming, Incoming)
    assert (incoming.origin, incoming.source, incoming.destination) == ("udp", SOURCE, SOURCE)
    assert incoming.request.via.parameters["received"] == "160.80.100.1"


def test_a_copy_waits_and_then_gets_the_same_answer() -> None:
    server = SipServer()
    incoming = server.received(read(M3), "udp", SOURCE, False, 0)
    assert isinstance(incoming, Incoming)
    assert server.received(read(M3), "udp", SOURCE, False, 0.1) is None
    sent = server.answer(incoming, response(incoming.request, 200))
    assert server.received(read(M3), "udp", SOURCE, False, 0.2) == sent


def test_a_copy_from_elsewhere_is_a_request_of_its_own() -> None:
    server = SipServer()
    incoming = server.received(read(M3), "udp", SOURCE, False, 0)
    assert isinstance(incoming, Incoming)
    server.answer(incoming, response(incoming.request, 200, body=b"secret"))
    other = server.received(read(M3), "udp", Endpoint("198.51.100.1", 33000), False, 0)
    assert isinstance(other, Incoming)


def test_an_answer_that_need_not_be_remembered_is_not() -> None:
    server = SipServer()
    incoming = server.received(read(M1), "udp", SOURCE, False, 0)
    assert isinstance(incoming, Incoming)
    server.answer(incoming, response(incoming.request, 401), remember=False)
    assert len(server.transactions) == 0
    assert isinstance(server.received(read(M1), "udp", SOURCE, False, 0.1), Incoming)


def test_options_is_answered_here() -> None:
    sent = SipServer().received(plain_request(), 1, SOURCE, True, 0)
    assert isinstance(sent, Send)
    assert sent.data.startswith(b"SIP/2.0 200 OK\r\n")


def test_what_is_refused_is_answered_with_received_and_counted() -> None:
    server = SipServer()
    sent = server.received(plain_request(Require="x"), 1, SOURCE, False, 0)
    assert isinstance(sent, Send)
    assert sent.data.startswith(b"SIP/2.0 420 ")
    assert b"received=160.80.100.1" in sent.data
    assert server.refused == {"420": 1}
    assert len(server.transactions) == 0


def test_what_cannot_be_answered_is_counted_and_dropped() -> None:
    server = SipServer()
    assert server.received(read(M1.replace(b"Via", b"Vie")), 1, SOURCE, False, 0) is None
    assert server.refused == {"unanswerable": 1}


def test_a_short_body_gets_400_and_a_long_one_is_cut() -> None:
    short = SipServer().received(read(M3[:-5]), 1, SOURCE, False, 0)
    assert isinstance(short, Send)
    assert short.data.startswith(b"SIP/2.0 400 ")
    long = SipServer().received(read(M3 + b"more"), 1, SOURCE, False, 0)
    assert isinstance(long, Incoming)
    assert long.request.body == read(M3).body


@given(st.data())
def test_any_request_gives_an_answer_or_silence(data: st.DataObject) -> None:
    whole = bytearray(data.draw(st.sampled_from([M1, M2, M3])))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    try:
        request = parse(bytes(whole))
    except RemoteProtocolError:
        return
    if isinstance(request, Request):
        sent = SipServer().received(request, 1, SOURCE, False, 0)
        if isinstance(sent, Send):
            parse(sent.data)
