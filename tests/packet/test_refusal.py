"""What an application gets for a packet that may not go."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.model import ICMP, ICMPV6, TCP, Endpoint
from sojourn.packet.checksum import checksum, pseudo_header
from sojourn.packet.ip import flow_key, ip_header, parse, udp_packet
from sojourn.packet.refusal import refusal

FOUR = ("10.201.0.2", "192.0.2.80")
SIX = ("fd00::2", "2001:db8::80")
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


def segment(ends: tuple[str, str], flags: int, payload: bytes = b"", sequence: int = 7, answer: int = 0) -> bytes:
    source, destination = (ip_address(end).packed for end in ends)
    head = bytes.fromhex("9c400050") + sequence.to_bytes(4) + answer.to_bytes(4) + bytes((0x50, flags)) + bytes(6)
    length = len(head) + len(payload)
    value = checksum(head + payload, pseudo_header(source, destination, TCP, length))
    return ip_header(source, destination, TCP, length) + head[:16] + value.to_bytes(2) + head[18:] + payload


def numbers(packet: bytes) -> tuple[int, int, int]:
    """Return sequence, acknowledgement and flags; the checksums must hold."""
    view = parse(packet)
    tcp = packet[view.header_bytes :]
    assert checksum(tcp, pseudo_header(view.source, view.destination, TCP, len(tcp))) == 0
    return int.from_bytes(tcp[4:8]), int.from_bytes(tcp[8:12]), tcp[13]


@pytest.mark.parametrize("ends", [FOUR, SIX])
def test_a_tcp_connection_is_reset_as_if_nobody_listened(ends: tuple[str, str]) -> None:
    packet = segment(ends, SYN, sequence=0xFFFFFFFF)
    answer = refusal(packet)
    assert answer is not None
    assert numbers(answer) == (0, 0, RST | ACK)
    assert flow_key(answer, inbound=True) == flow_key(packet)


def test_an_open_connection_is_reset_where_its_peer_would_go_on() -> None:
    answer = refusal(segment(FOUR, ACK | PSH, b"hello", answer=0x01020304))
    assert answer is not None
    assert numbers(answer) == (0x01020304, 0, RST)


def test_what_is_not_acknowledged_yet_is_counted() -> None:
    answer = refusal(segment(FOUR, FIN, b"hello", sequence=100))
    assert answer is not None
    assert numbers(answer) == (0, 106, RST | ACK)


def test_a_reset_is_never_answered() -> None:
    assert refusal(segment(FOUR, RST)) is None


@pytest.mark.parametrize(("ends", "protocol", "start"), [(FOUR, ICMP, b"\x03\x0d"), (SIX, ICMPV6, b"\x01\x01")])
def test_everything_else_is_told_that_it_is_prohibited(ends: tuple[str, str], protocol: int, start: bytes) -> None:
    packet = udp_packet(Endpoint(ends[0], 4000), Endpoint(ends[1], 53), bytes(2000))
    answer = refusal(packet)
    assert answer is not None
    view = parse(answer)
    assert (view.protocol, view.source, view.destination) == (
        protocol, ip_address(ends[1]).packed, ip_address(ends[0]).packed)  # fmt: skip
    body = answer[view.header_bytes :]
    assert body[:2] == start
    assert packet.startswith(body[8:])
    assert len(answer) <= (576 if protocol == ICMP else 1280)
    pseudo = 0 if protocol == ICMP else pseudo_header(view.source, view.destination, ICMPV6, len(body))
    assert checksum(body, pseudo) == 0
    assert flow_key(answer, inbound=True) == flow_key(packet)


def test_multicast_and_icmp_errors_are_not_answered() -> None:
    assert refusal(udp_packet(Endpoint(FOUR[0], 1), Endpoint("224.0.0.1", 1), b"x")) is None
    answer = refusal(udp_packet(Endpoint(FOUR[0], 1), Endpoint(FOUR[1], 1), b"x"))
    assert answer is not None
    assert refusal(answer) is None


@given(st.binary(max_size=80))
def test_any_bytes_are_answered_or_refused(data: bytes) -> None:
    try:
        refusal(data)
    except RemoteProtocolError:
        return
