"""DNS questions and answers: RFC 1035's own example of compressed names, and everything that a server may send."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.packet import dns

QUESTION = dns.question("portal.example.org", dns.A, 0x1234)


def answer(*records: bytes, flags: int = 0x8180, count: int | None = None, question: bytes = QUESTION) -> bytes:
    header = struct.pack("!6H", 0x1234, flags, 1, len(records) if count is None else count, 0, 0)
    return header + question[12:] + b"".join(records)


def record(value: bytes, kind: int = dns.A, name: bytes = b"\xc0\x0c") -> bytes:
    return name + struct.pack("!HHIH", kind, 1, 60, len(value)) + value


def test_a_question_is_as_rfc_1035_writes_it() -> None:
    assert (
        QUESTION == b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x06portal\x07example\x03org\x00\x00\x01\x00\x01"
    )


def test_addresses_are_read_in_their_order_behind_an_alias() -> None:
    alias = record(b"\x03cdn\xc0\x13", dns.CNAME)
    data = answer(alias, record(bytes([192, 0, 2, 7])), record(bytes([192, 0, 2, 8]), name=b"\x03cdn\xc0\x13"))
    assert dns.parse(data) == dns.Answer(0x1234, "portal.example.org", dns.A, 0, False, ("192.0.2.7", "192.0.2.8"))


def test_an_answer_for_ipv6_has_ipv6_addresses_only() -> None:
    asked = dns.question("a.example", dns.AAAA, 0x1234)
    data = answer(
        record(bytes([192, 0, 2, 7])), record(b"\x20\x01\x0d\xb8" + bytes(11) + b"\1", dns.AAAA), question=asked
    )
    assert dns.parse(data).addresses == ("2001:db8::1",)


def test_no_such_name_and_a_cut_answer_are_told() -> None:
    assert dns.parse(answer(flags=0x8183)).code == 3
    cut = answer(record(bytes([192, 0, 2, 7])), record(bytes([192, 0, 2, 8])), flags=0x8380)[:-2]
    assert dns.parse(cut) == dns.Answer(0x1234, "portal.example.org", dns.A, 0, True, ("192.0.2.7",))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        QUESTION,
        answer(record(b"abcd"))[:-1],
        answer(count=3),
        answer(record(b"abcd", name=b"\xc0\xff")),
        answer(record(b"abcd", name=b"\x80")),
        answer(record(b"abcd", name=b"\x3f" + b"a" * 63 + b"\x3f" + b"a" * 63 + b"\x3f" + b"a" * 63 + b"\x3f" * 64)),
    ],
)
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        dns.parse(data)


@pytest.mark.parametrize("name", ["", ".", "a..b", "a" * 64, ".".join(["abcdefg"] * 40)])
def test_what_is_no_host_name_is_not_asked_for(name: str) -> None:
    with pytest.raises(ValueError):
        dns.question(name, dns.A, 1)


def test_a_name_in_another_script_is_asked_for_in_its_ascii_form() -> None:
    assert b"\x0exn--bcher-kva" not in dns.question("plain.example", dns.A, 1)
    assert b"\x0dxn--bcher-kva\x07example\x00" in dns.question("Bücher.example", dns.A, 1)


@given(st.binary(max_size=100))
def test_any_bytes_are_an_answer_or_refused(data: bytes) -> None:
    for text in (data, answer(data), answer(data, flags=0x8380, count=9)):
        try:
            dns.parse(text)
        except RemoteProtocolError:
            continue


@given(st.text(max_size=80))
def test_any_text_is_asked_for_or_refused(name: str) -> None:
    try:
        assert dns.question(name, dns.A, 1)
    except ValueError:
        return
