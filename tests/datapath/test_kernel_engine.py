"""The engine with the kernel path beside it: when it serves, and what is said when it does not."""

import os
import subprocess
from collections.abc import Callable

import pytest

from sojourn.datapath.core_engine import CoreEngine
from sojourn.datapath.engine import Engine
from sojourn.datapath.epochs import EpochStore
from sojourn.datapath.features import Features
from sojourn.datapath.kernel_engine import KernelEngine, with_kernel_path
from sojourn.linux.udp import SOL_UDP, UDP_GRO
from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.upmt.commands import AddAssociation, CloseTunnel, OpenTunnel, Report, Role, SetDefault, Setup
from sojourn.upmt.events import AnyEvent
from tests.linux.namespace import in_new_namespace, ip

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: TUN devices and BPF programs")

ME, TUNNEL = AssociationId(1), TunnelId(0x77)
HOST = Setup(Role.HOST, "t0", 1420, plain=True)
ANCHOR = Setup(Role.ANCHOR, "t0", 1420, plain=True, listen=(Endpoint("0.0.0.0", 1800),))
OPEN = OpenTunnel(ME, TUNNEL, "v0", Endpoint("192.0.2.1", 4700), Endpoint("192.0.2.2", 1800), sealed=False)


def with_engine(
    work: Callable[[KernelEngine, list[str]], None], features: Features | None = None, kind: type[Engine] = KernelEngine
) -> None:
    """Call `work` with an engine in a namespace that has a TUN and a veth."""

    def run() -> None:
        ip("link add v0 type veth peer name v1")
        for line in ("link set v0 up", "link set v1 up", "addr add 192.0.2.1/24 dev v0", "tuntap add dev t0 mode tun",
                     "link set t0 up"):  # fmt: skip
            ip(line)
        said: list[str] = []
        events: list[AnyEvent] = []
        engine = kind(events.append, EpochStore(), features=features, say=lambda _level, text: said.append(text))
        assert isinstance(engine, KernelEngine)
        try:
            work(engine, said)
        finally:
            engine.close()
        assert (
            "sojourn"
            not in subprocess.run(
                ("tc", "filter", "show", "dev", "t0", "egress"), capture_output=True, text=True, check=True
            ).stdout
        )

    in_new_namespace(run)


@pytest.mark.parametrize("features", [None, Features(tcx=False)], ids=["tcx", "clsact"])
def test_a_host_s_plain_tunnel_is_the_kernel_s(features: Features | None) -> None:
    def work(engine: KernelEngine, said: list[str]) -> None:
        engine.submit([HOST, AddAssociation(ME, "10.201.0.2", None, (TUNNEL,)), OPEN, SetDefault(ME, TUNNEL)])
        assert engine.kernel is not None
        assert (engine.kernel.tunnels, engine.why_not, said) == (1, "", [])
        sock = engine.outlets.of_tunnel[TUNNEL].socket
        assert sock.getsockopt(SOL_UDP, UDP_GRO) == 0
        engine.submit([Report(), CloseTunnel(TUNNEL)])
        assert engine.kernel.tunnels == 0

    with_engine(work, features)


def test_an_anchor_s_sockets_join_datagrams_unless_there_is_a_plain_tunnel() -> None:
    def work(engine: KernelEngine, _said: list[str]) -> None:
        def joins() -> int:
            (sock,) = engine.outlets.listening
            return sock.socket.getsockopt(SOL_UDP, UDP_GRO)

        engine.submit([ANCHOR, AddAssociation(ME, "10.201.0.2", None, (TUNNEL,))])
        assert joins() == 1
        engine.submit([OpenTunnel(ME, TUNNEL, "", Endpoint("", 0), Endpoint("192.0.2.2", 4700), sealed=False)])
        assert engine.kernel is not None
        assert engine.kernel.tunnels == 1
        assert joins() == 0
        engine.submit([CloseTunnel(TUNNEL)])
        assert joins() == 1

    with_engine(work)


def test_sealed_tunnels_are_left_to_the_engine() -> None:
    def work(engine: KernelEngine, said: list[str]) -> None:
        engine.submit([Setup(Role.HOST, "t0", 1420), AddAssociation(ME, "10.201.0.2", None, (TUNNEL,))])
        assert engine.kernel is None
        assert (engine.why_not, said) == ("no plain tunnels", [])

    with_engine(work)


def test_one_line_says_why_the_engine_carries_plain_tunnels() -> None:
    def work(engine: KernelEngine, said: list[str]) -> None:
        for _ in range(2):
            engine.submit([Setup(Role.HOST, "t0", 1420, plain=True, without_kernel="plain.bpf.o: not permitted")])
        engine.submit([AddAssociation(ME, "10.201.0.2", None, (TUNNEL,)), OPEN])
        assert engine.kernel is None
        assert said == ["plain tunnels are carried by the engine, not by the kernel: plain.bpf.o: not permitted"]
        assert TUNNEL in engine.outlets.of_tunnel

    with_engine(work)


def test_the_core_has_it_beside_itself_too() -> None:
    kind = with_kernel_path(CoreEngine)
    assert issubclass(kind, CoreEngine)
    assert with_kernel_path(Engine) is KernelEngine

    def work(engine: KernelEngine, said: list[str]) -> None:
        engine.submit([HOST, AddAssociation(ME, "10.201.0.2", None, (TUNNEL,)), OPEN])
        assert engine.kernel is not None
        assert (engine.kernel.tunnels, said) == (1, [])

    with_engine(work, kind=kind)


def test_counters_say_what_serves() -> None:
    def work(engine: KernelEngine, _said: list[str]) -> None:
        engine.submit([Setup(Role.HOST, "t0", 1420)])
        assert engine.forwarder.served_by == {"engine": "python"}
        engine.submit([HOST])
        assert engine.forwarder.served_by == {"engine": "python", "kernel": ""}

    with_engine(work)
    assert CoreEngine.NAME == "core"
