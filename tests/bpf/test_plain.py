"""The kernel path's programs against the forwarder: byte for byte the same, or the packet is left to it unchanged."""

import os
import struct
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sojourn.datapath.loop import boot_time
from sojourn.model import ICMP, ICMPV6, TCP, UDP, Endpoint, TunnelId
from sojourn.packet.checksum import checksum, pseudo_header
from sojourn.packet.ip import IPV4_HEADER, IPV6_HEADER, ip_header, packed, udp_packet
from sojourn.paft import Row
from sojourn.upmt.commands import CloseTunnel, OpenTunnel, Role
from tests.harness.bpf_ran import DROPPED, PASSED, SENT_ON
from tests.harness.kernel_twin import (
    HERE,
    LOOPBACK,
    ME,
    MTU,
    SIGNALS,
    THERE,
    TUNNEL,
    VIPA,
    VIPA6,
    twin,
)
from tests.harness.kernel_twin import Twin as Pair

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: BPF programs")

PEER, PEER6 = "192.0.2.80", "2001:db8:9::80"
ETHERNET = 14
PORT, PEER_PORT, IDENTIFIER = 4000, 443, 77
CE, ECT0, ECT1, NOT_ECT = 3, 2, 1, 0
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

kinds = [(role, outer) for role in Role for outer in (4, 6)]


@pytest.fixture(scope="module", params=kinds, ids=lambda kind: f"{kind[0]}-over-ipv{kind[1]}")
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    role, outer = request.param
    with twin(role, outer) as made:
        if outer == 6:  # the peer goes without checksum, too
            made.run("arrive_ethernet", wrapped(made, b"\0" * 20), 6)
        for six in (False, True):
            for outwards in (True, False):
                for protocol in (TCP, UDP, ICMPV6 if six else ICMP):
                    begin(made, inner(made, protocol, six=six, outwards=outwards), outwards)
        yield made


def begin(pair: Pair, packet: bytes, outwards: bool) -> None:
    """Let the forwarder have a flow's first packet."""
    if outwards:
        pair.forwarder.from_inner(packet, boot_time())
    else:
        pair.from_peer(packet)
    pair.take_sent()
    pair.take_delivered()
    pair.kernel.flush()


def inner(
    pair: Pair, protocol: int, *, six: bool = False, outwards: bool = True, payload: bytes = b"some words",
    flags: int = ACK, ecn: int = NOT_ECT, port: int = PORT,
) -> bytes:  # fmt: skip
    """Return a packet between the Vipa and its correspondent, `outwards` = into the tunnel."""
    ours, theirs = (VIPA6, PEER6) if six else (VIPA, PEER)
    from_host = outwards is (pair.role is Role.HOST)
    source, destination = (ours, theirs) if from_host else (theirs, ours)
    ports = struct.pack("!HH", *((port, PEER_PORT) if from_host else (PEER_PORT, port)))
    if protocol == TCP:
        body = ports + struct.pack("!IIBBHHH", 1, 2, 0x50, flags, 1000, 0, 0) + payload
        at = 16
    elif protocol == UDP:
        body = ports + struct.pack("!HH", 8 + len(payload), 0) + payload
        at = 6
    else:
        kind = (128 if from_host else 129) if six else (8 if from_host else 0)
        body = struct.pack("!BBHHH", kind, 0, 0, IDENTIFIER, 1) + payload
        at = 2
    pseudo = 0 if protocol == ICMP else pseudo_header(packed(source), packed(destination), protocol, len(body))
    body = body[:at] + checksum(body, pseudo).to_bytes(2) + body[at + 2 :]
    packet = bytearray(ip_header(packed(source), packed(destination), protocol, len(body)) + body)
    if six:
        packet[1] |= ecn << 4
    else:
        packet[1], packet[10:12] = ecn, b"\0\0"
        packet[10:12] = checksum(packet[:IPV4_HEADER]).to_bytes(2)
    return bytes(packet)


def header(
    pair: Pair, source: Endpoint, destination: Endpoint, size: int, ecn: int, *, fragment: bool = False
) -> bytes:
    """Return the outer headers of `size` bytes, as docs/wire.md has them; IPv4's identification is 0."""
    udp = struct.pack("!HHHH", source.port, destination.port, 8 + size, 0)
    ends = packed(source.address) + packed(destination.address)
    if pair.outer == 6:
        return struct.pack("!IHBB", 6 << 28 | ecn << 20, 8 + size, UDP, 64) + ends + udp
    ip = struct.pack("!BBHHHBBH", 0x45, ecn, 28 + size, 0, 0 if fragment else 0x4000, 64, UDP, 0) + ends
    return ip[:10] + checksum(ip).to_bytes(2) + ip[12:] + udp


def wrapped(pair: Pair, packet: bytes, ecn: int = NOT_ECT) -> bytes:
    """Return what the tunnel's peer sends to carry a packet."""
    return header(pair, pair.remote[pair.outer], pair.local[pair.outer], len(packet), ecn) + packet


def runs(packet: bytes) -> bool:
    """Say whether a test run takes a packet as its outermost one: it wants an IP header's worth of bytes."""
    return len(packet) >= (IPV6_HEADER if family_of(packet) == 6 else IPV4_HEADER)


def family_of(packet: bytes) -> int:
    return 6 if packet[:1] and packet[0] >> 4 == 6 else 4


def check_leaving(pair: Pair, packet: bytes) -> bool:
    """Ask both about a packet from the capturing device; say whether the programs have carried it."""
    rows = {key: row.tunnel for key, row in pair.forwarder.paft.rows.items()}
    ran = pair.run("leave_ethernet", packet, family_of(packet))
    assert {key: row.tunnel for key, row in pair.forwarder.paft.rows.items()} == rows
    pair.forwarder.from_inner(packet, boot_time())
    sent, answers = pair.take_sent(), pair.take_delivered()
    pair.kernel.flush()
    if ran.verdict == PASSED:
        assert ran.frame[ETHERNET:] == packet
        return False
    assert ran.verdict == SENT_ON
    ((datagram, destination, fragment, ecn),) = sent
    assert not answers
    assert destination == pair.remote[pair.outer]
    expected = header(pair, pair.local[pair.outer], destination, len(datagram), ecn, fragment=fragment) + datagram
    assert ran.frame[ETHERNET:] == expected
    assert ran.frame[12:14] == (b"\x86\xdd" if pair.outer == 6 else b"\x08\0")
    return True


def check_arriving(pair: Pair, packet: bytes, ecn: int = NOT_ECT) -> int:
    """Ask both about a packet that the tunnel carries; return what the programs answered."""
    whole = wrapped(pair, packet, ecn)
    drops = pair.forwarder.totals["congestion-drops"]
    ran = pair.run("arrive_ethernet", whole, pair.outer)
    pair.from_peer(packet, ecn)
    delivered = pair.take_delivered()
    pair.take_sent()
    pair.kernel.flush()
    if ran.verdict == PASSED:
        assert ran.frame[ETHERNET:] == whole
    elif ran.verdict == DROPPED:
        assert not delivered
        assert pair.forwarder.totals["congestion-drops"] == drops + 1
    else:
        assert ran.verdict == SENT_ON
        assert [ran.frame[ETHERNET:]] == delivered
    return ran.verdict


carried = pytest.mark.parametrize("six", [False, True], ids=["ipv4", "ipv6"])
protocols = pytest.mark.parametrize("protocol", [TCP, UDP, ICMP], ids=["tcp", "udp", "echo"])


@carried
@protocols
@pytest.mark.parametrize("ecn", [NOT_ECT, ECT1, ECT0, CE])
def test_a_known_flow_s_packets_leave_as_the_forwarder_sends_them(
    pair: Pair, protocol: int, six: bool, ecn: int
) -> None:
    kind = ICMPV6 if protocol == ICMP and six else protocol
    assert check_leaving(pair, inner(pair, kind, six=six, ecn=ecn))


@carried
@protocols
@pytest.mark.parametrize("inside", [NOT_ECT, ECT1, ECT0, CE])
@pytest.mark.parametrize("outside", [NOT_ECT, ECT1, ECT0, CE])
def test_congestion_is_handed_on_as_rfc_6040_has_it(
    pair: Pair, protocol: int, six: bool, inside: int, outside: int
) -> None:
    kind = ICMPV6 if protocol == ICMP and six else protocol
    verdict = check_arriving(pair, inner(pair, kind, six=six, outwards=False, ecn=inside), outside)
    assert verdict == (DROPPED if (inside, outside) == (NOT_ECT, CE) else SENT_ON)


@carried
@pytest.mark.parametrize("flags", [SYN, FIN | ACK, RST, SYN | ACK])
def test_the_ends_of_a_connection_are_left_to_the_forwarder(pair: Pair, six: bool, flags: int) -> None:
    assert not check_leaving(pair, inner(pair, TCP, six=six, flags=flags))
    assert check_arriving(pair, inner(pair, TCP, six=six, outwards=False, flags=flags)) == PASSED


@carried
def test_what_is_larger_than_the_path_is_left_to_the_forwarder_who_answers(pair: Pair, six: bool) -> None:
    room = MTU - (IPV6_HEADER if six else IPV4_HEADER) - 8
    assert check_leaving(pair, inner(pair, UDP, six=six, payload=bytes(room)))
    large = inner(pair, UDP, six=six, payload=bytes(room + 1))
    if not six:
        large = large[:6] + b"\x40" + large[7:]
    assert pair.run("leave_ethernet", large, family_of(large)).verdict == PASSED


@carried
def test_flows_without_a_row_and_signals_are_left_to_the_forwarder(pair: Pair, six: bool) -> None:
    assert not check_leaving(pair, inner(pair, UDP, six=six, port=4999))
    assert check_leaving(pair, inner(pair, UDP, six=six, port=4999)), "it has one now"
    ours = Endpoint(VIPA6 if six else VIPA, 5060)
    signal = udp_packet(ours, Endpoint(SIGNALS[six], 5060), b"MESSAGE")
    answer = udp_packet(Endpoint(SIGNALS[six], 5060), ours, b"SIP/2.0")
    if pair.role is Role.ANCHOR:
        signal, answer = answer, signal
    for _ in range(2):
        assert not check_leaving(pair, signal)
        assert check_arriving(pair, answer) == PASSED


def test_only_the_tunnel_s_own_ends_are_taken_out(pair: Pair) -> None:
    packet = inner(pair, UDP, outwards=False)
    peer, here = pair.remote[pair.outer], pair.local[pair.outer]
    other = Endpoint(("2001:db8:2::66" if pair.outer == 6 else "203.0.113.66"), peer.port)
    for source, destination in (
        (other, here), (Endpoint(peer.address, peer.port + 1), here), (peer, Endpoint(here.address, here.port + 1)),
        (peer, other),
    ):  # fmt: skip
        whole = header(pair, source, destination, len(packet), 0) + packet
        ran = pair.run("arrive_ethernet", whole, pair.outer)
        assert (ran.verdict, ran.frame[ETHERNET:]) == (PASSED, whole)
    assert check_arriving(pair, packet) == SENT_ON


def test_what_follows_the_outer_packet_is_not_part_of_it(pair: Pair) -> None:
    packet = inner(pair, UDP, outwards=False)
    ran = pair.run("arrive_ethernet", wrapped(pair, packet) + bytes(6), pair.outer)
    assert ran.verdict == SENT_ON
    assert ran.frame[ETHERNET:] == packet + bytes(6), "the kernel cuts it (ip_rcv), as of any short Ethernet frame"


@carried
def test_single_tcp_packets_take_the_way_on_which_they_are_joined_and_nothing_else_does(pair: Pair, six: bool) -> None:
    joined = bytes.fromhex("020000000007")
    pair.tables.attend(boot_time() + 60, LOOPBACK, pair.role is Role.ANCHOR, (LOOPBACK, joined))
    try:
        for protocol in (TCP, UDP):
            packet = inner(pair, protocol, six=six, outwards=False)
            ran = pair.run("arrive_ethernet", wrapped(pair, packet), pair.outer)
            assert (ran.verdict, ran.frame[ETHERNET:]) == (SENT_ON, packet)
            ethernet = joined + bytes(6) + (b"\x86\xdd" if six else b"\x08\0")
            assert (ran.frame[:ETHERNET] == ethernet) is (protocol == TCP)
        assert pair.run("joined_ethernet", packet, 6 if six else 4).verdict == SENT_ON
    finally:
        pair.tables.attend(boot_time() + 60, LOOPBACK, pair.role is Role.ANCHOR)


@pytest.mark.parametrize(("at", "value"), [(6, 0x20), (7, 0x01), (0, 0x46)], ids=["first", "later", "options"])
def test_fragments_and_options_outside_are_left_to_the_kernel(at: int, value: int) -> None:
    with twin(Role.HOST) as pair:
        packet = inner(pair, UDP, outwards=False)
        begin(pair, packet, False)
        whole = bytearray(wrapped(pair, packet))
        assert pair.run("arrive_ethernet", bytes(whole), 4).verdict == PASSED, "nothing has been sent in this flow yet"
        begin(pair, inner(pair, UDP), True)
        pair.kernel.rows.recheck()
        pair.kernel.flush()
        assert pair.run("arrive_ethernet", bytes(whole), 4).verdict == SENT_ON
        whole[at] = value
        ran = pair.run("arrive_ethernet", bytes(whole), 4)
        assert (ran.verdict, ran.frame[ETHERNET:]) == (PASSED, bytes(whole))


tunnel_packets = st.one_of(
    st.binary(max_size=90),
    st.builds(
        lambda six, protocol, size, ecn, flags, port: (six, protocol, size, ecn, flags, port),
        st.booleans(), st.sampled_from((TCP, UDP, ICMP)), st.integers(0, 60), st.integers(0, 3), st.integers(0, 255),
        st.sampled_from((PORT, PORT, PORT, 5060, 4321)),
    ),
)  # fmt: skip
changes = st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255)), max_size=2)
EXAMPLES = settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def made(pair: Pair, form: object, changed: list[tuple[int, int]], outwards: bool) -> bytes:
    """Return a packet of hypothesis' making: random, or a good one with a few bytes changed."""
    if isinstance(form, bytes):
        return form
    assert isinstance(form, tuple)
    six, protocol, size, ecn, flags, port = form
    kind = ICMPV6 if protocol == ICMP and six else protocol
    packet = bytearray(
        inner(pair, kind, six=six, outwards=outwards, payload=bytes(size), ecn=ecn, flags=flags, port=port)
    )
    for at, value in changed:
        if at < len(packet):
            packet[at] = value
    return bytes(packet)


@EXAMPLES
@given(form=tunnel_packets, changed=changes)
def test_whatever_leaves_leaves_as_the_forwarder_sends_it(
    pair: Pair, form: object, changed: list[tuple[int, int]]
) -> None:
    packet = made(pair, form, changed, True)
    if runs(packet):
        check_leaving(pair, packet)


@EXAMPLES
@given(form=tunnel_packets, changed=changes, ecn=st.integers(0, 3))
def test_whatever_arrives_is_delivered_as_the_forwarder_does(
    pair: Pair, form: object, changed: list[tuple[int, int]], ecn: int
) -> None:
    packet = made(pair, form, changed, False)
    if packet:
        check_arriving(pair, packet, ecn)


@EXAMPLES
@given(data=st.binary(min_size=IPV4_HEADER, max_size=120))
def test_any_bytes_at_all_are_let_by_unchanged(pair: Pair, data: bytes) -> None:
    for program in ("leave_ethernet", "arrive_ethernet", "leave_bare", "arrive_bare"):
        ran = pair.run(program, data, 4)
        assert (ran.verdict, ran.frame[ETHERNET:]) == (PASSED, data)


def test_a_tunnel_that_is_closed_carries_nothing_and_opens_again() -> None:
    with twin(Role.HOST) as pair:
        out, into = inner(pair, UDP), inner(pair, UDP, outwards=False)
        begin(pair, out, True)
        assert check_leaving(pair, out)
        assert check_arriving(pair, into) == SENT_ON
        pair.path.submit([CloseTunnel(TUNNEL)])
        pair.kernel.touch()
        pair.kernel.flush()
        assert not check_leaving(pair, out)
        assert pair.run("arrive_ethernet", wrapped(pair, into), 4).verdict == PASSED
        assert pair.kernel.tunnels == len(pair.kernel.rows) == 0
        pair.path.submit([OpenTunnel(ME, TUNNEL, "lo", HERE[4], THERE[4], sealed=False)])
        (row,) = pair.forwarder.paft.rows.values()
        pair.forwarder.paft.place(row, TUNNEL, boot_time())
        pair.kernel.flush()
        assert pair.run("leave_ethernet", out, 4).verdict == SENT_ON


def test_over_ipv6_nothing_leaves_without_checksum_unless_both_ends_are_for_it() -> None:
    for role in Role:
        with twin(role, 6, zero_checksum6=False) as pair:
            assert pair.kernel.tunnels == 0
        with twin(role, 6) as pair:
            out = inner(pair, UDP)
            begin(pair, out, True)
            assert check_leaving(pair, out) is (role is Role.HOST)
            pair.run("arrive_ethernet", wrapped(pair, b"\0" * 20), 6)
            assert check_leaving(pair, out), "the peer has shown that it goes without"


def test_programs_that_nobody_looks_after_let_everything_by() -> None:
    with twin(Role.HOST) as pair:
        out = inner(pair, UDP)
        begin(pair, out, True)
        assert check_leaving(pair, out)
        pair.tables.attend(boot_time() - 1, 1, False)
        assert pair.run("leave_ethernet", out, 4).verdict == PASSED
        assert pair.run("arrive_ethernet", wrapped(pair, inner(pair, UDP, outwards=False)), 4).verdict == PASSED


def test_a_row_of_another_association_is_not_fed_by_this_tunnel() -> None:
    with twin(Role.ANCHOR) as pair:
        packet = inner(pair, UDP, outwards=False)
        begin(pair, packet, False)
        (key,) = pair.forwarder.paft.rows
        pair.forwarder.paft.remove(key)
        row = Row(type(ME)(ME + 1), TunnelId(TUNNEL), boot_time())
        pair.forwarder.paft.add(key, row)
        pair.kernel.flush()
        assert pair.run("arrive_ethernet", wrapped(pair, packet), 4).verdict == PASSED
