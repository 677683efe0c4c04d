"""Host and anchor on a fake net: addresses, keys, handover. Minutes of time in milliseconds."""

import pytest

from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.packet.ip import udp_parts
from sojourn.packet.seal import SECONDS_PER_EPOCH, Secret
from sojourn.upmt.commands import Everything, InstallSecret, Move, MoveFlows, SetDefault
from sojourn.upmt.events import (
    FlowMoved,
    FlowSeen,
    SecretInUse,
    SecretNeeded,
    TunnelMoved,
    TunnelSilent,
    TunnelTested,
)
from tests.harness.fakenet import Pair, Wire
from tests.harness.voice import CORRESPONDENT, Voice

A, B = TunnelId(0x10), TunnelId(0x11)
HOST = AssociationId(1)


def two_networks(**wifi: float) -> Pair:
    return Pair(
        Wire("wifi", **wifi),  # type: ignore[arg-type]
        Wire("cellular", address="10.64.0.7", public="198.51.100.99", delay=0.03),
    )


def test_a_fresh_tunnel_is_tested_and_its_address_proved_within_two_round_trips() -> None:
    pair = Pair(Wire("wifi", delay=0.05))
    pair.open()
    pair.run(0.21)
    (tested,) = pair.host_told(TunnelTested)
    assert tested.rtt == pytest.approx(0.1)
    assert tested.outer == Endpoint("198.51.100.1", 40001)
    (moved,) = pair.anchor_told(TunnelMoved)
    assert moved.outer == Endpoint("198.51.100.1", 40001)


def test_voice_crosses_both_ways_without_loss() -> None:
    pair = Pair(Wire("wifi"))
    pair.open()
    voice = Voice(pair)
    voice.talk(10)
    pair.run(11)
    assert voice.lost() == (0, 0)
    assert voice.heard_up() == list(range(len(voice.sent_up)))
    assert not pair.host.forwarder.refused
    assert not pair.anchor.forwarder.refused


def test_the_very_first_packet_on_a_new_network_may_carry_data() -> None:
    pair = Pair(Wire("wifi"))
    pair.open()
    voice = Voice(pair)
    voice.say()
    pair.run(0.0101)
    assert voice.heard_up() == [0]


def test_a_nat_rebinding_is_healed_by_the_next_packet_and_told_only_when_proved() -> None:
    pair = Pair(Wire("wifi"))
    pair.open()
    voice = Voice(pair)
    voice.talk(20)
    pair.run(5)
    assert len(pair.anchor_told(TunnelMoved)) == 1
    pair.wires[A].rebind()
    rebound = pair.now
    tunnel = pair.anchor.forwarder.tunnels[A]
    while tunnel.credit is None and pair.now < rebound + 0.1:
        pair.run(0.001)
    assert tunnel.outer == Endpoint("198.51.100.1", 40002)
    assert len(pair.anchor_told(TunnelMoved)) == 1
    pair.run(0.021)
    assert pair.anchor_told(TunnelMoved)[-1].outer == Endpoint("198.51.100.1", 40002)
    pair.run(10)
    assert voice.lost()[0] == 0
    assert voice.lost()[1] <= 2
    assert not pair.host_told(TunnelSilent)


def test_the_keep_alive_holds_a_mapping_that_30_s_of_inbound_traffic_alone_would_lose() -> None:
    pair = Pair(Wire("wifi", forgets_after=30.0))
    pair.open()
    voice = Voice(pair, up=False)
    voice.say()
    voice.talk(200)
    pair.run(201)
    assert voice.lost()[1] == 0
    assert pair.wires[A].refused_down == 0


def test_keys_step_after_120_s_of_sending_without_a_packet_lost() -> None:
    pair = Pair(Wire("wifi", jitter=0.03))
    pair.open()
    pair.run(1)
    voice = Voice(pair)
    voice.talk(260)
    pair.run(262)
    assert voice.lost() == (0, 0)
    steps = int(260 / SECONDS_PER_EPOCH)
    for node in (pair.host, pair.anchor):
        sealer = node.forwarder.tunnels[A].sealer
        assert sealer is not None
        assert steps <= sealer.epoch - 1 <= steps + 1
        assert not node.forwarder.refused
    assert not pair.host_told(SecretNeeded)


def test_a_new_secret_in_the_middle_of_traffic_is_taken_up_by_the_host_first_and_loses_nothing() -> None:
    pair = Pair(Wire("wifi", jitter=0.03))
    pair.open()
    pair.run(1)
    voice = Voice(pair)
    voice.talk(20)
    pair.run(5)
    new = InstallSecret(HOST, Secret(2, bytes(reversed(range(32))), 1024))
    pair.anchor.submit([new])
    pair.run(1)
    anchor, host = pair.anchor.forwarder.tunnels[A], pair.host.forwarder.tunnels[A]
    assert anchor.sealer is not None
    assert anchor.sealer.generation == 1
    assert [event.generation for event in pair.anchor_told(SecretInUse)] == [1]
    pair.host.submit([new])
    assert host.sealer is not None
    assert (host.sealer.generation, host.sealer.epoch) == (2, 1024)
    pair.run(1)
    assert (anchor.sealer.generation, anchor.sealer.epoch) == (2, 1024)
    assert [event.generation for event in pair.anchor_told(SecretInUse)] == [1, 2]
    pair.run(20)
    assert voice.lost() == (0, 0)
    assert not pair.anchor.forwarder.refused
    assert not pair.host.forwarder.refused
    keys = pair.anchor.forwarder.associations[HOST].keys
    assert keys is not None
    assert [secret.generation for secret in keys.secrets] == [2]


def test_a_planned_handover_loses_nothing_and_doubles_nothing() -> None:
    pair = two_networks()
    pair.open(A, B)
    voice = Voice(pair)
    voice.talk(45)
    pair.run(2)
    for number in range(1, 21):
        order = MoveFlows(HOST, number, (Move(Everything(), (B, A)[number % 2]),))
        pair.host.submit([order])
        pair.net.at(pair.now + 0.03, lambda order=order: pair.anchor.submit([order]))  # type: ignore[misc]
        pair.run(2)
    pair.run(5)
    assert voice.lost() == (0, 0)
    assert len(voice.heard_up()) == len(voice.sent_up)
    assert len(voice.heard_down()) == len(voice.sent_down)
    assert voice.longest_gap(to_host=True) <= 0.04 + 0.02 + 1e-9
    assert voice.longest_gap(to_host=False) <= 0.04 + 0.02 + 1e-9


def test_the_anchor_learns_a_move_from_the_first_sealed_packet_and_late_ones_do_not_undo_it() -> None:
    pair = two_networks(delay=0.3)
    pair.open(A, B)
    pair.run(1)
    voice = Voice(pair)
    voice.talk(10)
    pair.run(4)
    pair.host.submit([MoveFlows(HOST, 1, (Move(Everything(), B),))])
    pair.run(4)
    # Packets that left on the slow network before the move arrive 0.3 s later, long after those on the new one.
    assert [event.tunnel for event in pair.anchor_told(FlowMoved)] == [B]
    pair.run(4)
    assert voice.lost() == (0, 0)


def test_the_host_hears_when_a_call_comes_in_without_having_spoken_on_that_flow() -> None:
    pair = Pair(Wire("wifi"))
    pair.open()
    pair.run(1)
    Voice(pair).listen()
    pair.run(0.1)
    assert [event.tunnel for event in pair.host_told(FlowSeen)] == [A]
    assert udp_parts(pair.to_host[0][1])[0] == CORRESPONDENT


def test_default_of_the_anchor_is_the_tunnel_heard_last() -> None:
    pair = two_networks()
    pair.open(A, B)
    pair.run(1)
    pair.host.submit([SetDefault(HOST, B)])
    Voice(pair, 4001).say()
    pair.run(0.1)
    Voice(pair, 4002).listen()
    pair.run(0.1)
    assert pair.anchor_told(FlowSeen)[-1].tunnel == B


def test_tunnels_run_over_ipv6_as_well() -> None:
    wire = Wire("fibre", address="2001:db8:1::2", public="2001:db8:1::1")
    pair = Pair(wire, anchor=Endpoint("2001:db8::1", 1800))
    pair.open()
    pair.run(2)
    (moved,) = pair.anchor_told(TunnelMoved)
    assert moved.outer == Endpoint("2001:db8:1::1", 40001)
    voice = Voice(pair)
    voice.talk(5)
    pair.run(6)
    assert voice.lost() == (0, 0)
    # 1500 - 48 - 24: the TUN's 1448 do not fit over IPv6.
    assert pair.host.forwarder.tunnels[A].inner_mtu == 1428
    assert pair.anchor.forwarder.tunnels[A].inner_mtu == 1428


def test_a_narrow_path_is_not_taken_for_a_lossy_one() -> None:
    pair = Pair(Wire("narrow", mtu=1400))
    pair.open()
    pair.run(5)
    tunnel = pair.host.forwarder.tunnels[A]
    assert tunnel.inner_mtu == 1400 - 52, "found by probes of which some were lost"
    assert tunnel.losses.loss() == (0.0, 0.0)


def test_an_idle_tunnel_costs_the_anchor_no_timer() -> None:
    pair = Pair(Wire("wifi"))
    pair.open()
    pair.run(1)
    Voice(pair).both()
    pair.run(20)
    assert pair.anchor.forwarder.tunnels[A].deadline() == float("inf")
