"""What the hot loop seals must be what packet/gso.py cuts, byte for byte, hint P completed."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.datapath.engine_flow import Way
from sojourn.datapath.engine_send import Sender
from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.packet import gso
from sojourn.packet.ip import complete_checksum, udp_packet
from sojourn.packet.seal import PACKETS_PER_EPOCH, Hint, Opened
from sojourn.packet.vnet import VnetHeader
from tests.datapath.engine_pair import ACK, CWR, FIN, MTU, PSH, SYN, TUNNEL, from_kernel, ready_pair
from tests.harness.fakenet import Pair
from tests.packet.build import HOST4, PEER4, echo_packet, ends, tcp_packet

both = pytest.mark.parametrize("six", [False, True], ids=["ipv4", "ipv6"])


@dataclass
class Bench:
    """A sender at one end, and the other end's keys."""

    pair: Pair
    inbound: bool = False
    datagrams: list[bytes] = field(default_factory=list)
    messages: list[int] = field(default_factory=list)
    """How many datagrams each message of the fast path had."""
    ecn: list[int] = field(default_factory=list)
    slow: int = 0

    def __post_init__(self) -> None:
        node, other = (self.pair.anchor, self.pair.host) if self.inbound else (self.pair.host, self.pair.anchor)
        self.tunnel = node.forwarder.tunnels[TUNNEL]
        self.opener = other.forwarder.tunnels[TUNNEL].opener
        self.sender = Sender(node.forwarder, self._transmit, inbound=self.inbound)
        node.on_outer = self._slowly

    def _transmit(self, tunnel: Way, data: memoryview, segment: int, count: int, ecn: int) -> None:
        assert tunnel is self.tunnel
        cut = [bytes(data[at : at + segment]) for at in range(0, len(data), segment)]
        assert len(cut) == count <= 64
        assert len(data) <= 65507
        self.datagrams += cut
        self.messages.append(count)
        self.ecn.append(ecn)

    def _slowly(self, _tunnel: TunnelId, datagram: bytes, _to: Endpoint, _fragment: bool) -> None:
        self.datagrams.append(datagram)
        self.slow += 1

    def take(self, header: VnetHeader, packet: bytes) -> None:
        data = bytes(header) + packet
        self.sender.buffers[0][: len(data)] = data
        self.sender.take(len(data), self.pair.now)

    def opened(self) -> list[Opened]:
        self.sender.flush(self.pair.now)
        assert self.opener is not None
        return [self.opener.open(datagram) for datagram in self.datagrams]

    def packets(self) -> list[bytes]:
        """Return what arrived, in order, with checksums."""
        packets = []
        for opened in self.opened():
            packet = bytearray(opened.plaintext)
            if opened.hint & Hint.PARTIAL:
                complete_checksum(packet)
            packets.append(bytes(packet))
        return packets


@st.composite
def reads(draw: st.DrawFn) -> tuple[VnetHeader, bytes]:
    """What one read of a TUN may give: TCP or UDP, one packet or many, ordinary or not."""
    six, tcp = draw(st.booleans()), draw(st.booleans())
    length = draw(st.one_of(st.integers(0, 40), st.integers(0, 60000)))
    size = draw(st.one_of(st.none(), st.integers(max(1, length // 200), 1600)))
    payload = draw(st.binary(min_size=7, max_size=7)) * (length // 7 + 1)
    flags = draw(st.sampled_from([ACK, ACK, ACK | PSH, ACK | FIN, ACK | CWR, SYN]))
    port = draw(st.sampled_from([443, 443, 443, 444]))
    source, destination = ends(six, remote_port=port)
    if tcp:
        sequence = draw(st.sampled_from([0, 1000, 0xFFFFF000]))
        packet = tcp_packet(source, destination, payload[:length], flags=flags, sequence=sequence)
    else:
        packet = udp_packet(source, destination, payload[:length])
    if size is None and len(packet) > MTU:
        size = 1000
    if draw(st.integers(0, 9)) == 0 and size is None:
        return VnetHeader(), packet  # complete as it is: it was forwarded
    return from_kernel(packet, size, six=six, tcp=tcp, flags=flags)


@given(st.lists(reads(), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_whatever_the_tun_gives_arrives_as_the_oracle_cuts_it(given_reads: list[tuple[VnetHeader, bytes]]) -> None:
    bench, twin = Bench(ready_pair()), ready_pair()
    for header, packet in given_reads:
        bench.take(header, packet)
        for whole in gso.finish(packet, header):
            twin.host.forwarder.from_inner(whole, twin.now)
    twin.run(0.0012)  # what the slow path alone delivers: SYNs clamped, too large packets answered
    assert bench.packets() == [packet for _, packet in twin.to_correspondent]
    mine, other = bench.pair.host.forwarder, twin.host.forwarder
    assert [packet for _, packet in bench.pair.to_host] == [packet for _, packet in twin.to_host]
    for key, row in other.paft.rows.items():
        assert (mine.paft.rows[key].packets_out, mine.paft.rows[key].bytes_out) == (row.packets_out, row.bytes_out)
    assert bench.tunnel.packets_out == other.tunnels[TUNNEL].packets_out
    assert bench.tunnel.bytes_out == other.tunnels[TUNNEL].bytes_out


@both
@pytest.mark.parametrize("tcp", [True, False], ids=["tcp", "udp"])
@pytest.mark.parametrize("inbound", [False, True], ids=["host", "anchor"])
def test_a_full_super_packet_never_meets_the_slow_path(six: bool, tcp: bool, inbound: bool) -> None:
    bench = Bench(ready_pair(), inbound)
    source, destination = ends(six)
    if inbound:
        source, destination = destination, source
    payload = bytes(range(256)) * 240
    packet = (
        tcp_packet(source, destination, payload, flags=ACK | PSH) if tcp else udp_packet(source, destination, payload)
    )
    header, partial = from_kernel(packet, 1300, six=six, tcp=tcp)
    bench.take(header, partial)
    assert bench.packets() == gso.split(partial, header)
    assert bench.slow == 0
    assert bench.messages in ([46, 2], [47, 1], [48])


def test_what_is_left_of_a_super_packet_travels_with_the_next_one() -> None:
    bench = Bench(ready_pair())
    header, packet = from_kernel(tcp_packet(*ends(), bytes(50 * 1300)), 1300)
    expected = gso.split(packet, header)
    for _ in range(3):
        bench.take(header, packet)
    assert bench.packets() == expected * 3
    assert bench.messages == [47, 47, 47, 9]
    assert bench.slow == 0


def test_a_message_ends_with_a_shorter_segment_and_with_another_length() -> None:
    bench = Bench(ready_pair())
    expected: list[bytes] = []
    for length, size in ((3 * 1300, 1300), (1300 + 7, 1300), (4 * 1300, 1300), (4 * 900, 900)):
        header, packet = from_kernel(tcp_packet(*ends(), bytes(length)), size)
        expected += gso.split(packet, header)
        bench.take(header, packet)
    assert bench.packets() == expected
    assert bench.messages == [5, 4, 4]
    assert bench.slow == 0


def test_sequence_numbers_wrap_within_a_super_packet() -> None:
    bench = Bench(ready_pair())
    header, packet = from_kernel(tcp_packet(*ends(), bytes(5000), sequence=0xFFFFFC00), 1000)
    bench.take(header, packet)
    assert bench.packets() == gso.split(packet, header)
    assert bench.slow == 0


def test_hints_say_where_a_super_packet_begins_and_that_checksums_are_open() -> None:
    bench = Bench(ready_pair())
    header, packet = from_kernel(tcp_packet(*ends(), bytes(3000)), 1000)
    bench.take(header, packet)
    bench.take(*from_kernel(udp_packet(*ends(), b"x"), tcp=False))
    bench.take(VnetHeader(), udp_packet(*ends(), b"forwarded"))
    first, second, third, single, whole = bench.opened()
    assert first.hint == Hint.PARTIAL
    assert second.hint == third.hint == Hint.PARTIAL | Hint.CONTINUES
    assert (single.hint, whole.hint) == (Hint.PARTIAL, Hint.NONE)
    assert third.counter == second.counter + 1 == first.counter + 2


def test_single_packets_of_one_size_leave_together() -> None:
    bench = Bench(ready_pair())
    for length in (100, 100, 100, 60, 100):
        bench.take(*from_kernel(udp_packet(*ends(), bytes(length)), tcp=False))
    bench.sender.flush(bench.pair.now)
    assert bench.messages == [4, 1]


def test_a_longer_packet_begins_a_message_of_its_own() -> None:
    bench = Bench(ready_pair())
    for length in (100, 101):
        bench.take(*from_kernel(udp_packet(*ends(), bytes(length)), tcp=False))
    bench.sender.flush(bench.pair.now)
    assert bench.messages == [1, 1]


def test_the_outer_header_says_what_the_inner_one_says_of_congestion() -> None:
    bench = Bench(ready_pair())
    for ecn in (0, 2, 3):
        packet = bytearray(udp_packet(*ends(True), b"x"))
        packet[1] |= ecn << 4
        bench.take(*from_kernel(bytes(packet), six=True, tcp=False))
    bench.sender.flush(bench.pair.now)
    assert bench.ecn == [0, 2, 3]


@pytest.mark.parametrize("flags", [SYN, ACK | FIN, ACK | 4, ACK | CWR])
def test_what_the_forwarder_must_see_goes_there(flags: int) -> None:
    bench = Bench(ready_pair())
    bench.take(*from_kernel(tcp_packet(*ends(), b"", flags=flags)))
    bench.sender.flush(bench.pair.now)
    assert (bench.slow, bench.messages) == (1, [])


def test_a_flow_that_was_told_to_wait_sends_nothing_and_keeps_its_newest_packet() -> None:
    bench = Bench(ready_pair())
    read = from_kernel(tcp_packet(*ends(), bytes(3000)), 1000)
    bench.take(*read)
    for row in bench.pair.host.forwarder.paft.rows.values():
        row.tunnel = None
    bench.take(*read)
    assert (bench.messages, bench.slow) == ([3], 0)
    assert list(bench.pair.host.forwarder.waiting.rows(AssociationId(1)))


def test_a_tunnel_with_limited_credit_is_left_to_the_forwarder() -> None:
    bench = Bench(ready_pair())
    bench.tunnel.fast = False
    bench.take(*from_kernel(tcp_packet(*ends(), bytes(3000)), 1000))
    assert (bench.slow, bench.messages) == (3, [])


def test_an_epoch_ends_at_its_last_packet_and_not_beyond() -> None:
    bench = Bench(ready_pair())
    sealer = bench.tunnel.sealer
    assert sealer is not None
    epoch, sealer.counter = sealer.epoch, PACKETS_PER_EPOCH - 2
    bench.take(*from_kernel(tcp_packet(*ends(), bytes(4000)), 1000))
    opened = bench.opened()
    assert [(each.epoch - epoch, each.counter) for each in opened] == [
        (0, PACKETS_PER_EPOCH - 2),
        (0, PACKETS_PER_EPOCH - 1),
        (1, 0),
        (1, 1),
    ]


@given(st.binary(min_size=1, max_size=200), st.binary(min_size=10, max_size=10))
@settings(max_examples=150, deadline=None)
def test_garbage_from_a_tun_harms_nothing(packet: bytes, header: bytes) -> None:
    bench = Bench(ready_pair_once())
    bench.sender.buffers[0][: 10 + len(packet)] = header + packet
    bench.sender.take(10 + len(packet), bench.pair.now)
    bench.sender.flush(bench.pair.now)


_once: list[Pair] = []


def ready_pair_once() -> Pair:
    if not _once:
        _once.append(ready_pair())
    return _once[0]


def test_icmp_goes_the_slow_way() -> None:
    bench = Bench(ready_pair())
    bench.take(VnetHeader(), echo_packet(HOST4, PEER4, 7))
    assert (bench.slow, bench.messages) == (1, [])
