"""Maps of the kernel path that take no more, by the kernel's word: the engine carries the rest until there is room."""

import os

import pytest

from sojourn.datapath import kernel_layout as layout
from sojourn.datapath.kernel import Way
from sojourn.datapath.kernel_tables import slept
from sojourn.datapath.loop import boot_time
from sojourn.model import Endpoint, TunnelId
from sojourn.packet import frame
from sojourn.packet.ip import flow_key, udp_packet
from sojourn.upmt.commands import CloseTunnel, Everything, Move, MoveFlows, OpenTunnel, Role
from tests.harness.bpf_ran import PASSED, SENT_ON
from tests.harness.kernel_twin import HERE, LOOPBACK, ME, OTHER, THERE, TUNNEL, VIPA, VIPA6, Twin, twin

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: BPF maps")

PEER = {4: Endpoint("192.0.2.80", 5004), 6: Endpoint("2001:db8:9::80", 5004)}


def packet(port: int, family: int = 4) -> bytes:
    return udp_packet(Endpoint(VIPA6 if family == 6 else VIPA, port), PEER[family], b"words")


def begin(pair: Twin, *packets: bytes) -> None:
    """Let the forwarder have flows' first packets."""
    for each in packets:
        pair.forwarder.from_inner(each, boot_time())
    pair.kernel.flush()


def by_kernel(pair: Twin, each: bytes) -> bool:
    """Say whether the programs send a packet on; what they do not the forwarder does."""
    verdict = pair.run("leave_ethernet", each, each[0] >> 4).verdict
    if verdict == PASSED:
        pair.take_sent()
        pair.forwarder.from_inner(each, boot_time())
        assert [one.datagram[-5:] for one in pair.take_sent()] == [b"words"]
    return verdict == SENT_ON


def open_other(pair: Twin) -> None:
    """Open a second tunnel, at another port of ours, that works."""
    ports = {TUNNEL: HERE[4], OTHER: Endpoint(HERE[4].address, 4701)}
    pair.kernel._way = lambda tunnel: Way(LOOPBACK, ports[tunnel.id])
    pair.path.submit([OpenTunnel(ME, OTHER, "lo", ports[OTHER], THERE[4], sealed=False)])
    for _ in range(8):
        asked = [frame.parse(one.datagram) for one in pair.path.sent if not one.datagram[0] >> 4]
        pair.path.sent.clear()
        for each in asked:
            if isinstance(each, frame.Probe):
                answer = bytes(frame.Answer(0, each.sequence, each.sent_us, 1, 1, 0, 0))
                pair.forwarder.from_outer(answer, THERE[4], boot_time(), OTHER)
        pair.forwarder.tick(boot_time())
    pair.kernel.flush()


def arrives(pair: Twin) -> int:
    """Return what the programs do with an answer that comes by the second tunnel."""
    inner = udp_packet(PEER[4], Endpoint(VIPA, 4000), b"words")
    outer = udp_packet(THERE[4], Endpoint(HERE[4].address, 4701), inner)
    return pair.run("arrive_ethernet", outer, 4).verdict


def full(pair: Twin) -> int:
    return pair.forwarder.totals["kernel-full"]


@pytest.mark.parametrize("family", [4, 6])
def test_rows_beyond_the_map_are_the_engines_until_others_have_gone(family: int) -> None:
    packets = [packet(port, family) for port in range(4000, 4005)]
    with twin(Role.HOST, small={f"rows{family}": 2}) as pair:
        begin(pair, *packets)
        assert (len(pair.kernel.rows), full(pair)) == (2, 3)
        carried = [each for each in packets if by_kernel(pair, each)]
        assert len(carried) == 2
        assert pair.tables.reasons()["kernel-no-row-out"] == 3
        pair.forwarder.end_row(flow_key(carried[0]))
        pair.kernel.flush()
        pair.kernel.flush()
        assert len(pair.kernel.rows) == 2, "its place has been given to one that had none"
        again = [each for each in packets if each != carried[0] and by_kernel(pair, each)]
        assert len(again) == 2
        assert carried[1] in again
        assert full(pair) == 3
        begin(pair, packet(4000, 10 - family))
        assert by_kernel(pair, packet(4000, 10 - family)), "the other family's map has room"


def test_what_leaves_the_map_of_one_family_makes_room_for_that_family() -> None:
    with twin(Role.HOST, small={"rows4": 1, "rows6": 1}) as pair:
        begin(pair, *(packet(port, family) for family in (4, 6) for port in (4000, 4001)))
        assert (len(pair.kernel.rows), full(pair)) == (2, 2)
        pair.forwarder.end_row(flow_key(packet(4000, 4)))
        pair.kernel.flush()
        pair.kernel.flush()
        assert by_kernel(pair, packet(4001, 4)), "the other family's flow, which has waited less, does not fit there"
        assert (len(pair.kernel.rows), full(pair)) == (2, 2)


def test_rows_of_a_full_map_move_all_the_same() -> None:
    with twin(Role.HOST, small={"rows4": 2}) as pair:
        begin(pair, *(packet(port) for port in (4000, 4001, 4002)))
        open_other(pair)
        pair.path.submit([MoveFlows(ME, 1, (Move(Everything(), OTHER),))])
        pair.kernel.flush()
        places, _ = pair.tables.adopt()
        assert [place.slot for place in places.values()] == [1, 1]


@pytest.mark.parametrize("small", ["tunnels", "sources4"])
def test_a_tunnel_beyond_a_map_is_the_engines_in_both_directions_until_another_has_gone(small: str) -> None:
    with twin(Role.HOST, small={small: 1}) as pair:
        begin(pair, packet(4000))
        open_other(pair)
        assert pair.kernel.tunnels == 1
        assert full(pair) >= 1
        assert len(list(pair.tables._tunnels.keys())) == 1, "nor is there half of it"
        pair.path.submit([MoveFlows(ME, 1, (Move(Everything(), OTHER),))])
        pair.kernel.flush()
        assert not by_kernel(pair, packet(4000))
        assert arrives(pair) == PASSED
        pair.path.submit([CloseTunnel(TUNNEL)])
        pair.kernel.touch([TUNNEL])
        pair.kernel.flush()
        pair.kernel.flush()
        assert pair.kernel.tunnels == 1
        assert by_kernel(pair, packet(4000))
        assert arrives(pair) == SENT_ON


def test_a_tunnel_that_goes_makes_room_for_one_of_its_family() -> None:
    later = TunnelId(OTHER + 1)
    with twin(Role.HOST) as pair:
        begin(pair, packet(4000))
        waiting = pair.kernel._roomless
        waiting[False][OTHER], waiting[True][later] = None, None
        pair.path.submit([CloseTunnel(TUNNEL)])
        pair.kernel.touch([TUNNEL])
        pair.kernel.flush()
        assert waiting == {False: {}, True: {later: None}}


def test_a_tunnel_whose_new_address_finds_no_room_is_not_served_at_the_old_one() -> None:
    with twin(Role.HOST, small={"sources4": 1}) as pair:
        begin(pair, packet(4000))
        pair.tables._sources[4].delete(pair.kernel._held[TUNNEL].entry.source())  # type: ignore[union-attr]
        pair.tables._sources[4].update(bytes(layout.SOURCE[4].size), bytes(layout.SENDER.size))
        pair.local = {4: Endpoint(HERE[4].address, 4702)}
        pair.kernel.touch()
        pair.kernel.flush()
        assert (pair.kernel.tunnels, full(pair)) == (0, 1)
        assert not by_kernel(pair, packet(4000))
        pair.tables._sources[4].delete(bytes(layout.SOURCE[4].size))
        pair.kernel.touch()
        pair.kernel.flush()
        assert pair.kernel.tunnels == 1
        assert by_kernel(pair, packet(4000))


def test_wake_ups_that_the_ring_has_no_room_for_are_made_good() -> None:
    with twin(Role.HOST) as pair:
        begin(pair, packet(4000))
        open_other(pair)
        for _ in range(layout.WAKES_BYTES // 16 + 10):
            pair.tables._tunnel_counts[0] = (0,) * 8  # idle again
            assert pair.run("leave_ethernet", packet(4000), 4).verdict == SENT_ON
        now = boot_time()
        pair.tables._tunnel_counts[1] = (3, 300, 0, 0, int((now - slept()) * 1e9), 0, 0, 0)
        sent = pair.forwarder.tunnels[OTHER].packets_out
        pair.kernel.wake(now)
        assert pair.forwarder.tunnels[OTHER].packets_out == sent + 3
        assert pair.forwarder.totals["kernel-wakes-full"] == 1
        pair.tables._tunnel_counts[0] = (0,) * 8
        pair.run("leave_ethernet", packet(4000), 4)
        assert pair.tables.woken() == {0}
