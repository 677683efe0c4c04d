"""How long the flows of a handover heard nothing: planned, forced, idle, and never heard again."""

import pytest

from sojourn.datapath.gaps import PATIENCE
from sojourn.model import AssociationId, TunnelId
from sojourn.upmt.commands import Everything, Move, MoveFlows
from sojourn.upmt.events import FlowsMoved, GapMeasured, TunnelSilent
from tests.harness.fakenet import Pair, Wire
from tests.harness.voice import Voice

A, B = TunnelId(0x10), TunnelId(0x11)
HOST = AssociationId(1)


def talking() -> tuple[Pair, Voice]:
    """Return a call over the first of two networks."""
    pair = Pair(Wire("wifi", delay=0.01), Wire("cellular", address="10.64.0.7", public="198.51.100.99", delay=0.03))
    pair.open()
    pair.run(1)
    voice = Voice(pair)
    voice.talk(120)
    pair.run(3)
    return pair, voice


def to(number: int, tunnel: TunnelId | None) -> MoveFlows:
    return MoveFlows(HOST, number, (Move(Everything(), tunnel),))


def test_a_planned_move_costs_what_the_paths_differ() -> None:
    pair, voice = talking()
    pair.host.submit([to(5, B)])
    pair.run(1)
    (gap,) = pair.host_told(GapMeasured)
    assert gap.number == 5
    assert gap.seconds == pytest.approx(voice.longest_gap(to_host=True), abs=0.025)
    assert gap.packets > 0


def test_a_network_that_died_silently_costs_what_the_call_heard() -> None:
    pair, voice = talking()
    pair.wires[A].dead = True
    while not pair.host_told(TunnelSilent):
        pair.run(0.01)
    pair.host.submit([to(5, B)])
    pair.run(2)
    (gap,) = pair.host_told(GapMeasured)
    assert gap.seconds is not None
    assert gap.seconds > 0.2
    assert gap.seconds == pytest.approx(voice.longest_gap(to_host=True), rel=0.1, abs=0.01)


def test_the_effect_comes_after_the_answer_and_once_an_order() -> None:
    pair, _ = talking()
    pair.host.submit([to(5, B)])
    pair.run(1)
    pair.host.submit([to(6, B), to(7, A)])
    pair.run(4)  # the anchor has no request here, and does not learn its way back at once
    told = [event for event in pair.host_events if isinstance(event, FlowsMoved | GapMeasured)]
    assert [(type(event).__name__, event.number) for event in told] == [
        ("FlowsMoved", 5), ("GapMeasured", 5), ("FlowsMoved", 6), ("FlowsMoved", 7), ("GapMeasured", 7),
    ]  # fmt: skip


def test_flows_that_nobody_uses_have_no_gap() -> None:
    pair, _ = talking()
    pair.run(130)
    pair.host.submit([to(5, B)])
    assert [(gap.number, gap.seconds) for gap in pair.host_told(GapMeasured)] == [(5, None)]


def test_flows_that_are_never_heard_again_are_given_up_after_a_while() -> None:
    pair, _ = talking()
    pair.wires[B].dead = True
    pair.host.submit([to(5, B)])
    pair.run(PATIENCE - 0.6)
    assert not pair.host_told(GapMeasured)
    pair.run(1.5)
    assert [(gap.number, gap.seconds) for gap in pair.host_told(GapMeasured)] == [(5, None)]


def test_an_anchor_measures_no_gaps() -> None:
    pair, _ = talking()
    pair.anchor.submit([to(5, B)])
    pair.run(1)
    assert not pair.anchor_told(GapMeasured)
