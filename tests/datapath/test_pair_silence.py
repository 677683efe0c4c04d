"""Host and anchor on a fake net: dead, lossy and absent networks, and flows that wait for them."""

import pytest

from sojourn.model import AssociationId, TunnelId
from sojourn.upmt.commands import Everything, Move, MoveFlows, OnTunnel, Resumed
from sojourn.upmt.events import (
    FlowMoved,
    FlowSeen,
    TunnelBlocked,
    TunnelMeasured,
    TunnelRecovered,
    TunnelSilent,
    TunnelTested,
)
from tests.harness.fakenet import Pair, Wire
from tests.harness.voice import Voice

A, B = TunnelId(0x10), TunnelId(0x11)
HOST = AssociationId(1)


def two_networks(**wifi: float) -> Pair:
    return Pair(
        Wire("wifi", **wifi),  # type: ignore[arg-type]
        Wire("cellular", address="10.64.0.7", public="198.51.100.99", delay=0.03),
    )


def test_a_network_that_blocks_udp_is_told_as_blocked_after_three_seconds_and_found_again_later() -> None:
    pair = Pair(Wire("hotel", dead_up=True))
    pair.open()
    pair.run(2.9)
    assert not pair.host_told(TunnelBlocked)
    pair.run(0.2)
    assert len(pair.host_told(TunnelBlocked)) == 1
    pair.wires[A].dead = False
    pair.run(6)
    assert len(pair.host_told(TunnelTested)) == 1


@pytest.mark.parametrize("delay", [0.005, 0.05, 0.15, 0.3])
@pytest.mark.parametrize(("up", "down"), [(True, True), (True, False)])
def test_a_network_that_dies_silently_is_found_in_time_while_data_flows(delay: float, up: bool, down: bool) -> None:
    pair = Pair(Wire("wifi", delay=delay))
    pair.open()
    voice = Voice(pair, up=up, down=down)
    voice.talk(25)
    pair.run(20.007)
    tunnel = pair.host.forwarder.tunnels[A]
    limit = max(0.2, tunnel.rtt.late_after()) + 0.05
    assert not pair.host_told(TunnelSilent)
    died = pair.now
    pair.wires[A].dead = True
    pair.run(delay)  # What was under way still arrives.
    pair.run(limit)
    (silent,) = pair.host_told(TunnelSilent)
    assert silent.tunnel == A
    assert silent.after <= limit
    assert pair.now - died <= limit + delay + 1e-9


def test_a_stream_that_only_comes_in_and_stops_with_its_network_is_noticed() -> None:
    pair = Pair(Wire("wifi"))
    pair.open()
    voice = Voice(pair, up=False)
    voice.say()
    voice.talk(20)
    pair.run(10)
    pair.wires[A].dead = True
    pair.run(0.5)
    assert len(pair.host_told(TunnelSilent)) == 1


def test_a_network_whose_way_out_alone_dies_is_noticed_although_data_comes_in() -> None:
    pair = Pair(Wire("wifi"))
    pair.open()
    voice = Voice(pair)
    voice.talk(60)
    pair.run(10)
    pair.wires[A].dead_up = True
    pair.run(4)
    assert len(pair.host_told(TunnelSilent)) == 1


def test_ten_minutes_of_five_percent_loss_and_100_ms_jitter_raise_no_alarm() -> None:
    pair = Pair(Wire("train", delay=0.03, jitter=0.1, loss=0.05), seed=7)
    pair.open()
    voice = Voice(pair)
    voice.talk(600)
    pair.run(601)
    assert not pair.host_told(TunnelSilent)
    assert not pair.anchor_told(TunnelSilent)
    measured = pair.host_told(TunnelMeasured)[-2]
    assert measured.loss_out == pytest.approx(0.05, abs=0.03)
    assert measured.loss_in == pytest.approx(0.05, abs=0.03)
    assert measured.srtt == pytest.approx(0.16, abs=0.06)
    assert measured.jitter is not None
    assert 0.01 < measured.jitter < 0.08


def test_ten_minutes_of_loss_and_jitter_raise_no_alarm_when_data_only_goes_out() -> None:
    pair = Pair(Wire("train", delay=0.03, jitter=0.1, loss=0.05), seed=8)
    pair.open()
    voice = Voice(pair, down=False)
    voice.talk(600)
    pair.run(601)
    assert not pair.host_told(TunnelSilent)


def test_a_process_that_stands_still_for_150_ms_raises_no_alarm() -> None:
    pair = Pair(Wire("wifi", delay=0.02))
    pair.open()
    voice = Voice(pair)
    voice.talk(30)
    pair.run(3)
    for node in (pair.host, pair.anchor) * 10:
        pair.net.stop(node)
        pair.run(0.15)
        pair.net.resume(node)
        pair.run(0.3)
    pair.run(20)
    assert not pair.host_told(TunnelSilent)


def test_a_tunnel_that_was_silent_for_ten_minutes_recovers_and_goes_on_with_the_newest_packets() -> None:
    pair = Pair(Wire("wifi"))
    pair.open()
    pair.run(1)
    voice = Voice(pair)
    voice.talk(620)
    pair.run(5)
    pair.wires[A].dead = True
    pair.run(600)
    pair.wires[A].dead = False
    back = pair.now
    heard_before = len(voice.heard_up()), len(voice.heard_down())
    pair.run(1.2)
    assert len(pair.host_told(TunnelRecovered)) == 1
    assert len(pair.anchor_told(TunnelRecovered)) == 1
    up, down = voice.heard_up()[heard_before[0] :], voice.heard_down()[heard_before[1] :]
    # The first packet of each way is the one that was kept: sent before the network came back or just after.
    assert voice.sent_up[up[0]] <= back + 1.1
    assert up == list(range(up[0], up[0] + len(up)))
    assert down == list(range(down[0], down[0] + len(down)))
    assert pair.host.forwarder.totals["resent"] == 1
    assert pair.anchor.forwarder.totals["resent"] == 1


def test_one_kept_packet_a_flow_is_sent_both_ways_when_nothing_else_is_said() -> None:
    pair = Pair(Wire("wifi"))
    pair.open()
    voices = [Voice(pair, 4000 + number) for number in range(20)]
    for voice in voices:
        voice.say()
    pair.run(5)
    pair.wires[A].dead = True
    for voice in voices:
        pair.net.every(0.5, voice.both, pair.now + 599)
    pair.run(600)
    before = [(len(voice.heard_up()), len(voice.heard_down())) for voice in voices]
    pair.wires[A].dead = False
    pair.run(31)
    for voice, (up, down) in zip(voices, before, strict=True):
        assert voice.heard_up()[up:] == [len(voice.sent_up) - 1]
        assert voice.heard_down()[down:] == [len(voice.sent_down) - 1]


def test_flows_go_on_over_another_network_that_appears_ten_minutes_later() -> None:
    pair = two_networks()
    pair.open(A)
    pair.run(1)
    voice = Voice(pair)
    voice.talk(3)
    pair.run(3)
    pair.wires[A].dead = True
    pair.net.every(1.0, voice.both, pair.now + 599)
    pair.run(600)
    up, down = len(voice.heard_up()), len(voice.heard_down())
    pair.open(B)
    pair.host.submit([MoveFlows(HOST, 1, (Move(Everything(), B),))])
    # The request itself would travel in the new tunnel; here the flow's first packet there says it.
    pair.run(0.2)
    assert voice.heard_up()[up:] == [len(voice.sent_up) - 1]
    assert voice.heard_down()[down:] == [len(voice.sent_down) - 1]
    assert [event.tunnel for event in pair.anchor_told(FlowMoved)] == [B]


def test_an_idle_tunnel_is_kept_open_by_few_packets() -> None:
    pair = Pair(Wire("wifi", forgets_after=30.0))
    pair.open()
    pair.run(10)
    before = pair.wires[A].passed_up
    pair.run(600)
    assert pair.wires[A].passed_up - before <= 600 / 25 + 1
    voice = Voice(pair)
    voice.listen()
    pair.run(1)
    assert voice.heard_down() == [0]


def test_an_idle_tunnel_that_died_is_noticed_at_its_next_keep_alive() -> None:
    pair = Pair(Wire("wifi"))
    pair.open()
    pair.run(40)
    pair.wires[A].dead = True
    pair.run(26)
    assert len(pair.host_told(TunnelSilent)) == 1


def test_a_silent_network_is_left_and_the_flow_goes_on_over_the_other_one() -> None:
    pair = two_networks()
    pair.open(A, B)
    voice = Voice(pair)
    voice.talk(20)
    pair.run(5)
    pair.wires[A].dead = True
    while not pair.host_told(TunnelSilent):
        pair.run(0.005)
    pair.host.submit([MoveFlows(HOST, 1, (Move(OnTunnel(A), B),))])
    pair.run(10)
    assert voice.longest_gap(to_host=False) <= 0.25 + 0.06
    assert voice.longest_gap(to_host=True) <= 0.25 + 2 * 0.06


def test_flows_that_begin_without_any_network_go_when_there_is_one() -> None:
    pair = Pair(Wire("wifi"))
    voice = Voice(pair)
    voice.say()
    voice.say()
    assert [event.tunnel for event in pair.host_told(FlowSeen)] == [None]
    pair.run(100)
    pair.open()
    pair.run(0.0101)
    assert voice.heard_up() == [1]


def test_a_machine_that_slept_with_its_mappings_gone_goes_on() -> None:
    pair = Pair(Wire("wifi"))
    pair.open()
    voice = Voice(pair)
    voice.talk(2)
    pair.run(3)
    pair.net.stop(pair.host)
    pair.run(3600)
    pair.wires[A].rebind()
    pair.net.resume(pair.host)
    pair.host.submit([Resumed(3600.0)])
    pair.run(0.1)
    assert len(pair.host_told(TunnelTested)) == 2
    assert not pair.host_told(TunnelSilent)
    voice.talk(2)
    pair.run(3)
    assert voice.lost() == (0, 0)
