"""Plain tunnels in the data path: what passes before signalling has set one up, and what strangers can do."""

import pytest

from sojourn.datapath.memory import OUTSIDE
from sojourn.datapath.strangers import SOURCE_BURST
from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.packet import frame
from sojourn.packet.ip import udp_packet
from sojourn.upmt.commands import AddAssociation, OpenTunnel, Resumed, Role, SendInner, SendOutside, SetDefault, Setup
from sojourn.upmt.events import FlowSeen, InnerReceived, StrangerReceived, TunnelClosed, TunnelTested
from tests.harness.fakenet import ANCHOR, VIPA, Pair, Wire
from tests.harness.voice import CORRESPONDENT, Voice

A, B = TunnelId(0x10), TunnelId(0x11)
HOST, OTHER = AssociationId(1), AssociationId(2)
OTHER_VIPA, OTHER_TUNNEL = "10.201.0.3", TunnelId(0x30)
PUBLIC, ELSEWHERE = Endpoint("198.51.100.1", 40001), Endpoint("192.0.2.66", 7)
LOCAL, INSIDE = Endpoint(VIPA, 4000), Endpoint("10.201.0.1", 5060)
SIGNAL = udp_packet(Endpoint(VIPA, 5060), INSIDE, b"MESSAGE")
OTHERS_SIGNAL = udp_packet(Endpoint(OTHER_VIPA, 5060), INSIDE, b"MESSAGE")


def pair_of(*, plain: bool = True) -> Pair:
    """A host whose anchor allows plain tunnels; none is open yet."""
    pair = Pair(Wire("wifi"))
    setup = Setup(Role.ANCHOR, "sojourn0", 1448, inner_addresses=("10.201.0.1",), plain=plain)
    pair.anchor.submit([setup, AddAssociation(OTHER, OTHER_VIPA, None, (OTHER_TUNNEL,))])
    return pair


def order(*, ready: bool) -> OpenTunnel:
    return OpenTunnel(HOST, A, "wifi", Endpoint("192.168.1.2", 50000 + A), ANCHOR, sealed=False, ready=ready)


def opened(remote: Endpoint, tunnel: TunnelId = A, association: AssociationId = HOST) -> OpenTunnel:
    return OpenTunnel(association, tunnel, "", Endpoint("", 0), remote, sealed=False)


def test_a_stranger_s_signal_goes_to_control_and_the_answer_back_to_where_it_came_from() -> None:
    pair = pair_of()
    pair.inject(SIGNAL, PUBLIC)
    assert pair.anchor_told(StrangerReceived) == [StrangerReceived(HOST, SIGNAL, PUBLIC)]
    pair.anchor.on_outer = None
    pair.anchor.submit([SendOutside(PUBLIC, b"401")])
    assert pair.anchor.outbox == [(OUTSIDE, b"401", PUBLIC)]


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (udp_packet(LOCAL, CORRESPONDENT, b"data"), "no-tunnel"),
        (udp_packet(Endpoint(VIPA, 5060), Endpoint("10.201.0.1", 53), b"no signal"), "no-tunnel"),
        (udp_packet(Endpoint("10.201.0.99", 5060), INSIDE, b"nobody's"), "inner-vipa"),
        (SIGNAL + b"more", "no-tunnel"),
        (bytes(frame.Probe(0, 1, 1)), "version"),
        (b"", "no-tunnel"),
    ],
)
def test_what_else_a_stranger_sends_is_counted_and_changes_nothing(datagram: bytes, reason: str) -> None:
    pair = pair_of()
    pair.inject(datagram, PUBLIC)
    assert dict(pair.anchor.forwarder.refused) == {reason: 1}
    assert (pair.anchor_events, pair.to_correspondent, pair.anchor.forwarder.tunnels) == ([], [], {})


def test_an_anchor_without_plain_tunnels_hears_no_stranger() -> None:
    pair = pair_of(plain=False)
    pair.inject(SIGNAL, PUBLIC)
    assert dict(pair.anchor.forwarder.refused) == {"no-tunnel": 1}
    assert pair.anchor_events == []


def test_a_flood_of_signals_reaches_control_as_a_trickle() -> None:
    pair = pair_of()
    for _ in range(1000):
        pair.inject(SIGNAL, PUBLIC)
    assert len(pair.anchor_told(StrangerReceived)) == SOURCE_BURST
    assert pair.anchor.forwarder.refused["rate"] == 1000 - SOURCE_BURST


def test_until_a_tunnel_is_set_up_only_signals_leave_and_flows_wait() -> None:
    pair = pair_of()
    seen: list[bytes] = []
    pair.spy = lambda datagram, _source: seen.append(datagram)
    pair.host.submit([order(ready=False), SetDefault(HOST, A), SendInner(A, SIGNAL)])
    pair.host.forwarder.from_inner(udp_packet(LOCAL, CORRESPONDENT, b"waits"), pair.now)
    pair.run(30)
    assert seen == [SIGNAL], "no probe, no data"
    answer = udp_packet(INSIDE, Endpoint(VIPA, 5060), b"200 OK")
    pair.host.forwarder.from_outer(answer, Endpoint("192.0.2.66", 1800), pair.now, A)
    pair.host.forwarder.from_outer(answer, ANCHOR, pair.now, A)
    assert pair.host_told(InnerReceived) == [InnerReceived(HOST, A, answer, ANCHOR)]
    assert dict(pair.host.forwarder.refused) == {"no-tunnel": 1}, "from elsewhere than the anchor"
    pair.anchor.submit([opened(PUBLIC)])
    pair.host.submit([order(ready=True)])
    pair.run(0.1)
    assert [packet for _, packet in pair.to_correspondent] == [udp_packet(LOCAL, CORRESPONDENT, b"waits")]
    assert len(pair.host_told(TunnelTested)) == 1


def test_a_control_that_adopts_a_tunnel_which_stands_does_not_interrupt_it() -> None:
    pair = pair_of()
    pair.anchor.submit([opened(PUBLIC)])
    pair.host.submit([order(ready=True), SetDefault(HOST, A)])
    pair.run(1)
    pair.host.submit([order(ready=False)])
    assert pair.host.forwarder.tunnels[A].usable
    assert len(pair.host_told(TunnelTested)) == 2, "it is told that the tunnel works"


def test_a_host_that_slept_sends_nothing_before_its_anchor_has_answered() -> None:
    pair = pair_of()
    pair.anchor.submit([opened(PUBLIC)])
    pair.host.submit([order(ready=True), SetDefault(HOST, A)])
    pair.run(1)
    pair.wires[A].rebind()
    pair.host.submit([Resumed(600.0)])
    pair.host.forwarder.from_inner(udp_packet(LOCAL, CORRESPONDENT, b"waits"), pair.now)
    pair.run(5)
    assert pair.to_correspondent == [], "what was sent from the new address would be lost"
    pair.anchor.submit([opened(Endpoint("198.51.100.1", 40002))])
    pair.host.submit([order(ready=True)])
    pair.run(0.1)
    assert [packet for _, packet in pair.to_correspondent] == [udp_packet(LOCAL, CORRESPONDENT, b"waits")]


def test_an_anchor_sends_what_waits_as_soon_as_the_tunnel_is_set_up() -> None:
    pair = pair_of()
    pair.anchor.submit([opened(PUBLIC)])
    pair.host.submit([order(ready=True), SetDefault(HOST, A)])
    voice = Voice(pair)
    voice.say()
    pair.run(1)
    pair.wires[A].dead = True
    for _ in range(100):
        voice.listen()
        pair.run(0.1)
    assert not pair.anchor.forwarder.tunnels[A].usable, "the host is away"
    pair.wires[A].dead = False
    arrived = len(pair.to_host)
    pair.anchor.submit([opened(PUBLIC)])
    pair.run(0.02)
    assert len(pair.to_host) == arrived + 1


def test_a_plain_tunnel_follows_the_order_and_no_packet() -> None:
    pair = pair_of()
    pair.anchor.submit([opened(PUBLIC)])
    data = udp_packet(LOCAL, CORRESPONDENT, b"data")
    pair.inject(data, PUBLIC)
    pair.inject(data, ELSEWHERE)
    assert (len(pair.to_correspondent), pair.anchor.forwarder.refused["no-tunnel"]) == (1, 1)
    assert pair.anchor.forwarder.tunnels[A].outer == PUBLIC
    pair.anchor.submit([opened(ELSEWHERE)])
    pair.inject(data, PUBLIC)
    pair.inject(data, ELSEWHERE)
    assert (len(pair.to_correspondent), pair.anchor.forwarder.refused["no-tunnel"]) == (2, 2)


def test_nobody_closes_a_plain_tunnel_by_a_frame() -> None:
    pair = pair_of()
    pair.anchor.submit([opened(PUBLIC)])
    pair.inject(bytes(frame.Close(0)), PUBLIC)
    assert pair.anchor_told(TunnelClosed) == []
    assert pair.anchor.forwarder.tunnels[A].usable


def test_an_address_that_a_nat_gave_to_another_host_is_that_hosts_once_it_has_signalled() -> None:
    pair = pair_of()
    pair.anchor.submit([opened(PUBLIC)])
    pair.inject(udp_packet(Endpoint(OTHER_VIPA, 4000), CORRESPONDENT, b"data"), PUBLIC)
    assert dict(pair.anchor.forwarder.refused) == {"inner-vipa": 1}
    pair.inject(OTHERS_SIGNAL, PUBLIC)
    assert pair.anchor_told(StrangerReceived) == [StrangerReceived(OTHER, OTHERS_SIGNAL, PUBLIC)]
    pair.anchor.submit([opened(PUBLIC, OTHER_TUNNEL, OTHER)])
    assert A not in pair.anchor.forwarder.tunnels
    pair.inject(udp_packet(Endpoint(OTHER_VIPA, 4000), CORRESPONDENT, b"data"), PUBLIC)
    assert [event.tunnel for event in pair.anchor_told(FlowSeen)] == [OTHER_TUNNEL]
