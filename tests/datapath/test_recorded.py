"""Traffic of real programs (tests/data/record.py): iperf3, curl, ssh, dig, ping, QUIC's way of sending, IPv4 and IPv6.

The C core and the Python engine get the same reads and the same datagrams. What they seal is compared byte for byte,
flow by flow, and what they write with the forwarder's one packet at a time.
"""

from collections import Counter, defaultdict

import pytest

from sojourn.datapath.engine_receive import Receiver
from sojourn.datapath.engine_send import Sender
from sojourn.errors import RemoteProtocolError
from sojourn.packet import gso, vnet
from sojourn.packet.ip import flow_key, parse
from tests.data.record import records
from tests.datapath import test_engine_receive as receiving
from tests.datapath import test_engine_send as sending
from tests.datapath.engine_pair import TUNNEL, ready_pair, source_at_host
from tests.datapath.test_core_receive import flow_by_flow
from tests.harness.core_ends import CoreReceiver, CoreSender
from tests.harness.fakenet import Pair

UP, DOWN = 0, 1
READS = {
    way: [(vnet.parse(data), data[vnet.HEADER_BYTES :]) for at, data in records() if at == way] for way in (UP, DOWN)
}
senders = pytest.mark.parametrize("sender", [Sender, CoreSender], ids=["python", "core"])
receivers = pytest.mark.parametrize("receiver", [Receiver, CoreReceiver], ids=["python", "core"])


def packets_of(way: int) -> list[bytes]:
    """What the reads of a device stand for, by the oracle."""
    return [packet for header, data in READS[way] for packet in gso.finish(data, header)]


def key_of(packet: bytes, way: int) -> bytes:
    try:
        return flow_key(packet, inbound=way == DOWN)
    except RemoteProtocolError:
        return packet[:1]


def by_flow(packets: list[bytes], way: int) -> dict[bytes, list[bytes]]:
    """Return the packets of each flow: between flows core and Python may differ in order, within one never."""
    found: dict[bytes, list[bytes]] = defaultdict(list)
    for packet in packets:
        found[key_of(packet, way)].append(packet)
    return found


def comparable(packets: list[bytes]) -> list[bytes]:
    """Flow by flow, and without IPv4's identification under DF: it means nothing there (RFC 6864 §4.1)."""
    unnumbered = []
    for packet in flow_by_flow(packets):
        if packet[0] >> 4 == 4 and packet[6] & 0x40:
            packet = packet[:4] + bytes(2) + packet[6:10] + bytes(2) + packet[12:]
        unnumbered.append(packet)
    return unnumbered


def ready(way: int) -> Pair:
    """A pair whose sending end knows the flows: they all began at the host."""
    pair = ready_pair()
    if way == DOWN:
        for packet in packets_of(UP):
            pair.host.forwarder.from_inner(packet, pair.now)
        pair.run(0.1)
        pair.to_correspondent.clear()
    return pair


def sealed(sender: type[Sender], way: int, monkeypatch: pytest.MonkeyPatch) -> sending.Bench:
    monkeypatch.setattr(sending, "Sender", sender)
    bench = sending.Bench(ready(way), inbound=way == DOWN)
    for header, data in READS[way]:
        bench.take(header, data)
    bench.sender.flush(bench.pair.now)
    return bench


def test_the_recording_has_what_it_says() -> None:
    found = Counter((parse(packet).version, parse(packet).protocol) for way in READS for packet in packets_of(way))
    assert {(4, 1), (4, 6), (4, 17), (6, 58), (6, 6), (6, 17)} <= found.keys()
    kinds = {header.gso_type for way in READS for header, _ in READS[way]}
    assert {vnet.NO_GSO, vnet.GSO_TCP4, vnet.GSO_TCP6, vnet.GSO_UDP} <= kinds
    assert min(found.values()) >= 4


@pytest.mark.parametrize("way", [UP, DOWN], ids=["up", "down"])
@senders
def test_what_is_sealed_is_what_was_read(sender: type[Sender], way: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = sealed(sender, way, monkeypatch)
    arrived, expected = by_flow(bench.packets(), way), by_flow(packets_of(way), way)
    assert arrived.keys() == expected.keys()
    for key, packets in expected.items():
        assert arrived[key] == packets


@pytest.mark.parametrize("way", [UP, DOWN], ids=["up", "down"])
@receivers
def test_what_is_written_is_what_the_forwarder_writes(
    receiver: type[Receiver], way: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    datagrams = sealed(Sender, way, monkeypatch).datagrams
    monkeypatch.setattr(receiving, "Receiver", receiver)
    monkeypatch.setattr(receiving, "in_order", comparable)
    monkeypatch.setattr(receiving, "ready_pair", lambda: ready(way))
    bench = receiving.Bench(inbound=way == DOWN)
    bench.writes.clear()
    bench.take(datagrams)
    bench.compare()
    assert len(bench.writes) < len(datagrams), "nothing was joined"
    assert source_at_host(bench.node(bench.pair).forwarder.tunnels[TUNNEL]) is not None
