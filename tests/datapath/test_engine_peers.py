"""A peer's packets in the Python engine's hot loops: what other ends open is what would have gone one at a time."""

import os
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from sojourn.datapath.engine_peers import EnginePeers
from sojourn.datapath.engine_receive import Receiver
from sojourn.datapath.engine_send import Sender
from sojourn.datapath.served_peers import IDLE
from sojourn.i3.client import Transmit
from sojourn.i3.roam_commands import Deliver
from sojourn.linux.udp import Received
from sojourn.model import Endpoint
from sojourn.packet import vnet
from sojourn.paft import Paft
from tests.datapath.peer_bench import PeerBench
from tests.i3.direct_world import agent_of, talk
from tests.i3.world import identity

AT_B = ("198.51.100.2", 4000)


class Bench(PeerBench):
    """a has the hot loops."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.written: list[bytes] = []
        self.slowly: list[bytes] = []
        self.queue: list[bytes] = []
        self.read_by: Any = None
        self.forwarder = self._forwarder()
        self.socket: Any = SimpleNamespace(fd=self.fd, six=False, gso=False, receive=self._receive)
        self.lent = ""
        sockets: Any = SimpleNamespace(lend=self._lend, take_back=self._take_back)
        self.peers = EnginePeers(
            self.forwarder,
            lambda: sockets,
            lambda: self.receiver,
            self._watch,
            self._unwatch,
            lambda: self.world.now,
            gso=True,
        )
        self.sender = Sender(self.forwarder, self._transmit, self.peers.lanes, inbound=False)
        self.receiver = Receiver(self.forwarder, lambda parts: self.written.append(b"".join(parts)), inbound=True)
        self.meet()

    def _forwarder(self) -> Any:  # noqa: ANN401
        return SimpleNamespace(
            roam=self.a.proxy, paft=Paft(), tunnels={}, associations={}, refused=Counter(),
            from_inner=lambda packet, _now: self.slowly.append(packet),
            from_rendezvous=lambda *seen: self.a.do(self.a.proxy.received(*seen)),
        )  # fmt: skip

    def _lend(self, network: str, _back: object) -> Any:  # noqa: ANN401
        assert not self.lent
        self.lent = network
        return self.socket

    def _take_back(self, _network: str) -> None:
        assert self.read_by is None, "a descriptor is watched once"
        self.lent = ""

    def _watch(self, _fd: int, callback: Any) -> None:  # noqa: ANN401
        assert self.read_by is None
        self.read_by = callback

    def _unwatch(self, _fd: int) -> None:
        self.read_by = None

    def _receive(self, buffers: Any) -> Received | None:  # noqa: ANN401
        if not self.queue:
            return None
        data = self.queue.pop(0)
        buffers[0][: len(data)] = data
        return Received(len(data), len(data), 0, AT_B, None)

    def _transmit(self, lane: Any, data: memoryview, segment: int, _count: int, _ecn: int) -> None:  # noqa: ANN401
        assert lane.outlet.address == AT_B
        self.sent += [bytes(data[at : at + segment]) for at in range(0, len(data), segment)]

    def from_tun(self, packet: bytes) -> None:
        data = bytes(vnet.HEADER_BYTES) + packet
        self.sender.buffers[0][: len(data)] = data
        self.sender.take(len(data), self.world.now)
        self.sender.flush(self.world.now)

    def from_b(self, packet: bytes) -> bytes:
        peer = self.b.proxy.peer_at(self.a.home)
        assert peer is not None
        (sent,) = [one for one in self.b.proxy.to_peer(peer, packet, self.world.now) if isinstance(one, Transmit)]
        return sent.data

    def come(self, *datagrams: bytes) -> None:
        self.queue += datagrams
        self.read_by()

    def given_to_b(self, data: bytes) -> list[bytes]:
        orders = self.b.proxy.received("wifi", data, Endpoint("198.51.100.1", 4000), self.world.now)
        return [one.packet for one in orders if isinstance(one, Deliver)]


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    os.close(made.fd)


def test_few_packets_go_one_at_a_time_and_many_by_a_lane_under_the_same_counters(bench: Bench) -> None:
    row = bench.row()
    bench.from_tun(bench.packet("few"))
    assert bench.slowly == [bench.packet("few")]
    bench.busy()
    assert bench.lent == "wifi"
    assert bench.socket.gso, "in batches"
    bench.world.now += 0.1
    bench.from_tun(bench.packet("hello"))
    assert bench.given_to_b(bench.sent.pop()) == [bench.packet("hello")]
    back = bench.packet("answer", inbound=True)
    bench.come(bench.from_b(back))
    assert [one[vnet.HEADER_BYTES :] for one in bench.written] == [back]
    assert (row.packets_in, row.packets_out) == (1, 2)
    assert talk(bench.world, bench.a, bench.b, 1.0) == [], "one at a time between them"
    bench.from_tun(bench.packet("again"))
    assert bench.given_to_b(bench.sent.pop()) == [bench.packet("again")]
    peer = bench.a.proxy.peer_at(bench.b.home)
    assert peer is not None
    assert peer.bytes_out >= len(bench.packet("hello")) + len(bench.packet("again"))


def test_a_packet_that_comes_twice_or_altered_is_written_once(bench: Bench) -> None:
    bench.row()
    bench.busy()
    bench.world.now += 0.1
    data = bench.from_b(bench.packet("answer", inbound=True))
    bench.come(data[:-1] + bytes((data[-1] ^ 1,)), data, data)
    assert len(bench.written) == 1
    assert (bench.a.proxy.refused["forged"], bench.a.proxy.refused["replayed"]) == (1, 1)


def test_a_peer_reaches_no_row_of_another_peer(bench: Bench) -> None:
    third = identity("c").address
    bench.row()
    row = bench.row(third)
    bench.busy()
    bench.world.now += 0.1
    bench.come(bench.from_b(bench.packet("I am c", source=third, inbound=True)))
    assert bench.written == []
    assert row.packets_in == 0
    assert bench.a.proxy.refused["inner-source"] == 1


def test_a_blocked_row_and_a_packet_larger_than_the_path_are_left_to_the_slow_way(bench: Bench) -> None:
    row = bench.row()
    bench.busy()
    large = bench.packet("x" * 1500)
    bench.from_tun(large)
    row.blocked = True
    bench.from_tun(bench.packet("refused"))
    assert bench.slowly == [large, bench.packet("refused")]
    assert bench.sent == []


def test_a_path_that_dies_and_one_that_is_idle_are_given_back(bench: Bench) -> None:
    bench.row()
    bench.busy()
    assert bench.peers.lanes
    bench.world.now += IDLE + 0.1
    bench.peers.follow(bench.a.proxy, bench.world.now)
    assert (bench.peers.lanes, bench.lent) == ({}, "")
    bench.busy()
    assert bench.peers.lanes
    bench.world.between_dead = True
    talk(bench.world, bench.a, bench.b, 2.0)
    assert agent_of(bench.a, bench.b).selected is None
    bench.peers.follow(bench.a.proxy, bench.world.now)
    assert (bench.peers.lanes, bench.lent) == ({}, "")


def test_what_is_no_datagram_of_a_lane_goes_to_the_proxy(bench: Bench) -> None:
    bench.row()
    bench.busy()
    before = sum(bench.a.proxy.refused.values())
    bench.come(b"", b"x", bytes(100), b"\x80\xff\xff\xff" + bytes(40))
    assert bench.written == []
    assert sum(bench.a.proxy.refused.values()) > before
    bench.peers.gone(next(iter(bench.peers._by_index)))
    assert bench.peers.lanes == {}
