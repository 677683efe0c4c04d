"""The kernel path and its forwarder: rows and tunnels kept in step, what programs carry told to the tunnels."""

import os
from collections.abc import Iterator

import pytest

from sojourn.datapath.kernel import ADOPTED_FOR, IDLE, KernelPath, Way
from sojourn.datapath.kernel_layout import Flag
from sojourn.datapath.kernel_tables import KernelTables, slept
from sojourn.datapath.loop import boot_time
from sojourn.model import Endpoint, TunnelId
from sojourn.packet.ip import flow_key, udp_packet
from sojourn.upmt.commands import CloseTunnel, Everything, Move, MoveFlows, OpenTunnel, Report, Role, Snapshot
from sojourn.upmt.events import Counters, State
from tests.harness.kernel_twin import HERE, ME, OTHER, THERE, TUNNEL, VIPA, NoLinks, Twin, twin

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: BPF maps")

LOCAL, CORRESPONDENT = Endpoint(VIPA, 4000), Endpoint("192.0.2.80", 5004)
PACKET = udp_packet(LOCAL, CORRESPONDENT, b"words")
KEY = flow_key(PACKET)


@pytest.fixture
def pair() -> Iterator[Twin]:
    with twin(Role.HOST) as made:
        made.forwarder.from_inner(PACKET, boot_time())
        made.kernel.flush()
        yield made


def rows_of(pair: Twin) -> dict[bytes, int]:
    """Return the slot of each row in the maps, as a successor would find it."""
    places, _ = pair.tables.adopt()
    return {key: place.slot for key, place in places.items()}


def carry(pair: Twin, *, out: int = 0, into: int = 0, at: float | None = None) -> None:
    """Count packets as the programs do."""
    now = int(((at or boot_time()) - slept()) * 1e9)
    for counts in (pair.tables._tunnel_counts, pair.tables._row_counts):
        one = counts[0]
        counts[0] = (
            one[0] + out, one[1] + 100 * out, one[2] + into, one[3] + 100 * into, now if out else one[4],
            now if into else one[5], 0, 0,
        )  # fmt: skip


def open_other(pair: Twin) -> None:
    """Open a second tunnel, which has another port."""
    remote = THERE[4]
    pair.local = {4: Endpoint(HERE[4].address, 4701)}
    pair.path.submit([OpenTunnel(ME, OTHER, "lo", pair.local[4], remote, sealed=False)])
    pair.kernel.flush()


def test_a_new_flow_is_in_the_maps_after_its_first_packet(pair: Twin) -> None:
    assert rows_of(pair) == {KEY: 0}


def test_a_handover_moves_the_row_in_the_maps(pair: Twin) -> None:
    open_other(pair)
    assert pair.kernel.tunnels == 2
    pair.path.submit([MoveFlows(ME, 1, (Move(Everything(), OTHER),))])
    pair.kernel.flush()
    assert rows_of(pair) == {KEY: 1}
    pair.path.submit([MoveFlows(ME, 2, (Move(Everything(), None),))])
    pair.kernel.flush()
    assert rows_of(pair) == {}, "it waits: the forwarder keeps its packets"


def test_rows_that_are_copied_or_blocked_stay_with_the_forwarder(pair: Twin) -> None:
    row = pair.forwarder.paft.rows[KEY]
    pair.forwarder.paft.place(row, TUNNEL, boot_time(), copies=(OTHER,))
    pair.kernel.flush()
    assert rows_of(pair) == {}
    pair.forwarder.paft.place(row, TUNNEL, boot_time())
    pair.kernel.flush()
    assert rows_of(pair) == {KEY: 0}
    pair.forwarder.paft.place(row, None, boot_time(), blocked=True)
    pair.kernel.flush()
    assert rows_of(pair) == {}


def test_a_flow_that_ends_leaves_the_maps(pair: Twin) -> None:
    pair.forwarder.end_row(KEY)
    pair.kernel.flush()
    assert rows_of(pair) == {}


def test_a_tunnel_that_has_gone_takes_its_slot_with_it(pair: Twin) -> None:
    pair.path.submit([CloseTunnel(TUNNEL)])
    pair.kernel.touch()
    pair.kernel.flush()
    assert pair.tables.adopt() == ({}, {})


def test_a_tunnel_that_may_not_be_used_is_marked_so(pair: Twin) -> None:
    def flags() -> Flag:
        _, tunnels = pair.tables.adopt()
        return tunnels[0].flags

    assert flags() == Flag.USABLE
    pair.tunnel.failed("unplugged", boot_time())
    pair.kernel.flush()
    assert not flags() & Flag.USABLE
    pair.forwarder.run_due(boot_time())
    pair.answer_probes()
    pair.kernel.flush()
    assert flags() & Flag.USABLE


def test_what_the_programs_carry_is_told_to_the_tunnel_and_counted(pair: Twin) -> None:
    sent, heard = pair.tunnel.packets_out, pair.tunnel.packets_in
    carry(pair, out=3, into=2)
    pair.kernel.report(boot_time())
    pair.path.submit([Report(), Snapshot()])
    assert (pair.tunnel.packets_out - sent, pair.tunnel.packets_in - heard) == (3, 2)
    assert pair.forwarder.associations[ME].last_heard == TUNNEL
    (state,) = (event for event in pair.path.events if isinstance(event, State))
    (row,) = state.rows
    assert (row.packets_out, row.packets_in, row.bytes_in) == (1 + 3, 2, 200)
    assert any(isinstance(event, Counters) for event in pair.path.events)


def test_a_row_that_the_programs_use_does_not_expire(pair: Twin) -> None:
    later = boot_time() + 280
    carry(pair, out=1, at=later)
    pair.kernel.report(later)
    assert pair.forwarder.paft.rows[KEY].last_used == pytest.approx(later)


def test_counters_are_read_while_there_is_traffic_and_no_longer(pair: Twin) -> None:
    now = boot_time()
    pair.run("leave_ethernet", PACKET, 4)  # the first after a pause wakes us
    pair.kernel.wake(now)
    assert pair.kernel.deadline() < now + 0.1
    pair.kernel.tick(now + IDLE + 1.0)
    pair.kernel.tick(now + IDLE + 2.0)
    pair.kernel.tick(now + IDLE + 3.0)
    assert pair.kernel.deadline() > now + IDLE + 5.0
    assert pair.forwarder.paft.rows[KEY].packets_out == 2


def test_silence_is_found_by_what_the_programs_have_sent(pair: Twin) -> None:
    began = boot_time()
    carry(pair, out=1, into=1, at=began)
    pair.kernel.report(began)
    for step in range(1, 80):
        now = began + step * 0.01
        carry(pair, out=1, at=now)
        pair.kernel.sync(now)
        pair.forwarder.tick(now)
        pair.path.sent.clear()  # nobody answers
        if not pair.tunnel.usable:
            break
    assert not pair.tunnel.usable
    assert now - began < 0.5


def successor(pair: Twin, now: float) -> tuple[Twin, KernelTables]:
    """Let another kernel path take over the maps of this one, with a forwarder that knows nothing yet."""
    pair.kernel.rows.detach()
    tables = KernelTables(pair.fds, 1 << 14, 1 << 6)
    for key in list(pair.forwarder.paft.rows):
        pair.forwarder.paft.remove(key)
    pair.forwarder.tunnels.clear()

    def way(_: object) -> Way:
        return Way(1, HERE[4])

    links = NoLinks()
    pair.kernel = KernelPath(pair.forwarder, tables, links, way, 1, now)
    assert links.arriving == [1], "or nobody would hold what the one before has attached"
    return pair, tables


def test_a_successor_goes_on_with_what_it_claims_and_drops_the_rest(pair: Twin) -> None:
    stranger = udp_packet(Endpoint(LOCAL.address, 4999), CORRESPONDENT, b"words")
    pair.forwarder.from_inner(stranger, boot_time())
    pair.kernel.flush()
    now = boot_time()
    pair, tables = successor(pair, now)
    assert pair.run("leave_ethernet", PACKET, 4).verdict == 7, "nothing has stopped"
    pair.path.submit([OpenTunnel(ME, TUNNEL, "lo", HERE[4], THERE[4], sealed=False)])
    pair.forwarder.from_inner(PACKET, now)
    pair.kernel.flush()
    pair.tables = tables
    assert len(rows_of(pair)) == 2
    pair.kernel.tick(now + ADOPTED_FOR)
    pair.kernel.flush()
    assert rows_of(pair) == {KEY: 0}


def test_rows_of_a_host_that_comes_back_by_another_tunnel_are_dropped_at_once(pair: Twin) -> None:
    pair, tables = successor(pair, boot_time())
    pair.path.submit([OpenTunnel(ME, OTHER, "lo", Endpoint(HERE[4].address, 4701), THERE[4], sealed=False)])
    pair.kernel.flush()
    pair.tables = tables
    assert rows_of(pair) == {}, "else its packets would go on to where it no longer is"


def test_without_room_in_the_maps_the_forwarder_carries_on() -> None:
    with twin(Role.HOST) as pair:
        pair.tables._places._most = 1
        for port in (4000, 4001):
            packet = udp_packet(Endpoint(LOCAL.address, port), CORRESPONDENT, b"words")
            pair.forwarder.from_inner(packet, boot_time())
        pair.kernel.flush()
        assert len(rows_of(pair)) == 1
        assert pair.forwarder.totals["kernel-full"] == 1
        assert len(pair.take_sent()) == 2


def test_tunnel_numbers_are_those_of_the_forwarder(pair: Twin) -> None:
    _, tunnels = pair.tables.adopt()
    assert [TunnelId(entry.id) for entry in tunnels.values()] == [TUNNEL]
