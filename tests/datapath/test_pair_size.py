"""Host and anchor on a fake net: how large a packet may be on paths of any size."""

import pytest

from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.packet.ip import udp_packet
from sojourn.upmt.events import (
    TunnelSilent,
)
from tests.harness.fakenet import VIPA, Pair, Wire
from tests.harness.voice import CORRESPONDENT, Voice

A, B = TunnelId(0x10), TunnelId(0x11)
HOST = AssociationId(1)


@pytest.mark.parametrize(("mtu", "inner"), [(1500, 1448), (1492, 1440), (1420, 1368), (1350, 1298)])
def test_the_path_mtu_is_found_both_ways(mtu: int, inner: int) -> None:
    pair = Pair(Wire("wifi", mtu=mtu))
    pair.open()
    pair.run(8)
    for node in (pair.host, pair.anchor):
        tunnel = node.forwarder.tunnels[A]
        assert not tunnel.may_fragment
        # A size between two that are asked about is taken as the lower one.
        assert inner - 20 <= tunnel.inner_mtu <= inner
    large = udp_packet(Endpoint(VIPA, 4000), CORRESPONDENT, bytes(pair.host.forwarder.tunnels[A].inner_mtu - 28))
    pair.host.forwarder.from_inner(large, pair.now)
    pair.run(0.1)
    assert [packet for _, packet in pair.to_correspondent] == [large]


def test_a_path_that_carries_less_than_1280_inner_bytes_gets_fragments() -> None:
    pair = Pair(Wire("tunnelled", mtu=1280))
    pair.open()
    pair.run(8)
    tunnel = pair.host.forwarder.tunnels[A]
    assert (tunnel.inner_mtu, tunnel.may_fragment) == (1280, True)
    large = udp_packet(Endpoint(VIPA, 4000), CORRESPONDENT, bytes(1280 - 28))
    pair.host.forwarder.from_inner(large, pair.now)
    pair.run(0.1)
    assert [packet for _, packet in pair.to_correspondent] == [large]


def test_a_path_that_shrinks_without_a_word_is_found_out_and_no_alarm_is_raised() -> None:
    pair = Pair(Wire("wifi"))
    pair.open()
    voice = Voice(pair)
    voice.talk(60)
    pair.run(10)
    pair.wires[A].mtu = 1400
    pair.run(30)
    tunnel = pair.host.forwarder.tunnels[A]
    assert (tunnel.inner_mtu, tunnel.may_fragment) == (1348, False)
    assert not pair.host_told(TunnelSilent)


def test_a_too_large_packet_is_answered_and_never_sent() -> None:
    pair = Pair(Wire("wifi", mtu=1400))
    pair.open()
    pair.run(8)
    large = udp_packet(Endpoint(VIPA, 4000), CORRESPONDENT, bytes(1448 - 28))
    pair.host.forwarder.from_inner(large, pair.now)
    pair.run(0.1)
    assert not pair.to_correspondent
    ((_, answer),) = pair.to_host
    assert answer[9] == 1
    assert answer[20:22] == bytes((3, 4))
    assert int.from_bytes(answer[26:28]) == 1348
    assert answer[12:16] == large[16:20]
