"""proxy_hdr, byte for byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.i3.flow_triggers import FlowPorts
from sojourn.i3.identifier import Identifier, private, public
from sojourn.i3.proxy_header import EMPTY, FLOW_BYTES, PIGGYBACK_BYTES, ProxyHeader, parse

MINE = private(bytes(16), bytes(range(8)))
PACKET = b"\x60" + bytes(39)


def test_data_alone_travels_without_a_header() -> None:
    assert bytes(ProxyHeader(packet=PACKET)) == PACKET
    assert parse(PACKET) == ProxyHeader(packet=PACKET)


def test_an_identifier_goes_before_the_packet_that_takes_it_along() -> None:
    header = ProxyHeader(MINE, packet=PACKET)
    assert bytes(header) == b"\x23\x00" + MINE + PACKET
    assert len(bytes(header)) == len(PACKET) + PIGGYBACK_BYTES
    assert parse(bytes(header)) == header


@pytest.mark.parametrize("home", ["fd53:6f6a::1", "192.0.2.7"])
def test_an_identifier_alone_comes_with_its_senders_home_address(home: str) -> None:
    header = ProxyHeader(MINE, home)
    assert bytes(header)[:2] == b"\x21\x00"
    assert len(bytes(header)) == 2 + 16 + 32
    assert parse(bytes(header)) == header


def test_an_identifier_may_be_for_one_flow() -> None:
    header = ProxyHeader(MINE, packet=PACKET, flow=FlowPorts(6, 4000, 22))
    assert bytes(header) == b"\x2b\x00" + MINE + bytes((6, 0x0F, 0xA0, 0, 22)) + PACKET
    assert len(bytes(header)) == len(PACKET) + PIGGYBACK_BYTES + FLOW_BYTES
    assert parse(bytes(header)) == header
    with pytest.raises(RemoteProtocolError, match="cut off"):
        parse(b"\x29\x00" + bytes(16) + MINE + bytes(4))


def test_a_header_may_say_nothing_or_ask_for_what_was_sent_last() -> None:
    assert parse(EMPTY) == ProxyHeader()
    assert parse(bytes(ProxyHeader(again=True))) == ProxyHeader(again=True)


@pytest.mark.parametrize(
    "wrong",
    [
        b"", b"\x20", b"\x20\x01", b"\x28\x00", b"\x31\x00", b"\x22\x00", b"\x20\x00rest", b"\x22\x00\x10",
        b"\x21\x00" + bytes(40), b"\x23\x00" + bytes(20), b"\x23\x00" + public("192.0.2.1") + PACKET, b"\x00\x00",
    ],
)  # fmt: skip
def test_what_is_no_header_is_refused(wrong: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse(wrong)


@given(st.binary(max_size=120))
def test_any_bytes_are_a_header_or_an_error(data: bytes) -> None:
    try:
        header = parse(data)
    except RemoteProtocolError:
        return
    assert parse(bytes(header)) == header


def test_the_identifier_is_32_bytes() -> None:
    assert len(Identifier(MINE)) == 32
