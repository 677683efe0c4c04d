import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.model import Endpoint
from sojourn.sip import via
from sojourn.sip.message import (
    STAR,
    Address,
    Request,
    Response,
    parse,
    parse_address,
    parse_uri,
    request,
    response,
    stamp,
)

M1 = b"""REGISTER sip:45.0.0.1 SIP/2.0
Via: SIP/2.0/UDP 192.168.100.25; branch=z9h; TID=Terminal_ID; rport;
To: <Terminal_ID>
From: <Terminal_ID>;tag=dba
Contact: <sip:Terminal_ID>
Call-ID: 1@192.168.100.25
CSeq: 1 REGISTER
Max-Forwards: 70
Content-Length: 0

""".replace(b"\n", b"\r\n")

M2 = b"""SIP/2.0 200 OK
Via: SIP/2.0/UDP 192.168.100.25; TID=Terminal_ID;received=160.80.100.1
To: < Terminal_ID >
From: < Terminal_ID>; tag=dba
VIpAddr:1.2.3.4
Call-ID: 1@192.168.100.25
CSeq: 1 REGISTER
Content-Length: 0

""".replace(b"\n", b"\r\n")

M3_BODY = (
    b'{"mType":"HandoverRequest",\r\n"match":{"syntax":"IPtables", "match":"-p tcp -destination 160.80.81.1 '
    b'-destination-port 80"},\r\n"tunnelID":["13673865","any"]}'
)
M3 = (
    b"""MESSAGE sip:45.0.0.1 SIP/2.0
Via: SIP/2.0/UDP 192.168.100.25; branch=z9h; TID=Terminal_ID; rport;
To: <sip:45.0.0.1>
From: <Terminal_ID>;tag=dba
Contact: <sip:Terminal_ID>
Content-Length: %d
Content-Type: application/text
Call-ID: 2@192.168.100.25
CSeq: 1 MESSAGE
Max-Forwards: 70

""".replace(b"\n", b"\r\n")
    % len(M3_BODY)
    + M3_BODY
)


def plain_request(**headers: str) -> Request:
    """Build a small legal request."""
    return request(
        "OPTIONS",
        "sip:anchor.example.org",
        via=via.make("UDP", Endpoint("10.0.0.1", 5060), "z9hG4bK1"),
        from_=Address("sip:a@example.org", parameters={"tag": "1"}),
        to=Address("sip:b@example.org"),
        call_id="c",
        sequence=7,
        headers=headers.items(),
    )


def test_figure_9_m1_association_request() -> None:
    read = parse(M1)
    assert isinstance(read, Request)
    assert (read.method, read.uri) == ("REGISTER", "sip:45.0.0.1")
    assert (read.via.branch, read.via.tid) == ("z9h", "Terminal_ID")
    assert "rport" in read.via.parameters
    assert (read.to.user, read.from_.user, read.from_.tag) == ("Terminal_ID", "Terminal_ID", "dba")
    assert [contact.user for contact in read.contacts] == ["Terminal_ID"]


def test_figure_9_m2_association_response() -> None:
    read = parse(M2)
    assert isinstance(read, Response)
    assert (read.status, read.phrase, read.final) == (200, "OK", True)
    assert read.header("VIpAddr") == "1.2.3.4"
    assert read.via.parameters["received"] == "160.80.100.1"
    assert (read.to.user, read.from_.tag) == ("Terminal_ID", "dba")


def test_figure_9_m3_handover_request() -> None:
    read = parse(M3)
    assert isinstance(read, Request)
    assert (read.method, read.content_type) == ("MESSAGE", "application/text")
    assert read.content_length == len(read.body)
    assert read.body == M3_BODY


def test_what_is_built_is_read_again() -> None:
    made = plain_request(Expires="60")
    again = parse(bytes(made))
    assert again == made
    assert isinstance(again, Request)
    assert (again.cseq.sequence, again.cseq.method, again.expires, again.content_length) == (7, "OPTIONS", 60, 0)


def test_compact_and_folded_headers_are_read() -> None:
    read = parse(b"OPTIONS sip:a SIP/2.0\r\nv: SIP/2.0/UDP a\r\n ;branch=z9hG4bK1\r\nl:0\r\nI :x\r\n\r\n")
    assert (read.via.branch, read.content_length, read.call_id) == ("z9hG4bK1", 0, "x")


def test_vias_come_from_lines_and_commas_alike() -> None:
    read = parse(b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a;branch=1, SIP/2.0/UDP b\r\nVia: SIP/2.0/TCP c\r\n\r\n")
    assert [one.host for one in read.vias] == ["a", "b", "c"]


def test_contact_may_be_an_asterisk_but_not_beside_an_address() -> None:
    assert parse(b"OPTIONS sip:a SIP/2.0\r\nContact: *\r\n\r\n").contacts == [STAR]
    with pytest.raises(RemoteProtocolError):
        _ = parse(b"OPTIONS sip:a SIP/2.0\r\nContact: *, <sip:a@b>\r\n\r\n").contacts


@pytest.mark.parametrize("text", ["", "x", "-1", "1" * 99])
def test_nonsense_in_expires_counts_as_none(text: str) -> None:
    assert plain_request(Expires=text).expires is None


def test_an_answer_copies_what_it_must_and_tags_to_the_same_way_each_time() -> None:
    asked = plain_request()
    stamp(asked, Endpoint("192.0.2.1", 999))
    one, other = response(asked, 200), response(asked, 200)
    assert one == other
    assert one.via.parameters == {"branch": "z9hG4bK1", "rport": "999", "received": "192.0.2.1"}
    assert (one.call_id, one.cseq, one.from_) == (asked.call_id, asked.cseq, asked.from_)
    assert one.to.tag
    assert asked.to.tag is None


def test_a_to_tag_that_is_there_is_kept() -> None:
    asked = plain_request()
    asked.headers.set("To", "<sip:b@example.org>;tag=there")
    assert response(asked, 200).to.tag == "there"


def test_content_length_is_always_that_of_the_body() -> None:
    answer = response(
        plain_request(), 200, body=b"{}", content_type="application/json", headers=[("Content-Length", "9")]
    )
    assert parse(bytes(answer)).content_length == 2


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"OPTIONS sip:a SIP/2.0\r\n",
        b"OPTIONS sip:a SIP/2.0\r\nX: \xff\r\n\r\n",
        b"OPTIONS sip:a SIP/2.0\r\nno colon\r\n\r\n",
        b"OPTIONS sip:a SIP/2.0\r\nA: b\nVIpAddr: 9.9.9.9\r\n\r\n",
        b"OPTIONS sip:a HTTP/1.1\r\n\r\n",
        b"SIP/2.0 99 x\r\n\r\n",
        b"SIP/2.0 4294967301 better not break the receiver\r\n\r\n",
        b"OPTIONS sip:a SIP/2.0\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b"OPTIONS sip:a SIP/2.0\r\nA: " + b"b" * 20000 + b"\r\n\r\n",
    ],
)
def test_what_is_not_sip_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse(data)


def test_every_error_is_a_new_one() -> None:
    caught: list[RemoteProtocolError] = []
    for _ in range(2):
        with pytest.raises(RemoteProtocolError) as info:
            parse_uri("sip:host;self=1") if caught else parse_uri("nonsense")
        caught.append(info.value)
    assert caught[0] is not caught[1]


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("<sip:alice@example.org;transport=tls>", "alice"),
        ("sip:bob@example.org", "bob"),
        ("SIPS:carol@example.org", "carol"),
        ("<sip:Terminal_ID>", "Terminal_ID"),
    ],
)
def test_the_user_of_an_address_is_found(text: str, user: str) -> None:
    assert parse_address(text).user == user


@pytest.mark.parametrize("scheme", ["sip:", "tel:", "tel:+", "<tel:", "SIP:"])
@pytest.mark.parametrize("piece", ["0", "a-", "1.", "%41", ";p=1", "a:", "a@", "[::"])
def test_no_uri_takes_long_to_refuse(scheme: str, piece: str) -> None:
    """Patterns that go back over what they have read are a way to stop an anchor with one message."""
    text = scheme + piece * 5000 + "x@!"
    began = time.process_time()
    for read in (parse_uri, lambda text: parse_address(text).user):
        with contextlib.suppress(RemoteProtocolError):
            read(text)
    assert time.process_time() - began < 0.5


def read_everything(data: bytes) -> None:
    """Parse, and read every header that has an accessor."""
    message = parse(data)
    for name in ("call_id", "cseq", "vias", "from_", "to", "contacts", "expires", "content_length", "content_type"):
        try:
            value = getattr(message, name)
            if isinstance(value, Address):
                _ = value.user, value.tag, str(value)
        except RemoteProtocolError:
            pass
    if isinstance(message, Request):
        bytes(response(message, 400))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        read_everything(data)


@given(st.data())
def test_a_damaged_message_is_read_or_refused(data: st.DataObject) -> None:
    whole = bytearray(data.draw(st.sampled_from([M1, M2, M3])))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(whole) - 1))
        piece = data.draw(st.binary(max_size=4) | st.sampled_from([b"\r\n", b'"', b"<", b">", b";", b",", b"%", b"\\"]))
        whole[at : at + data.draw(st.integers(0, 3))] = piece
    with contextlib.suppress(RemoteProtocolError):
        read_everything(bytes(whole))


@given(st.text(max_size=80) | st.text(max_size=60).map("sip:".__add__))
def test_any_text_is_a_uri_and_an_address_or_refused(text: str) -> None:
    for read in (parse_uri, parse_address):
        with contextlib.suppress(RemoteProtocolError):
            read(text)
