"""What the hot loop writes must be what `Forwarder.from_outer` writes, byte for byte, and leave the same state."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sojourn.datapath.engine_receive import Receiver
from sojourn.datapath.memory import MemoryDataPath
from sojourn.packet import gso, vnet
from sojourn.packet.checksum import Buffer
from sojourn.packet.frame import EpochFrame
from sojourn.packet.ip import parse, udp_packet
from sojourn.packet.seal import Hint
from tests.datapath.engine_pair import ACK, FIN, PSH, SYN, TUNNEL, completed, from_kernel, ready_pair, source_at_host
from tests.harness.fakenet import Pair
from tests.packet.build import ends, tcp_packet

both = pytest.mark.parametrize("six", [False, True], ids=["ipv4", "ipv6"])


@dataclass
class Bench:
    """A receiver at one end, and a twin of that end which goes the slow way."""

    inbound: bool = True
    writes: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pair, self.twin = ready_pair(), ready_pair()
        node = self.node(self.pair)
        self.receiver = Receiver(node.forwarder, self._write, inbound=self.inbound)
        node.on_inner = lambda packet: self.writes.append(bytes(10) + packet)
        other = self.pair.anchor if self.inbound else self.pair.host
        sealer = other.forwarder.tunnels[TUNNEL].sealer
        assert sealer is not None
        self.sealer = sealer

    def node(self, pair: Pair) -> MemoryDataPath:
        return pair.host if self.inbound else pair.anchor

    def _write(self, parts: Sequence[Buffer]) -> None:
        self.writes.append(b"".join(parts))

    def seal(self, segments: Sequence[bytes], *, hints: bool = True) -> list[bytes]:
        """Seal packets as an honest sender would; checksum fields hold nothing where they are open."""
        datagrams = []
        for index, segment in enumerate(segments):
            packet, hint = bytearray(segment), Hint.NONE
            if hints:
                at, tcp = (40, segment[6] == 6) if segment[0] >> 4 == 6 else (20, segment[9] == 6)
                field = at + (16 if tcp else 6)
                packet[field : field + 2] = b"\xaa\xaa"
                hint = Hint.PARTIAL | (Hint.CONTINUES if index else Hint.NONE)
            datagrams.append(self.sealer.seal(bytes(packet), hint))
        return datagrams

    def take(self, datagrams: Sequence[bytes], ecn: int = 0, most: int = 64) -> None:
        """Hand datagrams over in batches as UDP_GRO makes them (of `most`), and one by one to the twin."""
        mine = self.node(self.pair).forwarder
        source = source_at_host(mine.tunnels[TUNNEL])
        for batch in batches(datagrams, most):
            data = b"".join(batch)
            self.receiver.buffers[0][: len(data)] = data
            on = TUNNEL if self.inbound else None
            self.receiver.take(len(data), len(batch[0]), source, ecn, self.pair.now, on)
            for datagram in batch:
                self.node(self.twin).forwarder.from_outer(datagram, source, self.twin.now, on, ecn)
        self.receiver.flush()

    def expected(self) -> list[bytes]:
        return [packet for _, packet in (self.twin.to_host if self.inbound else self.twin.to_correspondent)]

    def compare(self) -> None:
        assert in_order(completed(self.writes)) == in_order(self.expected())
        mine, other = self.node(self.pair).forwarder, self.node(self.twin).forwarder
        assert mine.refused == other.refused
        assert mine.paft.rows.keys() == other.paft.rows.keys()
        for key, row in other.paft.rows.items():
            assert (mine.paft.rows[key].packets_in, mine.paft.rows[key].bytes_in) == (row.packets_in, row.bytes_in)
        here, there = mine.tunnels[TUNNEL], other.tunnels[TUNNEL]
        assert (here.packets_in, here.bytes_in) == (there.packets_in, there.bytes_in)
        assert here.opener is not None
        assert there.opener is not None
        for slot, same in zip(here.opener.epochs, there.opener.epochs, strict=True):
            for epoch, equal in zip(slot, same, strict=True):
                window, other_window = epoch.window, equal.window
                counters = (1 << window.top + 1) - 1  # there are none below 0
                assert window.top == other_window.top
                assert window.bitmap & counters == other_window.bitmap & counters


def in_order(packets: list[bytes]) -> list[bytes]:
    """Return packets as they must come: one engine writes them all, so in the order that they came in."""
    return packets


def batches(datagrams: Sequence[bytes], most: int) -> list[list[bytes]]:
    """Group as the kernel does: equal lengths, at most `most` (64), a shorter one ends its batch."""
    groups: list[list[bytes]] = []
    for datagram in datagrams:
        last = groups[-1] if groups else None
        if (
            last
            and len(last[-1]) == len(last[0]) >= len(datagram)
            and len(last) < most
            and sum(map(len, last)) + len(datagram) <= 65535
        ):
            last.append(datagram)
        else:
            groups.append([datagram])
    return groups


def train(
    six: bool, tcp: bool, length: int, size: int, *, up: bool = False, flags: int = ACK, port: int = 443
) -> list[bytes]:
    """Return the segments of one super-packet of the correspondent (or, `up`, of the host)."""
    host, peer = ends(six, remote_port=port)
    source, destination = (host, peer) if up else (peer, host)
    payload = bytes(at & 255 for at in range(length))
    packet = tcp_packet(source, destination, payload, flags=flags) if tcp else udp_packet(source, destination, payload)
    header, partial = from_kernel(packet, size, six=six, tcp=tcp)
    return gso.finish(partial, header)


@both
@pytest.mark.parametrize("tcp", [True, False], ids=["tcp", "udp"])
@pytest.mark.parametrize("inbound", [True, False], ids=["host", "anchor"])
def test_a_train_is_written_as_the_super_packet_that_it_was(six: bool, tcp: bool, inbound: bool) -> None:
    bench = Bench(inbound)
    segments = train(six, tcp, 40000, 1300, up=not inbound, flags=ACK | PSH)
    bench.take(bench.seal(segments))
    assert len(bench.writes) == 1
    assert vnet.parse(bench.writes[0]).segment_bytes == 1300
    assert completed(bench.writes) == segments
    bench.compare()


@both
@pytest.mark.parametrize("tcp", [True, False], ids=["tcp", "udp"])
@pytest.mark.parametrize("inbound", [True, False], ids=["host", "anchor"])
def test_a_super_packet_that_came_in_two_batches_is_written_whole(six: bool, tcp: bool, inbound: bool) -> None:
    bench = Bench(inbound)
    segments = train(six, tcp, 64000, 1300, up=not inbound, flags=ACK | PSH)
    bench.take(bench.seal(segments), most=25)
    assert len(segments) == 50
    assert len(bench.writes) == 1
    assert completed(bench.writes) == segments
    bench.compare()


def test_what_does_not_go_on_with_the_batch_before_is_written_by_itself() -> None:
    bench = Bench()
    one, other = train(False, True, 13000, 1300), train(False, True, 13000, 1300)
    bench.take(bench.seal(one) + bench.seal(other), most=10)
    assert len(bench.writes) == 2
    assert completed(bench.writes) == one + other
    bench.compare()


def test_batches_of_one_length_may_be_of_any_size() -> None:
    bench = Bench()
    segments: list[bytes] = []
    for most in (1, 3, 40, 2):
        more = train(False, True, 52000, 1300)
        bench.take(bench.seal(more), most=most)
        segments += more
    assert completed(bench.writes) == segments
    bench.compare()


def test_a_packet_lost_between_two_batches_is_not_bridged() -> None:
    bench = Bench()
    segments = train(False, True, 26000, 1300)
    datagrams = bench.seal(segments)
    del datagrams[10]
    bench.take(datagrams, most=10)
    assert completed(bench.writes) == segments[:10] + segments[11:]
    bench.compare()


def test_what_is_held_leaves_before_a_packet_that_goes_the_slow_way() -> None:
    bench = Bench()
    first, fin = train(False, True, 13000, 1300), train(False, True, 0, 1, flags=ACK | FIN)
    bench.take(bench.seal(first) + bench.seal(fin), most=10)
    assert completed(bench.writes) == first + fin
    bench.compare()


def test_a_lost_packet_costs_one_more_write_and_no_more() -> None:
    bench = Bench()
    segments = train(False, True, 13000, 1300)
    datagrams = bench.seal(segments)
    del datagrams[4]
    bench.take(datagrams)
    assert len(bench.writes) == 2
    assert completed(bench.writes) == segments[:4] + segments[5:]
    bench.compare()


def test_a_replayed_batch_changes_nothing() -> None:
    bench = Bench()
    datagrams = bench.seal(train(False, True, 13000, 1300))
    bench.take(datagrams)
    written = len(bench.writes)
    bench.take(datagrams)
    assert len(bench.writes) == written
    assert bench.pair.host.forwarder.refused["replayed"] == len(datagrams)
    bench.compare()


@given(
    st.booleans(),
    st.integers(1, 600),
    st.lists(st.tuples(st.one_of(st.just(0), st.integers(0, 640)), st.integers(0, 3)), min_size=1, max_size=9),
)
@settings(max_examples=150, deadline=None)
def test_whatever_an_authentic_sender_claims_what_is_written_is_well_formed(
    tcp: bool, length: int, claims: list[tuple[int, int]]
) -> None:
    bench = _once(0)
    packet = train(False, tcp, length, 1300)[0]
    datagrams = [bench.sealer.seal(packet[: max(len(packet) - cut, 1)], Hint(hint << 3)) for cut, hint in claims]
    bench.writes.clear()
    bench.take(datagrams)
    for whole in bench.writes:
        header, written = vnet.parse(whole), whole[vnet.HEADER_BYTES :]
        assert parse(written).total_bytes == len(written)
        assert gso.finish(written, header)


@st.composite
def traffic(draw: st.DrawFn) -> list[tuple[str, int]]:
    """A list of what comes: trains of several kinds, and things between them."""
    kinds = ["tcp4", "tcp4", "tcp6", "udp4", "udp6", "single", "whole", "frame", "syn", "fin", "unknown"]
    return draw(st.lists(st.tuples(st.sampled_from(kinds), st.integers(1, 20)), min_size=1, max_size=6))


@st.composite
def accidents(draw: st.DrawFn) -> list[tuple[str, int]]:
    """What happens to datagrams on their way: kind, and to which."""
    kinds = st.sampled_from(["lose", "double", "swap", "forge", "cut", "stranger"])
    return draw(st.lists(st.tuples(kinds, st.integers(0, 30)), max_size=4))


@pytest.mark.parametrize("inbound", [True, False], ids=["host", "anchor"])
@given(traffic(), accidents(), st.sampled_from([0, 0, 0, 1, 2, 3]), st.sampled_from([64, 7, 3, 1]))
@example([("syn", 1), ("unknown", 1)], [("swap", 1)], 0, 64)
@settings(max_examples=60, deadline=None)
def test_the_fast_path_and_the_slow_path_agree_whatever_comes(
    inbound: bool, comes: list[tuple[str, int]], happens: list[tuple[str, int]], ecn: int, most: int
) -> None:
    bench = Bench(inbound)
    datagrams: list[bytes] = []
    for kind, count in comes:
        datagrams += made(bench, kind, count, up=not inbound)
    for kind, index in happens:
        if datagrams:
            befall(datagrams, kind, index % len(datagrams))
    bench.take(datagrams, ecn, most)
    bench.compare()


def made(bench: Bench, kind: str, count: int, *, up: bool) -> list[bytes]:
    """Return the datagrams of one item of `traffic`."""
    if kind == "frame":
        return [bench.sealer.seal(bytes(EpochFrame(0)))]
    if kind == "syn":
        return bench.seal(train(False, True, 0, 1, up=up, flags=SYN))
    if kind == "fin":
        return bench.seal(train(False, True, count * 50 - 7, 50, up=up, flags=ACK | FIN))
    if kind == "unknown":
        return bench.seal(train(False, False, count * 50 - 7, 50, up=up, port=9000 + count))
    if kind in ("single", "whole"):
        packets = [train(False, False, 300, 1000, up=up)[0] for _ in range(count)]
        return [datagram for packet in packets for datagram in bench.seal([packet], hints=kind == "single")]
    return bench.seal(train(kind[-1] == "6", kind[:3] == "tcp", count * 400 - 7, 400, up=up))


def befall(datagrams: list[bytes], kind: str, index: int) -> None:
    """Do one accident to the list."""
    match kind:
        case "lose":
            del datagrams[index]
        case "double":
            datagrams.insert(index, datagrams[index])
        case "swap":
            datagrams.insert(max(index - 2, 0), datagrams.pop(index))
        case "forge":
            datagrams[index] = datagrams[index][:-1] + bytes((datagrams[index][-1] ^ 1,))
        case "cut":
            datagrams[index] = datagrams[index][:-9]
        case _:
            datagrams[index] = datagrams[index][:3] + b"\x77" + datagrams[index][4:]


@given(st.binary(min_size=1, max_size=120), st.integers(1, 60))
@settings(max_examples=100, deadline=None)
def test_garbage_from_the_network_harms_nothing(data: bytes, segment: int) -> None:
    bench = _once(1)
    bench.receiver.buffers[0][: len(data)] = data
    source = source_at_host(bench.pair.host.forwarder.tunnels[TUNNEL])
    bench.receiver.take(len(data), segment, source, 0, bench.pair.now, TUNNEL)
    bench.receiver.flush()
    assert not bench.writes


_benches: dict[int, Bench] = {}


def _once(number: int) -> Bench:
    """Return a bench that all examples of one test share: to build one takes longer than an example."""
    if number not in _benches:
        _benches[number] = Bench()
    return _benches[number]
