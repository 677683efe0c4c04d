import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.model import ICMP, ICMPV6, TCP, UDP, Endpoint, Flow
from sojourn.packet import ip
from tests.packet.build import (
    HOST4,
    HOST6,
    MSS_1460,
    PEER4,
    PEER6,
    TIMESTAMPS,
    checksums_hold,
    echo_packet,
    ends,
    tcp_packet,
)

both = pytest.mark.parametrize("six", [False, True], ids=["ipv4", "ipv6"])


@both
def test_host_and_anchor_build_one_key_for_both_directions(six: bool) -> None:
    host, peer = ends(six)
    out, back = tcp_packet(host, peer, b"x"), tcp_packet(peer, host, b"y")
    key = ip.flow_key(out)
    assert key == ip.flow_key(back, inbound=True)
    assert len(key) == (37 if six else 13)
    assert ip.flow_of(key) == Flow(TCP, host, peer)
    assert ip.key_of(Flow(TCP, host, peer)) == key


def test_a_packet_that_stands_behind_a_virtio_header_is_read_there() -> None:
    host, peer = ends()
    packet = tcp_packet(host, peer)
    assert ip.flow_key(bytes(10) + packet, 10) == ip.flow_key(packet)


@both
def test_echo_questions_and_answers_are_one_flow_by_their_identifier(six: bool) -> None:
    host, peer = (HOST6, PEER6) if six else (HOST4, PEER4)
    question = ip.flow_key(echo_packet(host, peer, 4711))
    answer = ip.flow_key(echo_packet(peer, host, 4711, answer=True), inbound=True)
    assert question == answer
    assert ip.flow_of(question) == Flow(ICMPV6 if six else ICMP, Endpoint(host, 4711), Endpoint(peer, 0))


@both
def test_an_icmp_error_belongs_to_the_flow_that_it_is_about(six: bool) -> None:
    host, peer = ends(six)
    packet = tcp_packet(host, peer, bytes(1300))
    router = "2001:db8::1" if six else "198.51.100.1"
    error = ip.too_big(packet, 1280, router)
    assert ip.flow_key(error, inbound=True) == ip.flow_key(packet)
    assert checksums_hold(error)
    assert len(error) <= (1280 if six else 576)
    view = ip.parse(error)
    assert (ip.text(view.source), view.destination) == (router, ip.packed(host.address))


@both
def test_an_icmp_error_to_anyone_but_the_quoted_sender_has_no_flow(six: bool) -> None:
    host, peer = ends(six)
    quoted = tcp_packet(peer, host, bytes(64))  # what the host got, and says that it could not take
    kind = ICMPV6 if six else ICMP
    body = bytes((1 if six else 3, 1)) + bytes(6) + quoted
    error = ip.ip_header(ip.packed(host.address), ip.packed(peer.address), kind, len(body)) + body
    assert ip.flow_key(error) == ip.flow_key(quoted, inbound=True)
    elsewhere = "2001:db8:bad::1" if six else "169.254.169.254"
    with pytest.raises(RemoteProtocolError):
        ip.flow_key(ip.ip_header(ip.packed(host.address), ip.packed(elsewhere), kind, len(body)) + body)


def test_an_error_with_the_shortest_quote_allowed_still_names_its_flow() -> None:
    host, peer = ends()
    packet = tcp_packet(host, peer, bytes(100))
    body = b"\x0b\0\0\0\0\0\0\0" + packet[:28]
    error = ip.ip_header(ip.packed("198.51.100.1"), ip.packed(HOST4), ICMP, len(body)) + body
    assert ip.flow_key(error, inbound=True) == ip.flow_key(packet)


def test_fragments_have_no_ports() -> None:
    host, peer = ends()
    first = bytearray(ip.udp_packet(host, peer, bytes(100)))
    first[6] = 0x20
    assert ip.flow_of(ip.flow_key(first)) == Flow(UDP, Endpoint(HOST4, 0), Endpoint(PEER4, 0))
    assert ip.parse(first).is_fragment
    assert ip.parse(first).has_transport


def test_ipv6_extension_headers_are_walked_to_the_transport() -> None:
    host, peer = ends(True)
    plain = ip.udp_packet(host, peer, b"abc")
    options = bytes((UDP, 0, 1, 4, 0, 0, 0, 0))
    hop_by_hop = bytes((60, 1)) + bytes(14)
    extended = ip.ip_header(ip.packed(HOST6), ip.packed(PEER6), 0, 24 + 11) + hop_by_hop + options + plain[40:]
    assert ip.flow_key(extended) == ip.flow_key(plain)
    assert ip.parse(extended).header_bytes == 64


def test_a_later_ipv6_fragment_has_no_transport_header() -> None:
    fragment = bytes((UDP, 0, 0x05, 0xA9, 0, 0, 0, 7)) + bytes(40)
    packet = ip.ip_header(ip.packed(HOST6), ip.packed(PEER6), 44, len(fragment)) + fragment
    view = ip.parse(packet)
    assert (view.protocol, view.is_fragment, view.has_transport) == (UDP, True, False)
    assert ip.flow_key(packet)[-4:] == bytes(4)


@both
@given(payload=st.binary(max_size=300))
def test_a_udp_packet_reads_back_as_its_parts(six: bool, payload: bytes) -> None:
    host, peer = ends(six)
    packet = ip.udp_packet(host, peer, payload)
    assert checksums_hold(packet)
    assert ip.udp_parts(packet) == (host, peer, payload)


@both
@given(at=st.integers(1, 24), bit=st.integers(0, 7))
def test_a_udp_packet_with_a_flipped_bit_is_refused(six: bool, at: int, bit: int) -> None:
    packet = bytearray(ip.udp_packet(*ends(six), b"eight to the end"))
    packet[-at] ^= 1 << bit
    with pytest.raises(RemoteProtocolError):
        ip.udp_parts(packet)


@both
@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_hint_p_is_completed_whatever_the_field_held(six: bool, protocol: int) -> None:
    host, peer = ends(six)
    whole = tcp_packet(host, peer, b"odd") if protocol == TCP else ip.udp_packet(host, peer, b"odd")
    for garbage in (b"\0\0", b"\x12\x34"):
        partial = bytearray(whole)
        field = (40 if six else 20) + (16 if protocol == TCP else 6)
        partial[field : field + 2] = garbage
        ip.complete_checksum(partial)
        assert bytes(partial) == whole


def test_hint_p_on_a_packet_without_a_transport_checksum_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        ip.complete_checksum(bytearray(echo_packet(HOST4, PEER4, 1)))


@both
@pytest.mark.parametrize("options", [MSS_1460, TIMESTAMPS + MSS_1460, b"\x01" + MSS_1460 + b"\x01\x01\x01"])
def test_a_syn_offers_no_more_than_the_tunnel_carries(six: bool, options: bytes) -> None:
    host, peer = ends(six)
    syn = bytearray(tcp_packet(host, peer, flags=2, options=options))
    assert ip.clamp_mss(syn, 1300)
    assert checksums_hold(bytes(syn))
    assert (1300).to_bytes(2) in syn[-20:]
    assert not ip.clamp_mss(syn, 1300)


def test_only_a_syn_is_clamped() -> None:
    host, peer = ends()
    segment = bytearray(tcp_packet(host, peer, options=MSS_1460))
    assert not ip.clamp_mss(segment, 1300)


def test_errors_about_errors_fragments_and_groups_are_not_sent() -> None:
    host, peer = ends()
    packet = ip.udp_packet(host, peer, b"x")
    late = bytearray(packet)
    late[7] = 9
    assert ip.may_be_answered(packet)
    assert ip.may_be_answered(echo_packet(HOST4, PEER4, 1))
    assert not ip.may_be_answered(late)
    assert not ip.may_be_answered(ip.too_big(packet, 1280, PEER4))
    assert not ip.may_be_answered(ip.udp_packet(host, Endpoint("224.0.0.251", 5353), b"x"))


@both
@pytest.mark.parametrize("ecn", range(4))
def test_the_ecn_field_is_rewritten_with_a_right_checksum(six: bool, ecn: int) -> None:
    host, peer = ends(six)
    packet = bytearray(ip.udp_packet(host, peer, b"x"))
    ip.set_ecn(packet, ecn)
    assert ip.ecn_of(packet) == ip.parse(packet).ecn == ecn
    assert checksums_hold(bytes(packet))


def test_decapsulation_follows_figure_4_of_rfc_6040() -> None:
    not_ect, ect1, ect0, ce = 0, 1, 2, 3
    table = {
        not_ect: (not_ect, not_ect, not_ect, None),
        ect0: (ect0, ect1, ect0, ce),
        ect1: (ect1, ect1, ect1, ce),
        ce: (ce, ce, ce, ce),
    }
    outers = (not_ect, ect1, ect0, ce)
    for inner, results in table.items():
        assert tuple(ip.decapsulated_ecn(inner, outer) for outer in outers) == results


packets = st.one_of(
    st.binary(max_size=120),
    st.builds(
        lambda packet, cuts, end: bytes(cuts.get(at, byte) for at, byte in enumerate(packet))[:end],
        st.sampled_from(
            [
                tcp_packet(*ends(), flags=2, options=MSS_1460),
                tcp_packet(*ends(True), flags=2, options=MSS_1460),
                ip.udp_packet(*ends(), b"payload"),
                echo_packet(HOST6, PEER6, 9),
                ip.too_big(ip.udp_packet(*ends(), bytes(99)), 1280, PEER4),
                ip.ip_header(ip.packed(HOST6), ip.packed(PEER6), 0, 24) + bytes((44, 0, 0, 0, 0, 0, 0, 0)) + bytes(16),
            ]
        ),
        st.dictionaries(st.integers(0, 60), st.integers(0, 255), max_size=4),
        st.integers(0, 130),
    ),
)
readers: list[Callable[[bytes], object]] = [
    ip.parse,
    ip.flow_key,
    lambda packet: ip.flow_key(packet, inbound=True),
    lambda packet: ip.flow_of(packet[:40]),
    ip.udp_parts,
    lambda packet: ip.complete_checksum(bytearray(packet)),
    lambda packet: ip.clamp_mss(bytearray(packet), 1200),
    ip.may_be_answered,
    lambda packet: ip.too_big(packet, 1280, PEER6 if packet[:1] >= b"\x60" else PEER4),
]


@pytest.mark.parametrize("read", readers)
@given(packet=packets)
def test_whatever_bytes_come_the_answer_is_a_value_or_a_remote_protocol_error(
    read: Callable[[bytes], object], packet: bytes
) -> None:
    with contextlib.suppress(RemoteProtocolError):
        read(packet)
