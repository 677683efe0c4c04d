"""Rendezvous messages, byte for byte."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.i3.identifier import Identifier
from sojourn.i3.packet import (
    INSERT,
    MAX_COPIES,
    MAX_HOPS,
    MAX_STACK,
    MAX_TARGET,
    REMOVE,
    RIGHT_BYTES,
    Answer,
    Challenge,
    Data,
    Location,
    Message,
    Request,
    Right,
    Status,
    parse,
)
from sojourn.model import Endpoint

IDENTIFIERS = st.binary(min_size=32, max_size=32).map(Identifier)
NONCES = st.binary(min_size=16, max_size=16)
NUMBERS = st.integers(0, 2**64 - 1)
ENDPOINTS = st.builds(
    Endpoint, st.ip_addresses().map(str).filter(lambda text: "%" not in text), st.integers(0, 65535)
)  # fmt: skip


def stacks(least: int, most: int) -> st.SearchStrategy[tuple[Identifier, ...]]:
    return st.lists(IDENTIFIERS, min_size=least, max_size=most).map(tuple)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    kind, right = draw(st.sampled_from([INSERT, REMOVE])), draw(st.sampled_from(Right))
    evidence = draw(st.binary(min_size=RIGHT_BYTES[right], max_size=RIGHT_BYTES[right]))
    old = draw(st.none() | ENDPOINTS) if kind == REMOVE else None
    target = draw(stacks(0, MAX_TARGET))
    return Request(kind, right, draw(NUMBERS), draw(IDENTIFIERS), evidence, draw(NONCES), target, old)


MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        Data, stacks(1, MAX_STACK), st.binary(max_size=100), st.integers(0, MAX_HOPS), st.integers(1, MAX_COPIES),
        st.none() | NONCES,
    ),
    requests(),
    st.builds(Challenge, NUMBERS, NONCES),
    st.builds(Answer, st.sampled_from(Status), st.integers(0, 255), NUMBERS, NONCES, ENDPOINTS),
    st.builds(Location, st.booleans(), st.integers(0, 255), IDENTIFIERS, NONCES, st.none() | ENDPOINTS),
)  # fmt: skip


def test_a_packet_reads_as_the_wire_document_says() -> None:
    assert bytes(Data((Identifier(b"i" * 32),), b"hello")) == b"\x10\x01\x10\x40" + b"i" * 32 + b"hello"
    asking = Data((Identifier(b"i" * 32),) * 2, b"hello", 3, 4, b"n" * 16)
    assert bytes(asking) == b"\x10\x12\x03\x04" + b"i" * 64 + b"n" * 16 + b"hello"


def test_a_request_reads_as_the_wire_document_says() -> None:
    request = Request(REMOVE, Right.KEY, 7, Identifier(b"i" * 32), b"k" * 16, old=Endpoint("192.0.2.1", 258))
    assert bytes(request) == (
        b"\x12\x01\0\0" + bytes(7) + b"\7" + bytes(16) + b"i" * 32 + b"\4\xc0\0\2\1" + bytes(12) + b"\1\2" + b"k" * 16
    )


@given(MESSAGES)
def test_what_is_written_is_read(message: Message) -> None:
    assert parse(bytes(message)) == message


@given(MESSAGES, st.data())
def test_what_is_cut_off_in_its_head_is_refused(message: Message, data: st.DataObject) -> None:
    whole = bytes(message)
    end = len(whole) - len(message.payload) if isinstance(message, Data) else len(whole)
    with pytest.raises(RemoteProtocolError):
        parse(whole[: data.draw(st.integers(0, end - 1))])


@given(
    st.binary(max_size=300)
    | st.tuples(st.integers(0x10, 0x16), st.binary(max_size=300)).map(lambda t: bytes(t[:1]) + t[1])
    | st.tuples(MESSAGES, st.integers(0, 100), st.integers(0, 255)).map(lambda t: _spoilt(bytes(t[0]), *t[1:]))
)
def test_any_bytes_are_a_message_or_a_protocol_error(data: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        assert bytes(parse(data)) == data


def _spoilt(data: bytes, at: int, value: int) -> bytes:
    at %= len(data)
    return data[:at] + bytes((value,)) + data[at + 1 :]


@given(requests(), st.binary(min_size=16, max_size=16), NUMBERS, ENDPOINTS)
def test_what_a_stranger_is_answered_is_shorter_than_what_it_sent(
    request: Request, nonce: bytes, number: int, seen: Endpoint
) -> None:
    assert len(bytes(Challenge(number, nonce))) < len(bytes(request))
    assert len(bytes(Answer(Status.FULL, 30, number, nonce, seen))) < len(bytes(request))
    assert len(bytes(Challenge(0, nonce))) < len(bytes(Data((request.identifier,), b"", nonce=nonce)))
