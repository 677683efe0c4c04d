"""Any bytes from either side of a data path: never an exception, never a change by what is not authentic."""

from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.packet.ip import udp_packet
from sojourn.packet.seal import Direction, Hint, KeySchedule, Sealer, Secret
from tests.harness.fakenet import ANCHOR, KEY, VIPA, Pair, Wire
from tests.harness.voice import CORRESPONDENT

A = TunnelId(0x10)
HOST = AssociationId(1)
PUBLIC = Endpoint("198.51.100.1", 40001)
VALID = udp_packet(Endpoint(VIPA, 4000), CORRESPONDENT, b"valid")
SOURCES = st.sampled_from([PUBLIC, Endpoint("192.0.2.66", 6666), Endpoint("2001:db8::66", 6666)])
HEADS = st.builds(lambda first, rest: bytes((first,)) + A.to_bytes(3) + rest, st.integers(0x80, 0xFF), st.binary())


@st.composite
def mutated(draw: st.DrawFn, whole: bytes) -> bytes:
    """A packet with some bytes changed, cut off or added."""
    data = bytearray(whole)
    for place, value in draw(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=4)):
        data[place] = value
    return bytes(data[: draw(st.integers(0, len(data)))]) + draw(st.binary(max_size=8))


def pair_at_work() -> Pair:
    pair = Pair(Wire("wifi"))
    pair.open()
    pair.run(1)
    return pair


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.binary() | HEADS | mutated(VALID), SOURCES), max_size=30))
def test_bytes_from_the_outer_network_that_are_not_authentic_are_counted_and_change_nothing(
    datagrams: list[tuple[bytes, Endpoint]],
) -> None:
    pair = pair_at_work()
    tunnel = pair.anchor.forwarder.tunnels[A]
    before = (tunnel.outer, tunnel.credit, tunnel.packets_in, tunnel.packets_out, len(pair.anchor_events))
    for datagram, source in datagrams:
        pair.inject(datagram, source)
        pair.host.forwarder.from_outer(datagram, source, pair.now, A)
    assert pair.anchor.forwarder.refused.total() == len(datagrams)
    assert pair.host.forwarder.refused.total() == len(datagrams)
    assert before == (tunnel.outer, tunnel.credit, tunnel.packets_in, tunnel.packets_out, len(pair.anchor_events))
    assert not pair.anchor.forwarder.paft.rows


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.binary(min_size=1) | mutated(VALID), st.sampled_from(list(Hint)), SOURCES), max_size=30))
def test_an_insider_can_send_any_plaintext_and_break_nothing(
    plaintexts: list[tuple[bytes, Hint, Endpoint]],
) -> None:
    pair = pair_at_work()
    up = Sealer(KeySchedule(Secret(1, KEY, 1)), A, Direction.HOST_TO_ANCHOR, 1)
    down = Sealer(KeySchedule(Secret(1, KEY, 1)), A, Direction.ANCHOR_TO_HOST, 1)
    up.counter = down.counter = 5000
    for plaintext, hint, source in plaintexts:
        if plaintext:
            pair.inject(up.seal(plaintext, hint), source)
            pair.host.forwarder.from_outer(down.seal(plaintext, hint), ANCHOR, pair.now, A)
    pair.run(2)
    assert all(packet[12:16] == bytes((10, 201, 0, 2)) for _, packet in pair.to_correspondent if packet[0] >> 4 == 4)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary() | mutated(VALID), max_size=30))
def test_any_bytes_from_the_tun_are_sent_answered_or_counted(packets: list[bytes]) -> None:
    pair = pair_at_work()
    for packet in packets:
        pair.host.forwarder.from_inner(packet, pair.now)
        pair.anchor.forwarder.from_inner(packet, pair.now)
    pair.run(1)
    assert pair.host.forwarder.refused.total() <= 2 * len(packets)
