"""A peer's packets in the core and in Python by turns: one counter, one replay window, and rows of this peer alone."""

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from sojourn.datapath._core import Core
from sojourn.datapath.core_activity import Activity
from sojourn.datapath.core_engine import FROM_PEERS, FROM_STRANGERS, FROM_TUN, OPENED, READ
from sojourn.datapath.core_peers import CorePeers
from sojourn.datapath.core_rows import CorePeerRow, CoreTable
from sojourn.datapath.served_peers import IDLE, MOST_HOMES
from sojourn.i3.client import Transmit
from sojourn.i3.roam_commands import Command, Deliver
from sojourn.i3.roam_sessions import Settings
from sojourn.model import Endpoint
from sojourn.packet import vnet
from sojourn.packet.ip import flow_key, packed
from sojourn.paft import Paft
from sojourn.upmt.peer_commands import PEERS
from tests.datapath.peer_bench import PeerBench
from tests.i3.direct_world import agent_of, talk
from tests.i3.world import NODE, identity


class Bench(PeerBench):
    """a's data path has a core."""

    def __init__(self) -> None:
        super().__init__()
        self.core = Core()
        self.lent: list[str] = []
        self.forwarder = self._forwarder()
        sockets: Any = SimpleNamespace(lend=self._lend, take_back=self.lent.remove)
        self.peers = CorePeers(self.core, self.forwarder, lambda: sockets, gso=True)
        self.a.proxy.on_session, self.a.proxy.on_session_gone = self.peers.took, self.peers.gone
        self.forwarder.paft.shadow = table = CoreTable(self.core)
        table.peers = self.peers
        self.meet()

    def _forwarder(self) -> Any:  # noqa: ANN401
        return SimpleNamespace(
            roam=self.a.proxy, paft=Paft(), do_roam=lambda orders, _now: self.a.do(orders),
            from_rendezvous=lambda *seen: self.a.do(self.a.proxy.received(*seen)),
        )  # fmt: skip

    def _lend(self, network: str, _back: object) -> Any:  # noqa: ANN401
        self.lent.append(network)
        return SimpleNamespace(fd=self.fd)

    def read(self, packet: bytes) -> list[Any]:
        return self.core.drive_tun(bytes(vnet.HEADER_BYTES) + packet, self.world.now) + self.core.drive_tun(
            None, self.world.now
        )

    def arrive(self, data: bytes, source: Endpoint | None = None) -> list[bytes]:
        """Return what is written to the device."""
        at = source or Endpoint("198.51.100.2", 4000)
        now = self.world.now
        written = self.core.drive_udp(self.fd, data, len(data), packed(at.address), at.port, b"", 0, now)
        return [bytes(one)[vnet.HEADER_BYTES :] for one in written + self.core.drive_udp(
            self.fd, None, 0, packed(at.address), at.port, b"", 0, now)]  # fmt: skip

    def sealed_by_b(self, packet: bytes) -> bytes:
        peer = self.b.proxy.peer_at(self.a.home)
        assert peer is not None
        (sent,) = [one for one in self.b.proxy.to_peer(peer, packet, self.world.now) if isinstance(one, Transmit)]
        return sent.data

    def given_to_b(self, data: bytes) -> list[Command]:
        return self.b.proxy.received("wifi", data, Endpoint("198.51.100.1", 4000), self.world.now)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    os.close(made.fd)


def test_what_the_core_seals_python_opens_at_the_other_end_and_the_other_way_round(bench: Bench) -> None:
    row = bench.row(bench.b.home)
    assert isinstance(row, CorePeerRow)
    assert bench.read(bench.packet("before")) == [], "few packets: Python's"
    assert [one[0] for one in bench.core.take(FROM_TUN, 8)] == [READ]
    bench.core.done()
    bench.busy()
    assert bench.lent == ["wifi"]
    bench.world.now += 0.1
    (sent,) = bench.read(bench.packet("hello"))
    assert [one.packet for one in bench.given_to_b(sent[1]) if isinstance(one, Deliver)] == [bench.packet("hello")]
    back = bench.packet("answer", inbound=True)
    assert bench.arrive(bench.sealed_by_b(back)) == [back]
    assert row.tunnel == PEERS
    assert row.packets_in == 1
    assert agent_of(bench.a, bench.b).selected is not None
    assert talk(bench.world, bench.a, bench.b, 1.0) == [], "Python seals between them, under the same counter"
    (sent,) = bench.read(bench.packet("again"))
    assert [one.packet for one in bench.given_to_b(sent[1]) if isinstance(one, Deliver)] == [bench.packet("again")]


def test_a_packet_that_comes_twice_or_altered_is_written_once_whoever_opened_it_first(bench: Bench) -> None:
    bench.row(bench.b.home)
    bench.busy()
    bench.world.now += 0.1
    back = bench.packet("answer", inbound=True)
    data = bench.sealed_by_b(back)
    assert bench.arrive(data[:-1] + bytes((data[-1] ^ 1,))) == []
    assert bench.arrive(data) == [back]
    assert bench.arrive(data) == []
    bench.forwarder.from_rendezvous("wifi", data, Endpoint("198.51.100.2", 4000), bench.world.now)
    assert bench.a.proxy.refused["replayed"] == 1
    counts = bench.core.counts()
    assert (counts["forged"], counts["replayed"]) == (1, 1)


def test_a_peer_reaches_no_row_of_another_peer(bench: Bench) -> None:
    third = identity("c").address
    bench.row(bench.b.home)
    row = bench.row(third)
    bench.busy()
    bench.world.now += 0.1
    forged = bench.packet("I am c", source=third, inbound=True)
    assert bench.arrive(bench.sealed_by_b(forged)) == []
    (notice,) = bench.core.take(FROM_PEERS, 8)
    assert notice[0] == OPENED
    bench.peers.opened(notice, bench.world.now)
    bench.core.done()
    assert bench.a.proxy.refused["inner-source"] == 1
    assert row.packets_in == 0
    assert bench.read(bench.packet("to c", source=third)) == [], "nor does what is for c go to b"


def test_what_comes_from_elsewhere_or_from_a_node_is_pythons(bench: Bench) -> None:
    bench.row(bench.b.home)
    bench.busy()
    bench.world.now += 0.1
    back = bench.packet("answer", inbound=True)
    assert bench.arrive(bench.sealed_by_b(back), Endpoint("203.0.113.66", 5000)) == []
    (notice,) = bench.core.take(FROM_PEERS, 8)
    bench.peers.opened(notice, bench.world.now)
    assert bench.a.delivered[-1] == back
    bench.core.done()
    assert bench.arrive(b"\x14" + bytes(60)) == []
    assert len(bench.core.take(FROM_STRANGERS, 8)) == 1
    bench.core.done()


def test_a_flow_that_its_rule_lets_wait_is_not_the_cores(bench: Bench) -> None:
    row = bench.row(bench.b.home)
    bench.busy()
    bench.world.now += 0.1
    bench.forwarder.paft.place(row, None, bench.world.now)
    bench.peers.placed()
    assert bench.read(bench.packet("waits")) == []
    bench.core.take(FROM_TUN, 8)
    bench.core.done()
    bench.forwarder.paft.place(row, PEERS, bench.world.now)
    bench.peers.placed()
    bench.world.now += 0.1
    assert len(bench.read(bench.packet("goes"))) == 1


def test_a_path_in_doubt_a_dead_one_and_an_idle_peer_are_pythons_again(bench: Bench) -> None:
    bench.row(bench.b.home)
    bench.busy()
    bench.world.now += 0.1
    assert bench.read(bench.packet("x"))
    pair = agent_of(bench.a, bench.b).selected
    assert pair is not None
    pair.outstanding += [bench.world.now] * 3
    bench.peers.follow(bench.a.proxy, bench.world.now)
    assert bench.lent == []
    assert bench.read(bench.packet("y")) == []
    bench.core.take(FROM_TUN, 8)
    bench.core.done()
    pair.outstanding.clear()
    bench.busy()
    assert bench.lent == ["wifi"]
    bench.peers.follow(bench.a.proxy, bench.world.now + IDLE + 0.1)
    assert bench.lent == []


def test_new_keys_take_the_place_of_old_ones_and_are_forgotten_with_their_session(bench: Bench) -> None:
    bench.row(bench.b.home)
    bench.busy()
    for _ in range(14):
        bench.busy()
        talk(bench.world, bench.a, bench.b, 10.0, 1.0)
    peer = bench.a.proxy.peer_at(bench.b.home)
    assert peer is not None
    assert set(bench.peers.sessions) == {each.index for each in peer.sessions()}
    bench.busy()
    (sent,) = bench.read(bench.packet("new keys"))
    delivered = [one.packet for one in bench.given_to_b(sent[1]) if isinstance(one, Deliver)]
    assert delivered == [bench.packet("new keys")]


def test_what_the_core_did_is_counted_for_the_peer_and_keeps_it_alive(bench: Bench) -> None:
    bench.row(bench.b.home)
    bench.busy()
    peer = bench.a.proxy.peer_at(bench.b.home)
    assert peer is not None
    assert peer.session is not None
    now = bench.world.now + 3.0
    before = peer.packets_in, peer.bytes_out
    bench.peers.did(Activity(peer.session.index, now, now, now, now, now, 10, 10 * 124, 20, 20 * 1024))
    assert (peer.packets_in - before[0], peer.bytes_out - before[1]) == (10, 20000)
    assert peer.heard == now


def test_the_keys_of_a_peer_that_is_forgotten_go_with_it(bench: Bench) -> None:
    bench.row(bench.b.home)
    bench.busy()
    assert bench.peers.sessions
    now = bench.world.now
    bench.a.proxy.configure(Settings((NODE,), ()))
    bench.peers.follow(bench.a.proxy, now)
    assert bench.peers.sessions == {}
    assert bench.lent == []
    bench.core.watch_socket(bench.fd, -1, True, True)
    bench.arrive(bench.sealed_by_b(bench.packet("late", inbound=True)))
    assert len(bench.core.take(FROM_STRANGERS, 8)) == 1, "the core has no key for it"
    bench.core.done()


def test_strangers_without_end_leave_a_bounded_memory_and_no_number_is_given_twice(bench: Bench) -> None:
    bench.row(bench.b.home)
    bench.busy()
    bench.world.now += 0.1
    keys = [b"\x11" + bytes(16) + number.to_bytes(16) + bytes(4) for number in range(1, MOST_HOMES + 100)]
    numbers = {bench.peers.association(key) for key in keys}
    numbers.add(bench.peers.association(flow_key(bench.packet("", source=bench.b.home))))
    assert len(numbers) == len(keys) + 1
    assert len(bench.peers._homes) == MOST_HOMES
    assert bench.peers.association(keys[-1]) in numbers
    assert bench.peers.association(keys[0]) not in numbers, "forgotten: whoever comes back is somebody else"
    assert len(bench.read(bench.packet("still the core's"))) == 1
