"""Orders and reports: what stands can be said, and a successor can be built from it."""

import msgspec
import pytest

from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.packet.seal import Secret
from sojourn.paft import MoveResult
from sojourn.upmt.commands import (
    AddAssociation,
    AnyCommand,
    Everything,
    InstallSecret,
    Measure,
    Move,
    MoveFlows,
    OnTunnel,
    OpenTunnel,
    Report,
    Role,
    SetDefault,
    Snapshot,
)
from sojourn.upmt.events import Counters, FlowsMoved, SecretNeeded, State, TunnelMeasured, TunnelSilent, TunnelTested
from tests.harness.fakenet import ANCHOR, KEY, Pair, Wire
from tests.harness.voice import Voice

A, B = TunnelId(0x10), TunnelId(0x11)
HOST = AssociationId(1)


def test_a_successor_does_not_take_an_older_order_for_everything_that_comes_late() -> None:
    pair, _ = pair_at_work()
    anchor = pair.anchor.forwarder
    anchor.handle(MoveFlows(HOST, 6, (Move(Everything(), B),)), pair.now)
    assert SetDefault(HOST, B, 6) in anchor.state(pair.now).defaults
    successor, _ = pair_at_work()
    again = successor.anchor.forwarder
    for default in anchor.state(pair.now).defaults:
        again.handle(default, successor.now)
    again.handle(MoveFlows(HOST, 5, (Move(Everything(), A),)), successor.now)
    assert again.state(successor.now).defaults == (SetDefault(HOST, B, 6),)
    again.handle(MoveFlows(HOST, 6, (Move(Everything(), B),)), successor.now)
    again.handle(MoveFlows(HOST, 7, (Move(Everything(), A),)), successor.now)
    assert again.state(successor.now).defaults == (SetDefault(HOST, A, 7),)


def pair_at_work() -> tuple[Pair, Voice]:
    pair = Pair(Wire("wifi"), Wire("cellular", address="10.64.0.7", public="198.51.100.99"))
    pair.open()
    pair.run(1)
    voice = Voice(pair)
    voice.talk(60)
    pair.run(2)
    return pair, voice


def test_a_snapshot_says_everything_and_survives_being_written_and_read() -> None:
    pair, _ = pair_at_work()
    pair.anchor.submit([Snapshot()])
    (state,) = pair.anchor_told(State)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=State) == state
    assert state.setup is not None
    assert [added.association for added in state.associations] == [HOST]
    assert [install.secret.generation for install in state.secrets] == [1]
    assert [(row.tunnel, row.packets_in > 0) for row in state.rows] == [(A, True)]
    assert state.outer == {A: Endpoint("198.51.100.1", 40001), B: Endpoint("198.51.100.99", 40001)}


@pytest.mark.parametrize("role", [Role.HOST, Role.ANCHOR])
def test_a_successor_goes_on_where_a_data_path_died_and_takes_no_packet_twice(role: Role) -> None:
    pair, voice = pair_at_work()
    seen: list[tuple[bytes, Endpoint]] = []
    pair.spy = lambda datagram, source: seen.append((datagram, source))
    pair.run(1)
    pair.spy = None
    pair.restart(role)
    pair.run(0.5)
    heard, refused = len(pair.to_correspondent), pair.anchor.forwarder.refused.total()
    for datagram, source in seen:
        pair.inject(datagram, source)
    assert len(pair.to_correspondent) == heard
    assert pair.anchor.forwarder.refused.total() == refused + len(seen)
    pair.run(60)
    # Only what was on its way may be lost.
    assert voice.lost() <= (1, 1)
    assert len(voice.heard_up()) == len(set(voice.heard_up()))
    assert not pair.host_told(TunnelSilent)
    sealers = [node.forwarder.tunnels[A].sealer for node in (pair.host, pair.anchor)]
    assert [sealer.epoch for sealer in sealers if sealer is not None] == ([2, 1] if role is Role.HOST else [1, 2])


def test_data_paths_that_die_again_and_again_are_never_more_than_two_epochs_ahead_unless_they_are_answered() -> None:
    pair, _ = pair_at_work()
    for _ in range(10):
        pair.restart(Role.HOST)
        pair.run(0.5)
    assert not pair.host_told(SecretNeeded)
    pair.wires[A].dead = pair.wires[B].dead = True
    for _ in range(5):
        pair.restart(Role.HOST)
        pair.run(0.1)
    assert pair.host_told(SecretNeeded)
    assert pair.epochs[Role.HOST].used(A) <= pair.epochs[Role.HOST].reported(A) + 2
    assert not pair.host.forwarder.tunnels[A].usable
    pair.wires[A].dead = pair.wires[B].dead = False
    new = InstallSecret(HOST, Secret(2, bytes(32), 1024))
    pair.anchor.submit([new])
    pair.host.submit([new])
    pair.run(1)
    assert pair.host.forwarder.tunnels[A].usable
    assert pair.host_told(TunnelTested)


def test_the_same_order_again_disturbs_nothing() -> None:
    pair, voice = pair_at_work()
    repeated: list[AnyCommand] = [
        AddAssociation(HOST, "10.201.0.2", None, (A, B)),
        InstallSecret(HOST, Secret(1, KEY, 1)),
        *pair.host.forwarder.state(pair.now).tunnels,
        SetDefault(HOST, A),
    ]
    pair.host.submit(repeated)
    pair.run(59)
    assert voice.lost() == (0, 0)
    # What works is said again, once: control may be a new one.
    assert [event.tunnel for event in pair.host_told(TunnelTested)] == [A, B, A, B]
    assert not pair.host_told(TunnelSilent)


def test_a_tunnel_opened_again_from_another_address_is_tested_anew_and_keeps_its_flows() -> None:
    pair, voice = pair_at_work()
    pair.wires[A].address = "192.168.1.99"
    pair.host.submit([OpenTunnel(HOST, A, "wifi", Endpoint("192.168.1.99", 50016), ANCHOR)])
    pair.run(59)
    assert [event.tunnel for event in pair.host_told(TunnelTested)] == [A, B, A]
    assert voice.lost()[0] == 0
    assert voice.lost()[1] <= 2


def test_a_report_gives_counters_and_one_measurement_a_tunnel() -> None:
    pair, _ = pair_at_work()
    before = len(pair.host_told(TunnelMeasured))
    pair.host.submit([Report()])
    (counters,) = pair.host_told(Counters)
    assert counters.flows == 1
    assert counters.totals["packets_out"] > 100
    assert [event.tunnel for event in pair.host_told(TunnelMeasured)[before:]] == [A, B]
    assert pair.host_told(TunnelMeasured)[before].srtt == pytest.approx(0.02)
    told = len(pair.host_told(TunnelMeasured))
    pair.host.submit([Report(tunnels=False)])
    assert len(pair.host_told(Counters)) == 2
    assert len(pair.host_told(TunnelMeasured)) == told


def test_an_active_tunnel_is_reported_on_about_five_times_a_second_and_an_idle_one_is_not() -> None:
    pair, _ = pair_at_work()
    before = len(pair.host_told(TunnelMeasured))
    pair.run(20)
    active = pair.host_told(TunnelMeasured)[before:]
    assert 95 <= len(active) <= 105
    assert {event.tunnel for event in active} == {A}
    assert active[0].counts is not None
    assert active[-1].counts is not None
    sent, arrived, they_sent, came = (new - old for new, old in zip(active[-1].counts, active[0].counts, strict=True))
    assert 0 <= arrived - sent <= 1, "nothing was lost; a probe of the path's MTU counts when it was answered"
    assert 0 <= came - they_sent <= 1
    assert sent > 1000


def test_an_idle_tunnel_is_measured_for_as_long_as_control_wants_to_know() -> None:
    pair, _ = pair_at_work()
    before = len(pair.host_told(TunnelMeasured))
    pair.host.submit([Measure(B, 2.0), Measure(TunnelId(99), 2.0)])
    pair.run(20)
    watched = [event for event in pair.host_told(TunnelMeasured)[before:] if event.tunnel == B]
    assert 9 <= len(watched) <= 12
    assert watched[-1].counts is not None
    assert watched[0].counts is not None
    assert watched[-1].counts[1] - watched[0].counts[1] >= 8, "its packets arrived"


def test_an_older_order_moves_neither_rows_nor_the_default() -> None:
    pair, _ = pair_at_work()
    pair.anchor.submit([MoveFlows(HOST, 5, (Move(Everything(), B),)), MoveFlows(HOST, 4, (Move(Everything(), A),))])
    assert [moved.counts for moved in pair.anchor_told(FlowsMoved)] == [
        ({MoveResult.MOVED: 1},),
        ({MoveResult.STALE: 1},),
    ]
    assert pair.anchor.forwarder.associations[HOST].default == B


def test_an_order_for_an_association_that_is_not_known_is_answered_and_moves_nothing() -> None:
    pair, _ = pair_at_work()
    pair.anchor.submit([MoveFlows(AssociationId(99), 1, (Move(OnTunnel(A), B),))])
    assert pair.anchor_told(FlowsMoved) == [FlowsMoved(AssociationId(99), 1, ({},))]
