import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.model import TCP, UDP
from sojourn.packet import vnet
from sojourn.packet.checksum import pseudo_header
from sojourn.packet.gso import coalesce, finish, split
from sojourn.packet.ip import parse, udp_packet
from sojourn.packet.vnet import VnetHeader
from tests.packet.build import checksums_hold, ends, tcp_packet

ACK, PSH, FIN, CWR = 0x10, 8, 1, 0x80
both = pytest.mark.parametrize("six", [False, True], ids=["ipv4", "ipv6"])
either = pytest.mark.parametrize("protocol", [TCP, UDP], ids=["tcp", "udp"])


def super_packet(six: bool, protocol: int, payload: bytes, size: int, flags: int = ACK) -> tuple[VnetHeader, bytes]:
    """What the kernel hands over: one header, all payload, a checksum that is still to come."""
    at = 40 if six else 20
    if protocol == TCP:
        packet, head, field = tcp_packet(*ends(six), payload, flags=flags), at + 32, 16
        kind = (vnet.GSO_TCP6 if six else vnet.GSO_TCP4) | (vnet.GSO_ECN if flags & CWR else 0)
    else:
        packet, head, field, kind = udp_packet(*ends(six), payload), at + 8, 6, vnet.GSO_UDP
    return VnetHeader(vnet.NEEDS_CHECKSUM, kind, head, size, at, field), packet


@both
@either
@given(st.binary(min_size=1, max_size=4000), st.integers(1, 1400))
@settings(max_examples=40)
def test_segments_are_whole_packets_that_hold_the_payload_in_order(
    six: bool, protocol: int, payload: bytes, size: int
) -> None:
    header, packet = super_packet(six, protocol, payload, max(size, len(payload) // 60 + 1))
    segments = split(packet, header)
    head = header.header_bytes
    assert b"".join(segment[head:] for segment in segments) == payload
    assert all(len(segment) - head == header.segment_bytes for segment in segments[:-1])
    assert all(checksums_hold(segment) and parse(segment).total_bytes == len(segment) for segment in segments)


def test_flags_stand_where_linux_puts_them() -> None:
    header, packet = super_packet(False, TCP, bytes(3000), 1000, ACK | PSH | FIN | CWR)
    segments = split(packet, header)
    assert [segment[33] for segment in segments] == [ACK | CWR, ACK, ACK | PSH | FIN]
    assert [int.from_bytes(segment[24:28]) for segment in segments] == [1000, 2000, 3000]


def test_the_sequence_number_wraps() -> None:
    whole = tcp_packet(*ends(), bytes(20), sequence=0xFFFFFFFA)
    segments = split(whole, VnetHeader(1, vnet.GSO_TCP4, 52, 10, 20, 16))
    assert [int.from_bytes(segment[24:28]) for segment in segments] == [0xFFFFFFFA, 4]


def test_the_identification_counts_up_only_where_packets_may_be_fragmented() -> None:
    header, packet = super_packet(False, UDP, bytes(300), 100)
    assert {segment[4:6] for segment in split(packet, header)} == {b"\0\0"}
    free = bytearray(packet)
    free[4:8] = b"\xff\xff\0\0"
    assert [segment[4:6] for segment in split(free, header)] == [b"\xff\xff", b"\0\0", b"\0\1"]


@both
@either
@given(st.integers(1, 3000), st.integers(50, 700), st.sampled_from([ACK, ACK | PSH, ACK | FIN, ACK | CWR]))
@settings(max_examples=40)
def test_segments_come_together_as_the_super_packet_they_were(
    six: bool, protocol: int, length: int, size: int, flags: int
) -> None:
    header, packet = super_packet(six, protocol, bytes(length), size, flags)
    segments = split(packet, header)
    joined = coalesce(segments)
    assert len(joined) == 1
    assert finish(joined[0][1], joined[0][0]) == segments
    if len(segments) > 1:
        assert joined[0][0] == header


@st.composite
def mixtures(draw: st.DrawFn) -> list[bytes]:
    """Packets of few flows, few sizes and sequence numbers that often, but not always, follow each other."""
    packets, sequence = [], 0
    for _ in range(draw(st.integers(1, 12))):
        size = draw(st.sampled_from([0, 1, 40, 40, 40]))
        port = draw(st.sampled_from([1, 1, 2]))
        if draw(st.integers(0, 4)):
            flags = draw(st.sampled_from([ACK, ACK, ACK, ACK | PSH, ACK | 2, ACK | 4, ACK | CWR]))
            packets.append(tcp_packet(*ends(False, port), bytes(size), flags=flags, sequence=sequence))
            sequence += draw(st.sampled_from([size, size, size, 40, 0]))
        else:
            packets.append(udp_packet(*ends(False, port), bytes(size)))
    return packets


@given(mixtures())
def test_what_is_joined_can_always_be_split_again_into_the_same_packets(packets: list[bytes]) -> None:
    joined = coalesce(packets)
    assert [packet for header, whole in joined for packet in finish(whole, header)] == packets


@given(st.lists(st.binary(max_size=80), max_size=4))
def test_garbage_is_left_as_it_is(packets: list[bytes]) -> None:
    assert [whole for _, whole in coalesce(packets)] == packets


def test_a_packet_that_misses_its_checksum_gets_it() -> None:
    whole = udp_packet(*ends(), b"abc")
    partial = bytearray(whole)
    partial[26:28] = pseudo_header(whole[12:16], whole[16:20], UDP, 11).to_bytes(2)
    assert finish(partial, VnetHeader(vnet.NEEDS_CHECKSUM, vnet.NO_GSO, 0, 0, 20, 6)) == [whole]


byte, word = st.integers(0, 255), st.integers(0, 120)


@given(
    st.builds(VnetHeader, st.integers(0, 1), st.sampled_from([0, 1, 4, 5, 0x81, 3]), word, word, word, word),
    st.one_of(
        st.binary(max_size=120),
        st.sampled_from([tcp_packet(*ends(), bytes(50)), udp_packet(*ends(True), bytes(50))]),
        st.builds(
            lambda at, value: tcp_packet(*ends())[:at] + bytes((value,)) + tcp_packet(*ends())[at + 1 :],
            st.integers(0, 51),
            byte,
        ),
    ),
)
def test_any_header_before_any_bytes_gives_packets_or_a_remote_protocol_error(
    header: VnetHeader, packet: bytes
) -> None:
    with contextlib.suppress(RemoteProtocolError):
        assert all(isinstance(each, bytes) for each in finish(packet, header))
