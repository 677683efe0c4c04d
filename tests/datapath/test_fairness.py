"""One mobile host and what it may cost the others at their anchor: a slice of time now and then, and no more."""

import time

import pytest

from sojourn.datapath.orders import SLICE
from sojourn.datapath.waiting import MODEST, Waiting
from sojourn.model import UDP, AssociationId, Endpoint, Flow, TunnelId
from sojourn.packet.ip import key_of, udp_packet
from sojourn.packet.seal import Secret
from sojourn.paft import MoveResult, Paft, Row
from sojourn.upmt.commands import (
    AddAssociation,
    Everything,
    Exactly,
    InstallSecret,
    Move,
    MoveFlows,
    RemoveAssociation,
    Snapshot,
)
from sojourn.upmt.events import FlowSeen, FlowsMoved, State
from tests.harness.fakenet import Pair, Wire
from tests.harness.voice import CORRESPONDENT, Voice

A = TunnelId(0x10)
HOST, GREEDY = AssociationId(1), AssociationId(2)
GREEDY_VIPA = "10.201.0.3"
T, U = TunnelId(0x30), TunnelId(0x31)
COUNT = 20 * SLICE


def flow(number: int) -> Flow:
    return Flow(UDP, Endpoint(GREEDY_VIPA, 1024 + number), CORRESPONDENT)


def crowded() -> Pair:
    """Return a pair whose anchor has another host, with very many flows."""
    pair = Pair(Wire("wifi"))
    pair.anchor.submit(
        [AddAssociation(GREEDY, GREEDY_VIPA, None, (T, U)), InstallSecret(GREEDY, Secret(1, bytes(32), 1))]
    )
    pair.open()
    pair.run(1)
    Voice(pair).both()
    pair.run(1)
    forwarder = pair.anchor.forwarder
    for number in range(COUNT):
        forwarder.paft.add(key_of(flow(number)), Row(GREEDY, T, pair.now))
    return pair


def moved(pair: Pair) -> list[FlowsMoved]:
    return [event for event in pair.anchor_told(FlowsMoved) if event.association == GREEDY]


def turns(pair: Pair) -> int:
    """Let the anchor work its orders off, a packet of the other host before each turn; return how many it took."""
    voice, count = Voice(pair, 4002), 0
    while pair.anchor.forwarder.deadline() == 0.0:
        before = len(pair.to_correspondent), len(pair.to_host)
        voice.listen()
        count += 1
        pair.anchor.forwarder.tick(pair.now)
        assert len(pair.to_correspondent) >= before[0]
    pair.run(1)
    assert len(voice.heard_down()) == count, "each of its packets went out between two slices"
    return count


def test_a_move_of_very_many_flows_lets_other_hosts_packets_through_and_is_answered_when_all_is_done() -> None:
    pair = crowded()
    pair.anchor.submit([MoveFlows(GREEDY, 5, (Move(Everything(), U),))])
    assert moved(pair) == []
    assert turns(pair) == pytest.approx(COUNT / SLICE, abs=1)
    assert moved(pair) == [FlowsMoved(GREEDY, 5, ({MoveResult.MOVED: COUNT},), ((),))]
    assert {row.tunnel for row in pair.anchor.forwarder.paft.of(GREEDY).values()} == {U}


def test_orders_of_one_host_are_carried_out_in_their_order_and_those_of_others_meanwhile() -> None:
    pair = crowded()
    pair.anchor.submit(
        [
            MoveFlows(GREEDY, 5, (Move(Everything(), U),)),
            MoveFlows(GREEDY, 6, (Move(Exactly((flow(0), flow(9))), T),)),
            MoveFlows(HOST, 1, (Move(Everything(), A),)),
        ]
    )
    assert [(event.association, event.number) for event in pair.anchor_told(FlowsMoved)] == [(HOST, 1)]
    turns(pair)
    assert [event.number for event in moved(pair)] == [5, 6]
    places = pair.anchor.forwarder.paft.of(GREEDY)
    assert (places[key_of(flow(9))].tunnel, places[key_of(flow(8))].tunnel) == (T, U)


def test_a_snapshot_holds_all_that_was_ordered_before_it() -> None:
    pair = crowded()
    pair.anchor.submit([MoveFlows(GREEDY, 5, (Move(Everything(), U),)), Snapshot()])
    (state,) = pair.anchor_told(State)
    assert {row.tunnel for row in state.rows if row.association == GREEDY} == {U}
    assert pair.anchor.forwarder.deadline() != 0.0


def test_a_host_that_goes_is_cleared_away_in_slices_and_comes_back_to_an_empty_table() -> None:
    pair = crowded()
    pair.anchor.submit([RemoveAssociation(GREEDY)])
    assert len(pair.anchor.forwarder.paft.of(GREEDY)) == COUNT - SLICE
    pair.anchor.submit([AddAssociation(GREEDY, GREEDY_VIPA, None, (T, U))])
    assert not pair.anchor.forwarder.paft.of(GREEDY)
    assert len(pair.anchor.forwarder.paft.of(HOST)) == 1


def test_the_orders_of_a_host_that_goes_are_forgotten() -> None:
    pair = crowded()
    pair.anchor.submit([MoveFlows(GREEDY, 5, (Move(Everything(), U),)), RemoveAssociation(GREEDY)])
    turns(pair)
    assert moved(pair) == []
    assert not pair.anchor.forwarder.paft.of(GREEDY)


def test_a_packet_of_a_new_flow_costs_the_same_however_many_rows_others_have() -> None:
    """At its limit a host looks for a row of its own to give up: not among everybody's."""
    took = []
    for others in (0, 60000):
        paft = Paft(max_rows_per_association=100)
        for number in range(others):
            paft.rows[number.to_bytes(4)] = row = Row(HOST, A, 0.0)
            paft._own.setdefault(HOST, {})[number.to_bytes(4)] = row
        for number in range(100):
            paft.add(b"g" + number.to_bytes(4), Row(GREEDY, T, 0.0))
        began = time.process_time()
        for number in range(100, 1100):
            assert paft.add(b"g" + number.to_bytes(4), Row(GREEDY, T, 0.0)) is not None
        took.append(time.process_time() - began)
    assert took[1] < 5 * took[0] + 0.05


def test_a_host_that_keeps_many_packets_gives_up_its_own_and_a_modest_one_is_let_in() -> None:
    paft = Paft()
    waiting = Waiting(paft, most_flows=200)
    for number in range(200):
        paft.add(b"g" + number.to_bytes(2), row := Row(GREEDY, None, 0.0))
        waiting.keep(b"g" + number.to_bytes(2), row, b"packet")
    paft.add(b"mine", mine := Row(HOST, None, 0.0))
    waiting.keep(b"mine", mine, b"packet")
    for number in range(200, 400):
        paft.add(b"g" + number.to_bytes(2), row := Row(GREEDY, None, 0.0))
        waiting.keep(b"g" + number.to_bytes(2), row, b"packet")
    assert mine.kept == b"packet"
    assert len(waiting) == 200 > MODEST
    assert [key for key, _ in waiting.rows(HOST)] == [b"mine"]


def test_an_order_that_names_flows_counts_among_those_that_a_host_begins() -> None:
    pair = crowded()
    association = pair.anchor.forwarder.associations[GREEDY]
    assert pair.anchor.forwarder.may_begin(association, pair.now)
    assert association.fresh is not None
    while association.fresh.take(pair.now):
        pass
    new = tuple(Flow(UDP, Endpoint(GREEDY_VIPA, port), CORRESPONDENT) for port in (60000, 60001))
    pair.anchor.submit([MoveFlows(GREEDY, 7, (Move(Exactly(new), T),))])
    assert moved(pair)[-1].results == ((MoveResult.UNKNOWN,) * 2,)
    assert pair.anchor.forwarder.refused["flow-rate"] == 2
    assert not any(seen.association == GREEDY for seen in pair.anchor_told(FlowSeen))
    packet = udp_packet(CORRESPONDENT, Endpoint(GREEDY_VIPA, 60000), b"from outside")
    pair.anchor.forwarder.from_inner(packet, pair.now)
    assert any(seen.association == GREEDY for seen in pair.anchor_told(FlowSeen)), "correspondents may begin"
