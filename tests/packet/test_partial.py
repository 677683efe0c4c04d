"""Packets with open checksums, and super-packets, that came as bytes."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.model import TCP, UDP, Endpoint
from sojourn.packet.checksum import checksum, pseudo_header
from sojourn.packet.ip import ip_header, packed, parse, udp_packet
from sojourn.packet.partial import finished

HERE, THERE = packed("10.201.0.2"), packed("192.0.2.80")


def tcp(payload: bytes, *, is_open: bool) -> bytes:
    body = bytes.fromhex("0fa001bb000000010000000250103000 0000 0000".replace(" ", "")) + payload
    pseudo = pseudo_header(HERE, THERE, TCP, len(body))
    found = pseudo if is_open else checksum(body, pseudo)
    return ip_header(HERE, THERE, TCP, len(body)) + body[:16] + found.to_bytes(2) + body[18:]


def is_right(packet: bytes) -> bool:
    view = parse(packet)
    body = packet[view.header_bytes :]
    return checksum(body, pseudo_header(view.source, view.destination, view.protocol, len(body))) == 0


def test_an_open_checksum_is_completed_and_a_complete_one_is_left() -> None:
    whole = tcp(b"words", is_open=False)
    assert finished(tcp(b"words", is_open=True), 1400) == [whole]
    assert finished(whole, 1400) == [whole]
    wrong = whole[:-1] + b"?"
    assert finished(wrong, 1400) == [wrong], "what was spoilt on its way stays so"
    datagram = udp_packet(Endpoint("10.201.0.2", 1), Endpoint("192.0.2.80", 2), b"words")
    opened = bytearray(datagram)
    opened[26:28] = pseudo_header(HERE, THERE, UDP, 13).to_bytes(2)
    assert finished(bytes(opened), 1400) == finished(datagram, 1400) == [datagram]


def test_a_super_packet_is_cut_to_what_the_tunnel_carries() -> None:
    payload = bytes(range(250)) * 40
    cut = finished(tcp(payload, is_open=True), 1400)
    assert max(map(len, cut)) == 1400
    assert all(map(is_right, cut))
    assert b"".join(packet[40:] for packet in cut) == payload


@given(st.binary(max_size=100), st.integers(0, 100))
def test_any_bytes_give_packets_or_a_protocol_error(data: bytes, mtu: int) -> None:
    with contextlib.suppress(RemoteProtocolError):
        assert b"".join(finished(data, mtu))


@given(st.binary(max_size=3000), st.booleans(), st.integers(0, 1500))
def test_any_tcp_packet_comes_out_right(payload: bytes, is_open: bool, mtu: int) -> None:
    try:
        cut = finished(tcp(payload, is_open=is_open), mtu)
    except RemoteProtocolError:
        assert mtu <= 40
        return
    assert all(map(is_right, cut))
