"""The engine around its hot loops: which descriptors it has, and what it makes of the system's refusals."""

import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from unittest import mock

import pytest

from sojourn.datapath.engine import Engine
from sojourn.datapath.epochs import EpochStore
from sojourn.datapath.features import Features
from sojourn.linux.descriptors import Descriptors, listen_name, tun_name, tunnel_name
from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.packet.seal import Secret
from sojourn.upmt.commands import AddAssociation, CloseTunnel, InstallSecret, OpenTunnel, Role, Setup
from sojourn.upmt.events import AnyEvent, TunnelFailed
from tests.linux.namespace import in_new_namespace, ip

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces and TUN devices")

ME, TUNNEL = AssociationId(1), TunnelId(7)
OPEN = OpenTunnel(ME, TUNNEL, "lo", Endpoint("127.0.0.1", 0), Endpoint("127.0.0.1", 9))
JOIN = (AddAssociation(ME, "10.201.0.2", None, (TUNNEL,)), InstallSecret(ME, Secret(1, bytes(32), 1)))
HOST = Setup(Role.HOST, "sjp-tun", 1400)
LISTEN = Endpoint("127.0.0.1", 1800)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class Bench:
    """An engine and what it told."""

    def __init__(
        self, stack: ExitStack, descriptors: Descriptors | None = None, features: Features | None = None
    ) -> None:
        self.events: list[AnyEvent] = []
        self.said: list[str] = []
        self.descriptors = descriptors or Descriptors()
        self.engine = Engine(
            self.events.append,
            EpochStore(),
            features=features or Features(),
            descriptors=self.descriptors,
            say=lambda _level, text: self.said.append(text),
        )
        stack.callback(self.engine.close)

    def turn(self, times: int = 3) -> None:
        for _ in range(times):
            self.engine._loop.turn(0.05)

    def failures(self) -> list[str]:
        return [event.why for event in self.events if isinstance(event, TunnelFailed)]


def inside(work: Callable[[], None]) -> None:
    in_new_namespace(work)


def test_what_is_opened_is_held_by_its_name_and_released_when_closed(stack: ExitStack) -> None:
    def work() -> None:
        bench = Bench(stack)
        bench.engine.submit([HOST, *JOIN, OPEN])
        assert set(bench.descriptors.held) == {tun_name("sjp-tun"), tunnel_name(OPEN)}
        bench.engine.submit([CloseTunnel(TUNNEL)])
        assert set(bench.descriptors.held) == {tun_name("sjp-tun")}

    inside(work)


def test_a_successor_goes_on_with_the_descriptors_of_its_predecessor(stack: ExitStack) -> None:
    def work() -> None:
        first = Bench(stack)
        first.engine.submit([HOST, *JOIN, OPEN])
        port = first.engine.outlets.of_tunnel[TUNNEL].local.port
        given = Descriptors({name: os.dup(fd) for name, fd in first.descriptors.held.items()})
        second = Bench(stack, given)
        second.engine.submit([HOST, *JOIN, OPEN])
        assert second.engine.outlets.of_tunnel[TUNNEL].local.port == port
        assert not given.given

    inside(work)


def test_a_tunnel_that_moves_gets_a_new_socket(stack: ExitStack) -> None:
    def work() -> None:
        ip("addr add 127.0.0.2/8 dev lo")
        bench = Bench(stack)
        bench.engine.submit([HOST, *JOIN, OPEN])
        moved = OpenTunnel(ME, TUNNEL, "lo", Endpoint("127.0.0.2", 0), OPEN.remote)
        bench.engine.submit([moved])
        assert bench.engine.outlets.of_tunnel[TUNNEL].local.address == "127.0.0.2"
        assert tunnel_name(moved) in bench.descriptors.held
        assert tunnel_name(OPEN) not in bench.descriptors.held

    inside(work)


def test_an_anchor_listens_where_it_is_told_and_no_longer_where_it_was(stack: ExitStack) -> None:
    def work() -> None:
        bench = Bench(stack)
        other = Endpoint("::1", 1801)
        bench.engine.submit([Setup(Role.ANCHOR, "sjp-tun", 1400, listen=(LISTEN, other))])
        assert {sock.local for sock in bench.engine.outlets.listening} == {LISTEN, other}
        bench.engine.submit([Setup(Role.ANCHOR, "sjp-tun", 1400, listen=(other,))])
        assert [sock.local for sock in bench.engine.outlets.listening] == [other]
        assert listen_name(LISTEN) not in bench.descriptors.held

    inside(work)


def test_a_port_that_is_taken_is_said_and_the_others_are_opened(stack: ExitStack) -> None:
    def work() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind((LISTEN.address, LISTEN.port))
            bench = Bench(stack)
            second = Endpoint("127.0.0.1", 1801)
            bench.engine.submit([Setup(Role.ANCHOR, "sjp-tun", 1400, listen=(LISTEN, second))])
        assert bench.said == ["cannot listen on 127.0.0.1 port 1800: Address already in use"]
        assert [sock.local for sock in bench.engine.outlets.listening] == [second]

    inside(work)


def test_a_network_without_its_address_is_told_once(stack: ExitStack) -> None:
    def work() -> None:
        bench = Bench(stack)
        gone = OpenTunnel(ME, TUNNEL, "lo", Endpoint("192.0.2.1", 0), OPEN.remote)
        bench.engine.submit([HOST, *JOIN, gone])
        bench.turn()
        assert bench.failures() == ["cannot open a socket: Cannot assign requested address"]

    inside(work)


@pytest.mark.parametrize("code", [errno.ENETUNREACH, errno.ENETDOWN, errno.ENODEV])
def test_a_network_that_has_gone_is_told_once_however_much_is_sent(stack: ExitStack, code: int) -> None:
    def work() -> None:
        bench = Bench(stack)
        bench.engine.submit([HOST, *JOIN, OPEN])
        tunnel = bench.engine.forwarder.tunnels[TUNNEL]
        with mock.patch.object(bench.engine.outlets.of_tunnel[TUNNEL], "send", side_effect=OSError(code, "gone")):
            for _ in range(3):
                bench.engine.send(tunnel, b"x", OPEN.remote)
        assert bench.failures() == [os.strerror(code)]

    inside(work)


def test_a_full_queue_loses_packets_as_a_router_does_and_counts_them(stack: ExitStack) -> None:
    def work() -> None:
        bench = Bench(stack)
        bench.engine.submit([HOST, *JOIN, OPEN])
        tunnel = bench.engine.forwarder.tunnels[TUNNEL]
        with mock.patch.object(bench.engine.outlets.of_tunnel[TUNNEL], "socket") as kernel:
            kernel.sendmsg.side_effect = BlockingIOError(errno.EAGAIN, "full")
            bench.engine._transmit(tunnel, memoryview(bytes(300)), 100, 3, 0)
        assert bench.engine.forwarder.totals["not_sent_queue_full"] == 3
        assert bench.failures() == []

    inside(work)


@pytest.mark.parametrize(("code", "still"), [(errno.EIO, False), (errno.EINVAL, True), (errno.EMSGSIZE, True)])
def test_a_message_that_the_route_cannot_cut_goes_out_in_single_datagrams(
    stack: ExitStack, code: int, still: bool
) -> None:
    def work() -> None:
        bench = Bench(stack)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            receiver.bind(("127.0.0.1", 0))
            receiver.settimeout(2)
            remote = Endpoint("127.0.0.1", receiver.getsockname()[1])
            bench.engine.submit([HOST, *JOIN, OpenTunnel(ME, TUNNEL, "lo", OPEN.local, remote)])
            while receiver.recv(2000)[0] != 0x80 | 1:  # the tunnel's own first probe, epoch 1
                pass
            sock = bench.engine.outlets.of_tunnel[TUNNEL]
            real = sock.socket

            def refuse(data: object, control: list[tuple[int, int, bytes]], *rest: object) -> int:
                if any(kind == 103 for _, kind, _ in control):
                    raise OSError(code, "no")
                return real.sendmsg(data, control, *rest)  # type: ignore[arg-type]

            with mock.patch.object(sock, "socket") as kernel:
                kernel.sendmsg.side_effect = refuse
                tunnel = bench.engine.forwarder.tunnels[TUNNEL]
                bench.engine._transmit(tunnel, memoryview(b"a" * 1000 + b"b" * 1000 + b"c" * 7), 1000, 3, 0)
            seen = [data for data in (receiver.recv(2000) for _ in range(3)) if data[0] in b"abc"]
            assert seen == [b"a" * 1000, b"b" * 1000, b"c" * 7]
            assert sock.gso is still

    inside(work)


def test_a_device_that_goes_is_said_and_does_not_keep_the_loop_busy(stack: ExitStack) -> None:
    def work() -> None:
        bench = Bench(stack)
        bench.engine.submit([HOST])
        ip("link set sjp-tun up")
        ip("link del sjp-tun")
        bench.turn()
        assert bench.engine.tun is None
        assert bench.said[0].startswith("device sjp-tun has gone")
        bench.engine.write_inner(bytes(20))
        began = time.monotonic()
        bench.turn(2)
        assert time.monotonic() - began > 0.05

    inside(work)


def test_features_that_are_off_are_not_asked_for(stack: ExitStack) -> None:
    def work() -> None:
        bench = Bench(stack, features=Features(tso=False, uso=False, gso=False, gro=False))
        bench.engine.submit([HOST, *JOIN, OPEN])
        assert bench.engine.tun is not None
        assert (bench.engine.tun.tso, bench.engine.tun.uso) == (False, False)
        sock = bench.engine.outlets.of_tunnel[TUNNEL]
        assert not sock.gso
        assert sock.socket.getsockopt(17, 104) == 0

    inside(work)


def test_run_lends_its_loop_and_ends_when_told(stack: ExitStack) -> None:
    bench = Bench(stack)
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    seen: list[int] = []

    def read() -> None:
        seen.append(os.eventfd_read(fd))
        bench.engine.unwatch(fd)
        bench.engine.stop()

    bench.engine.watch(fd, read)
    thread = threading.Thread(target=bench.engine.run)
    thread.start()
    os.eventfd_write(fd, 5)
    thread.join(5)
    os.close(fd)
    assert seen == [5]
    assert not thread.is_alive()
