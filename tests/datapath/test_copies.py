"""Copied flows between a host and its anchor: every packet once at the other end, whatever becomes of one network."""

from itertools import pairwise

import pytest

from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.packet.ip import key_of, parse, udp_packet
from sojourn.packet.sequence import OVERHEAD_BYTES
from sojourn.paft import Mode, MoveResult
from sojourn.upmt.commands import Exactly, Move, MoveFlows, Role
from sojourn.upmt.events import FlowMoved, FlowSeen, FlowsMoved, TunnelSilent
from tests.harness.fakenet import VIPA, Pair, Wire
from tests.harness.voice import CORRESPONDENT, Voice
from tests.packet.build import MSS_1460, tcp_packet

A, B = TunnelId(0x10), TunnelId(0x11)
HOST = AssociationId(1)


def copied(*, reorder: bool = True, loss: float = 0.0, jitter: float = 0.0, seed: int = 1) -> tuple[Pair, Voice]:
    """Return a pair with two networks, and a call whose packets go over both, both ways."""
    pair = Pair(
        Wire("wifi", delay=0.01, loss=loss, jitter=jitter, reorder=reorder),
        Wire("cellular", address="10.64.0.7", public="198.51.100.99", delay=0.04, loss=loss, jitter=jitter),
        seed=seed,
    )
    pair.open()
    pair.run(2)
    voice = Voice(pair)
    voice.say()
    pair.run(1)
    voice.listen()
    pair.run(1)
    order(pair, voice, 1, A, (B,))
    return pair, voice


def order(pair: Pair, voice: Voice, number: int, tunnel: TunnelId, copies: tuple[TunnelId, ...]) -> None:
    """Order copies at both ends, as a HandoverRequest does."""
    moves = (Move(Exactly((pair.host_told(FlowSeen)[0].flow,)), tunnel, copies),)
    pair.host.submit([MoveFlows(HOST, number, moves)])
    pair.anchor.submit([MoveFlows(HOST, number, moves)])
    assert voice.local.address == VIPA


def totals(pair: Pair) -> tuple[int, int, int, int]:
    host, anchor = pair.host.forwarder.totals, pair.anchor.forwarder.totals
    return (host["copies-sent"], anchor["duplicates-dropped"], anchor["copies-sent"], host["duplicates-dropped"])


def test_each_packet_travels_twice_and_arrives_once_and_first_over_the_quicker_network() -> None:
    pair, voice = copied()
    before = pair.wires[B].passed_up
    voice.talk(10)
    pair.run(11)
    assert voice.lost() == (0, 0)
    assert voice.heard_up() == list(range(len(voice.sent_up)))
    assert voice.heard_down() == list(range(len(voice.sent_down)))
    packets = len(voice.sent_up) - 1
    assert totals(pair) == (packets, packets, packets, packets)
    assert pair.wires[B].passed_up - before >= packets
    assert voice.longest_gap(to_host=True) < 1.1  # the pause before the call
    assert not pair.anchor_told(FlowMoved)


@pytest.mark.parametrize("network", [A, B])
@pytest.mark.parametrize("way", ["dead", "dead_up", "dead_down"])
def test_a_network_that_dies_silently_loses_nothing_doubles_nothing_and_delays_nothing(
    network: TunnelId, way: str
) -> None:
    pair, voice = copied()
    voice.talk(30)
    pair.run(10.003)
    setattr(pair.wires[network], way, True)
    dead_at = pair.now
    pair.run(10)
    setattr(pair.wires[network], way, False)
    pair.run(12)
    assert voice.lost() == (0, 0)
    assert sorted(voice.heard_up()) == list(range(len(voice.sent_up)))
    assert sorted(voice.heard_down()) == list(range(len(voice.sent_down)))
    for packets in (pair.to_host, pair.to_correspondent):
        times = [at for at, _ in packets if dead_at - 1 < at < dead_at + 9]
        assert max(b - a for a, b in pairwise(times)) <= 0.02 + 0.03 + 1e-6
    assert not pair.anchor_told(FlowMoved)


def test_loss_and_reordering_on_both_networks_lose_only_what_both_lose_and_double_nothing() -> None:
    pair, voice = copied(loss=0.1, jitter=0.08, seed=9)
    voice.talk(120)
    pair.run(121)
    up, down = voice.heard_up(), voice.heard_down()
    assert len(up) == len(set(up))
    assert len(down) == len(set(down))
    for lost, sent in zip(voice.lost(), (voice.sent_up, voice.sent_down), strict=True):
        assert lost < 0.02 * len(sent)
    assert not pair.host_told(TunnelSilent)


@pytest.mark.parametrize("role", [Role.HOST, Role.ANCHOR])
@pytest.mark.parametrize("after", [5.0, 3000.0])
def test_a_data_path_that_starts_again_goes_on_copying_and_is_heard_at_once(role: Role, after: float) -> None:
    pair, voice = copied()
    voice.talk(5)
    pair.net.every(100.0, voice.both, pair.now + after)
    pair.run(after + 1.0)
    pair.restart(role)
    heard = len(voice.heard_up()), len(voice.heard_down())
    for node in (pair.host, pair.anchor):
        (row,) = node.forwarder.paft.rows.values()
        assert (row.tunnel, row.copies, row.mode) == (A, (B,), Mode.COPIES)
    pair.run(2)  # the tunnels are tested anew
    began = len(voice.sent_up), len(voice.sent_down)
    voice.talk(10)
    pair.run(11)
    assert voice.heard_up()[heard[0] :] == list(range(began[0], len(voice.sent_up)))
    assert voice.heard_down()[heard[1] :] == list(range(began[1], len(voice.sent_down)))


def test_copies_begin_and_end_with_an_order_and_with_nothing_else() -> None:
    pair, voice = copied()
    voice.talk(2)
    pair.run(3)
    (row,) = pair.anchor.forwarder.paft.rows.values()
    assert (row.tunnel, row.copies) == (A, (B,))
    order(pair, voice, 2, B, ())
    before = totals(pair)
    voice.talk(2)
    pair.run(3)
    assert totals(pair) == before
    assert voice.lost() == (0, 0)
    assert (row.tunnel, row.mode) == (B, Mode.ONE)


def test_a_copied_packet_of_a_flow_that_the_anchor_was_not_told_of_is_let_through_once_and_not_learned_from() -> None:
    pair, voice = copied()
    flow = pair.host_told(FlowSeen)[0].flow
    pair.anchor.submit([MoveFlows(HOST, 2, (Move(Exactly((flow,)), A),))])
    pair.run(10)
    voice.talk(2)
    pair.run(3)
    assert voice.heard_up() == list(range(len(voice.sent_up)))
    (row,) = pair.anchor.forwarder.paft.rows.values()
    assert (row.tunnel, row.mode) == (A, Mode.ONE)
    assert not pair.anchor_told(FlowMoved)


def test_a_tunnel_of_another_host_is_not_copied_to() -> None:
    pair, voice = copied()
    order(pair, voice, 2, A, (TunnelId(0x77),))
    assert pair.anchor_told(FlowsMoved)[-1].results == ((MoveResult.UNKNOWN,),)
    (row,) = pair.anchor.forwarder.paft.rows.values()
    assert row.copies == (B,)


def test_a_closed_tunnel_leaves_the_flow_on_the_other_one() -> None:
    pair, voice = copied()
    pair.host.forwarder._close(A, pair.now)
    (row,) = pair.host.forwarder.paft.rows.values()
    assert (row.tunnel, row.mode) == (B, Mode.ONE)
    voice.say()
    pair.run(1)
    assert voice.lost()[0] == 0


def test_both_networks_away_keep_the_newest_packet_and_either_one_brings_it() -> None:
    pair, voice = copied()
    pair.wires[A].dead = pair.wires[B].dead = True
    voice.talk(10)
    pair.run(10)
    heard = len(voice.heard_up())
    pair.wires[B].dead = False
    pair.run(3)
    assert voice.heard_up()[heard:] == [len(voice.sent_up) - 1]


def test_a_packet_that_has_no_room_for_its_number_is_too_big() -> None:
    pair, voice = copied()
    pair.run(5)
    room = min(pair.host.forwarder.tunnels[each].inner_mtu for each in (A, B)) - OVERHEAD_BYTES
    fits = udp_packet(voice.local, CORRESPONDENT, bytes(room - 28))
    pair.host.forwarder.from_inner(fits, pair.now)
    before = len(pair.to_host)
    larger = udp_packet(voice.local, CORRESPONDENT, bytes(room - 27))
    pair.host.forwarder.from_inner(larger, pair.now)
    told = pair.to_host[before:][0][1]
    assert told[20:22] == b"\x03\x04"
    assert int.from_bytes(told[26:28]) == room
    pair.run(1)
    assert pair.to_correspondent[-1][1] == fits


def test_the_segments_of_a_copied_connection_leave_room_for_the_number() -> None:
    pair, _ = copied()
    pair.run(5)
    syn = tcp_packet(Endpoint(VIPA, 4000), Endpoint("93.184.216.34", 80), b"", flags=2, options=MSS_1460)
    pair.host.forwarder.from_inner(syn, pair.now)
    (row,) = [row for key, row in pair.host.forwarder.paft.rows.items() if key[0] == 6]
    pair.host.forwarder.paft.place(row, A, pair.now, (B,))
    pair.host.forwarder.from_inner(syn, pair.now)
    pair.run(1)
    sizes = [int.from_bytes(packet[42:44]) for _, packet in pair.to_correspondent if packet[9] == 6]
    assert sizes[1] == sizes[0] - OVERHEAD_BYTES
    assert parse(pair.to_correspondent[-1][1]).total_bytes == len(syn)
    assert key_of(pair.host_told(FlowSeen)[0].flow) in pair.anchor.forwarder.paft.rows
