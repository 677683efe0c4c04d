"""What a data path does with one packet that it lets through, answers or keeps."""

import pytest

from sojourn.model import AssociationId, Endpoint, Flow, TunnelId
from sojourn.packet.ip import ecn_of, key_of, parse, set_ecn, udp_packet
from sojourn.packet.seal import Direction, Hint, KeySchedule, Sealer, Secret
from sojourn.upmt.commands import (
    AddAssociation,
    CloseTunnel,
    Exactly,
    InstallSecret,
    Move,
    MoveFlows,
    OpenTunnel,
    RemoveAssociation,
    Role,
    SendInner,
    SetDefault,
    Setup,
)
from sojourn.upmt.events import (
    FlowEnded,
    FlowSeen,
    InnerReceived,
    TunnelClosed,
    TunnelFailed,
    TunnelRecovered,
    TunnelTested,
)
from tests.harness.fakenet import ANCHOR, KEY, VIPA, Pair, Wire
from tests.harness.voice import CORRESPONDENT, Voice
from tests.packet.build import MSS_1460, checksums_hold, tcp_packet

A, B = TunnelId(0x10), TunnelId(0x11)
HOST, OTHER = AssociationId(1), AssociationId(2)
OTHER_VIPA = "10.201.0.3"
OTHER_TUNNEL = TunnelId(0x30)
LOCAL = Endpoint(VIPA, 4000)


def pair_at_work(*, refused: tuple[str, ...] = ("10.0.0.0/8",)) -> Pair:
    pair = Pair(Wire("wifi"))
    pair.anchor.submit(
        [
            Setup(Role.ANCHOR, "sojourn0", 1448, inner_addresses=("10.201.0.1",), refused=refused, inner_ports=(53,)),
            AddAssociation(OTHER, OTHER_VIPA, None, (OTHER_TUNNEL,)),
            InstallSecret(OTHER, Secret(1, bytes(32), 1)),
        ]
    )
    pair.open()
    pair.run(1)
    voice = Voice(pair)
    voice.both()
    pair.run(1)
    assert (voice.heard_up(), voice.heard_down()) == ([0], [0])
    return pair


def sealer_of_host(pair: Pair) -> Sealer:
    """What an insider of the association could seal with: a sealer of the host, ahead of its counter."""
    sealer = Sealer(KeySchedule(Secret(1, KEY, 1)), A, Direction.HOST_TO_ANCHOR, 1)
    sealer.counter = 5000
    return sealer


def test_datagrams_to_the_signalling_port_go_to_control_with_their_tunnel_and_never_to_the_tun() -> None:
    pair = pair_at_work()
    request = udp_packet(Endpoint(VIPA, 5060), Endpoint("10.201.0.1", 5060), b"MESSAGE")
    answer = udp_packet(Endpoint("10.201.0.1", 5060), Endpoint(VIPA, 5060), b"200 OK")
    heard = len(pair.to_correspondent), len(pair.to_host)
    pair.host.submit([SendInner(A, request)])
    pair.run(0.1)
    pair.anchor.submit([SendInner(A, answer)])
    pair.run(0.1)
    outer = Endpoint("198.51.100.1", 40001)
    assert pair.anchor_told(InnerReceived) == [InnerReceived(HOST, A, request, outer)]
    assert pair.host_told(InnerReceived) == [InnerReceived(HOST, A, answer, ANCHOR)]
    assert (len(pair.to_correspondent), len(pair.to_host)) == heard


@pytest.mark.parametrize("six", [False, True])
def test_the_mss_of_a_syn_is_clamped_in_both_directions(six: bool) -> None:
    pair = Pair(Wire("wifi", mtu=1400))
    vipa6 = "fd00:201::2"
    for node in (pair.host, pair.anchor):
        node.submit([AddAssociation(HOST, VIPA, vipa6, tuple(pair.wires))])
    pair.open()
    pair.run(8)
    local = Endpoint(vipa6 if six else VIPA, 4000)
    remote = Endpoint("2001:db8::1" if six else "93.184.216.34", 80)
    pair.host.forwarder.from_inner(tcp_packet(local, remote, flags=2, options=MSS_1460), pair.now)
    pair.run(0.1)
    pair.anchor.forwarder.from_inner(tcp_packet(remote, local, flags=0x12, options=MSS_1460), pair.now)
    pair.run(0.1)
    for _, packet in (pair.to_correspondent[0], pair.to_host[0]):
        at = parse(packet).header_bytes + 20
        assert packet[at : at + 2] == b"\x02\x04"
        assert int.from_bytes(packet[at + 2 : at + 4]) == 1348 - (60 if six else 40)
        assert checksums_hold(packet)


@pytest.mark.parametrize(("inner", "outer", "comes_out"), [(0, 0, 0), (2, 3, 3), (2, 1, 1), (2, 0, 2), (0, 3, None)])
def test_congestion_marks_are_carried_over_as_rfc_6040_says(inner: int, outer: int, comes_out: int | None) -> None:
    pair = pair_at_work()
    packet = bytearray(udp_packet(LOCAL, CORRESPONDENT, b"marked"))
    set_ecn(packet, inner)
    heard = len(pair.to_correspondent)
    pair.anchor.forwarder.from_outer(
        sealer_of_host(pair).seal(packet), Endpoint("198.51.100.1", 40001), pair.now, ecn=outer
    )
    out = [ecn_of(packet) for _, packet in pair.to_correspondent[heard:]]
    assert out == ([] if comes_out is None else [comes_out])
    assert all(checksums_hold(packet) for _, packet in pair.to_correspondent[heard:])


def test_a_partial_checksum_is_completed() -> None:
    pair = pair_at_work()
    whole = udp_packet(LOCAL, CORRESPONDENT, b"partial")
    partial = whole[:26] + b"\x12\x34" + whole[28:]
    pair.inject(sealer_of_host(pair).seal(partial, Hint.PARTIAL), Endpoint("198.51.100.1", 40001))
    assert pair.to_correspondent[-1][1] == whole


def test_plain_tunnels_carry_packets_bare_and_only_from_their_own_address() -> None:
    wire = Wire("wifi", public="198.51.100.1")
    pair = Pair(wire)
    public = Endpoint("198.51.100.1", 40001)
    local = Endpoint(wire.address, 50000 + A)
    pair.host.submit([OpenTunnel(HOST, A, "wifi", local, ANCHOR, sealed=False), SetDefault(HOST, A)])
    pair.anchor.submit([OpenTunnel(HOST, A, "", ANCHOR, public, sealed=False)])
    seen: list[bytes] = []
    pair.spy = lambda datagram, _source: seen.append(datagram)
    pair.run(1)
    assert len(pair.host_told(TunnelTested)) == 1
    voice = Voice(pair)
    voice.talk(5)
    pair.run(6)
    assert voice.lost() == (0, 0)
    assert any(datagram[0] == 0x45 and len(datagram) == 188 for datagram in seen)
    assert pair.host.forwarder.tunnels[A].inner_mtu == 1448
    packet = udp_packet(LOCAL, CORRESPONDENT, b"from elsewhere")
    heard = len(pair.to_correspondent)
    pair.inject(packet, Endpoint("192.0.2.66", 40001))
    pair.inject(bytes((0x81,)) + A.to_bytes(3) + bytes(60), public)
    assert pair.anchor.forwarder.refused["no-tunnel"] == 2
    assert len(pair.to_correspondent) == heard


def test_a_plain_tunnel_teaches_the_anchor_no_moves() -> None:
    pair = Pair(Wire("wifi"), Wire("cellular", address="10.64.0.7", public="198.51.100.99"))
    pair.anchor.submit(
        [
            OpenTunnel(HOST, A, "", ANCHOR, Endpoint("198.51.100.1", 40001), sealed=False),
            OpenTunnel(HOST, B, "", ANCHOR, Endpoint("198.51.100.99", 40001), sealed=False),
        ]
    )
    packet = udp_packet(LOCAL, CORRESPONDENT, b"plain")
    pair.inject(packet, Endpoint("198.51.100.1", 40001))
    pair.inject(packet, Endpoint("198.51.100.99", 40001))
    (row,) = pair.anchor.forwarder.paft.rows.values()
    assert row.tunnel == A


def test_a_tunnel_that_the_system_refuses_to_use_is_told_once_keeps_packets_and_recovers() -> None:
    pair = pair_at_work()
    for _ in range(5):
        pair.host.forwarder.send_failed(A, "Network is unreachable", pair.now)
    assert [event.why for event in pair.host_told(TunnelFailed)] == ["Network is unreachable"]
    pair.wires[A].dead = True
    voice = Voice(pair)
    voice.say()
    pair.run(1)
    assert len(pair.host.forwarder.waiting) == 1
    pair.wires[A].dead = False
    pair.run(1)
    assert len(pair.host_told(TunnelRecovered)) == 1
    assert len(pair.host.forwarder.waiting) == 0


def test_a_message_that_is_too_long_for_the_interface_is_no_sign_of_a_dead_network() -> None:
    pair = pair_at_work()
    pair.host.forwarder.send_failed(A, "Message too long", pair.now, too_big=True)
    assert not pair.host_told(TunnelFailed)
    assert pair.host.forwarder.tunnels[A].usable


def test_closing_a_tunnel_tells_the_peer_lets_flows_wait_and_it_can_be_opened_again() -> None:
    pair = pair_at_work()
    pair.host.submit([CloseTunnel(A)])
    pair.run(0.1)
    assert [event.tunnel for event in pair.anchor_told(TunnelClosed)] == [A]
    assert pair.host.sockets == {}
    assert [row.tunnel for row in pair.host.forwarder.paft.rows.values()] == [None]
    voice = Voice(pair)
    voice.both()
    pair.run(10)
    assert (len(pair.host.forwarder.waiting), len(pair.anchor.forwarder.waiting)) == (1, 1)
    before = len(voice.heard_up()), len(voice.heard_down())
    pair.open()
    pair.host.submit([MoveFlows(HOST, 1, (Move(Exactly((Flow(17, LOCAL, CORRESPONDENT),)), A),))])
    pair.run(0.5)
    assert (len(voice.heard_up()), len(voice.heard_down())) == (before[0] + 1, before[1] + 1)


def test_an_association_that_is_removed_leaves_nothing() -> None:
    pair = pair_at_work()
    pair.anchor.submit([RemoveAssociation(HOST)])
    forwarder = pair.anchor.forwarder
    assert not forwarder.paft.rows
    assert set(forwarder.by_vipa) == {bytes((10, 201, 0, 3))}
    assert A not in forwarder.tunnels
    Voice(pair).say()
    pair.run(1)
    assert forwarder.refused["no-tunnel"] > 0


def test_a_flow_that_ends_is_told() -> None:
    pair = pair_at_work()
    pair.run(400)
    assert [event.flow for event in pair.host_told(FlowEnded)] == [Flow(17, LOCAL, CORRESPONDENT)]
    assert not pair.anchor.forwarder.paft.rows


def test_a_flow_is_told_once() -> None:
    pair = pair_at_work()
    Voice(pair).both()
    pair.run(1)
    assert [event.flow for event in pair.host_told(FlowSeen)] == [Flow(17, LOCAL, CORRESPONDENT)]
    assert key_of(Flow(17, LOCAL, CORRESPONDENT)) in pair.anchor.forwarder.paft.rows
