"""Rendezvous messages, byte for byte."""

import contextlib
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.i3.home import HomeIdentity
from sojourn.i3.identifier import Identifier, private, public
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
    Echo,
    Location,
    Message,
    Probe,
    Request,
    Right,
    Status,
    parse,
)
from sojourn.i3.proof import sign, wrong
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
        st.none() | NONCES, st.booleans(),
    ),
    requests(),
    st.builds(Challenge, NUMBERS, NONCES),
    st.builds(Answer, st.sampled_from(Status), st.integers(0, 255), NUMBERS, NONCES, ENDPOINTS),
    st.builds(Location, st.booleans(), st.integers(0, 255), IDENTIFIERS, NONCES, st.none() | ENDPOINTS),
    st.builds(Probe, NUMBERS),
    st.builds(Echo, NUMBERS, st.binary(min_size=8, max_size=8)),
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
    | st.tuples(st.integers(0x10, 0x18), st.binary(max_size=300)).map(lambda t: bytes(t[:1]) + t[1])
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


def documented(kind: str) -> dict[str, str]:
    """Return the values of a block of docs/wire.md."""
    text = (Path(__file__).parents[2] / "docs" / "wire.md").read_text()
    (block,) = re.findall(rf"^```toml {kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    values: dict[str, str] = tomllib.loads(block)
    return values


def test_the_identifiers_of_the_wire_document_are_what_the_program_makes() -> None:
    given_ = documented("identifiers")
    secret, prefix = bytes.fromhex(given_["secret"]), bytes.fromhex(given_["prefix"])
    host = HomeIdentity(bytes(range(32)), bytes(range(32, 64)))
    assert private(secret, prefix).hex() == given_["private"]
    assert (host.keys.signing.hex(), host.keys.exchange.hex()) == (given_["ed25519"], given_["x25519"])
    assert (host.address, public(host.address).hex()) == (given_["home"], given_["public"])


def test_the_messages_of_the_wire_document_are_what_the_program_writes_reads_and_accepts() -> None:
    written, known = documented("rendezvous"), documented("identifiers")
    one, home = (Identifier(bytes.fromhex(known[name])) for name in ("private", "public"))
    nonce, number, host = bytes(range(0xA0, 0xB0)), 0x0102030405060708, Endpoint("198.51.100.1", 4000)
    node, secret = Endpoint("203.0.113.9", 1801), bytes.fromhex(known["secret"])
    identity = HomeIdentity(bytes(range(32)), bytes(range(32, 64)))
    signed = sign(Request(INSERT, Right.SIGNED, number + 1, home, b"", nonce), identity, node)
    expected: dict[str, Message] = {
        "data": Data((one,), b"hello"),
        "asks": Data((one, home), b"hello", nonce=nonce),
        "insert": Request(INSERT, Right.KEY, number, one, secret),
        "signed": signed,
        "remove": Request(REMOVE, Right.KEY, number + 2, one, secret, nonce, (), host),
        "challenge": Challenge(number, nonce),
        "answer": Answer(Status.INSERTED, 30, number + 1, nonce, host),
        "location": Location(True, 30, one, nonce, None),
        "relayed": Data((one,), b"hello", 15, relayed=True),
        "probe": Probe(number),
        "echo": Echo(number, b"Seminar1"),
    }
    assert {name: bytes(message).hex() for name, message in expected.items()} == written
    assert {name: parse(bytes.fromhex(text)) for name, text in written.items()} == expected
    for name in ("insert", "signed", "remove"):
        request = parse(bytes.fromhex(written[name]))
        assert isinstance(request, Request)
        assert wrong(request, {node}) is None
