"""The real node between two hosts that are both behind a NAT: neither could send the other a first packet.

a 192.168.1.2 -- nat-a (198.51.100.1) --+
                                        +-- core -- node 203.0.113.9:1801, [2001:db8::9]:1801
b 192.168.1.2 -- nat-b (198.51.100.2) --+
c 203.0.113.20, 2001:db8::1f -----------+   (no NAT, both families)
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sojourn.api.client import Client
from sojourn.i3.client import Arrived, Command, RendezvousClient, Transmit, TriggerStands, Wanted, public_trigger
from sojourn.i3.home import HomeIdentity
from sojourn.i3.identifier import Identifier, public
from sojourn.lab import namespaces
from sojourn.model import Endpoint
from tests.harness.standstill import Standstill
from tests.i3.world import own

pytestmark = pytest.mark.net

PREFIX = f"sjtro{os.getpid() % 10000}-"
NODE4, NODE6 = Endpoint("203.0.113.9", 1801), Endpoint("2001:db8::9", 1801)
OUTSIDE = {"a": "198.51.100.1", "b": "198.51.100.2"}


def name(role: str) -> str:
    return PREFIX + role


def link(one: str, other: str) -> None:
    """Join two namespaces; each end is called after the other."""
    namespaces.join(name(one), other, name(other), one)


@pytest.fixture
def internet() -> Iterator[None]:
    roles = ("a", "b", "c", "nat-a", "nat-b", "core", "node")
    try:
        for role in roles:
            namespaces.add(name(role))
        link("core", "node")
        link("core", "c")
        namespaces.sysctl(name("core"), net__ipv4__ip_forward=1, net__ipv6__conf__all__forwarding=1)
        namespaces.ip(name("core"), [
            "addr add 203.0.113.1/28 dev node", "addr add 203.0.113.17/28 dev c",
            "addr add 2001:db8::1/124 dev node nodad", "addr add 2001:db8::11/124 dev c nodad",
        ])  # fmt: skip
        for role, four, six, gate in (
            ("node", "203.0.113.9", "2001:db8::9", 1),
            ("c", "203.0.113.20", "2001:db8::1f", 17),
        ):
            namespaces.ip(name(role), [
                f"addr add {four}/28 dev core", f"addr add {six}/124 dev core nodad",
                f"route add default via 203.0.113.{gate}", f"route add default via 2001:db8::{gate:x}",
            ])  # fmt: skip
        for host, outside in OUTSIDE.items():
            nat = f"nat-{host}"
            link(host, nat)
            link(nat, "core")
            namespaces.ip(name(host), [f"addr add 192.168.1.2/24 dev {nat}", "route add default via 192.168.1.1"])
            namespaces.ip(name(nat), [
                f"addr add 192.168.1.1/24 dev {host}", f"addr add {outside}/32 dev core",
                "route add 10.9.9.9/32 dev core", "route add default via 10.9.9.9 dev core",
            ])  # fmt: skip
            namespaces.ip(name("core"), [f"addr add 10.9.9.9/32 dev {nat}", f"route add {outside}/32 dev {nat}"])
            namespaces.sysctl(name(nat), net__ipv4__ip_forward=1)
            rule = 'table ip n { chain p { type nat hook postrouting priority 100; oifname "core" masquerade; }; }'
            namespaces.run(name(nat), "nft", "-f", "-", stdin=rule + "\n")
        for role in roles:
            namespaces.settle(name(role))
        yield
    finally:
        namespaces.delete([name(role) for role in roles])


class Node:
    """`sojourn rendezvous` in its namespace."""

    def __init__(self, folder: Path) -> None:
        (folder / "rendezvous.toml").write_text('listen = ["203.0.113.9", "[2001:db8::9]:1801"]\n')
        self.socket = str(folder / "r.sock")
        argv = [sys.executable, "-m", "sojourn", "rendezvous", "--config-dir", str(folder), "--socket", self.socket]
        self.process = subprocess.Popen(
            namespaces.entering(name("node"), argv), stderr=subprocess.PIPE, text=True, cwd=folder
        )
        assert self.process.stderr is not None
        assert "ready" in self.process.stderr.readline()

    def status(self) -> dict[str, object]:
        result = Client(self.socket).call("status")
        assert isinstance(result, dict)
        return result

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=10)
        return self.process.returncode


@pytest.fixture
def node(internet: None, tmp_path: Path) -> Iterator[Node]:
    started = Node(tmp_path)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.stop()


class Host:
    """A client on real sockets, one in each namespace that it is in; a path is called after its namespace."""

    def __init__(self, role: str, node: Endpoint = NODE4) -> None:
        self.node = node
        self.sockets: dict[str, socket.socket] = {}
        self.path = role
        self.appear(role)
        self.identity = HomeIdentity(os.urandom(32), os.urandom(32))
        self.client = RendezvousClient([node], os.urandom, self.identity)
        self.told: list[Command] = []

    def appear(self, role: str) -> None:
        """Have a network more, and prefer it."""
        family = socket.AF_INET6 if ":" in self.node.address else socket.AF_INET
        made = namespaces.inside(name(role), lambda: socket.socket(family, socket.SOCK_DGRAM))
        made.setblocking(False)
        self.sockets[role] = made
        self.path = role

    def vanish(self, role: str) -> None:
        """Lose a network."""
        self.sockets.pop(role).close()

    def close(self) -> None:
        for role in list(self.sockets):
            self.vanish(role)

    def do(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Transmit):
                if command.path in self.sockets:
                    to = (command.node.address, command.node.port)
                    self.sockets[command.path].sendto(command.data, to)
            else:
                self.told.append(command)

    def until(self, kind: type[Command], *others: "Host", seconds: float = 20.0) -> Command:
        """Work until something of a kind was told."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = next((one for one in self.told if isinstance(one, kind)), None)
            if found is not None:
                self.told.remove(found)
                return found
            for host in (self, *others):
                host.work()
        raise AssertionError(f"no {kind.__name__} within {seconds} s: {self.told}")

    def work(self) -> None:
        ready = select.select(list(self.sockets.values()), [], [], 0.001)[0]
        now = time.monotonic()
        for path, one in list(self.sockets.items()):
            if one in ready:
                data, source = one.recvfrom(9000)
                self.do(self.client.received(path, data, Endpoint(source[0], source[1]), now))
        due = self.client.deadline()
        if due is not None and due <= now:
            self.do(self.client.tick(now))

    def insert(self, wanted: Wanted) -> None:
        self.do(self.client.insert(wanted, self.path, time.monotonic()))

    def send(self, to: Identifier, payload: bytes) -> None:
        self.do(self.client.send((to,), payload, self.path, time.monotonic()))


MakeHost = Callable[..., Host]


@pytest.fixture
def make_host() -> Iterator[MakeHost]:
    with contextlib.ExitStack() as stack:

        def make(role: str, node: Endpoint = NODE4) -> Host:
            host = Host(role, node)
            stack.callback(host.close)
            return host

        yield make


def arrival(host: Host) -> bytes:
    came = host.until(Arrived)
    assert isinstance(came, Arrived)
    return came.payload


def test_two_hosts_behind_nats_talk_by_their_home_addresses_and_then_by_private_identifiers(
    node: Node, make_host: MakeHost
) -> None:
    a, b = make_host("a"), make_host("b")
    for host, outside in ((a, OUTSIDE["a"]), (b, OUTSIDE["b"])):
        host.insert(public_trigger(host.identity))
        stands = host.until(TriggerStands)
        assert isinstance(stands, TriggerStands)
        assert stands.seen.address == outside
    a.send(public(b.identity.address), b"hello b")
    assert arrival(b) == b"hello b"
    b.insert(own("b for a"))
    b.until(TriggerStands)
    b.send(public(a.identity.address), own("b for a").identifier)
    private = Identifier(arrival(a))
    a.send(private, b"by the private one")
    assert arrival(b) == b"by the private one"
    status = node.status()
    assert status["triggers"] == 3
    assert node.stop() == 0


def test_a_host_on_ipv6_reaches_one_behind_an_ipv4_nat_and_is_reached(node: Node, make_host: MakeHost) -> None:
    a, c = make_host("a"), make_host("c", NODE6)
    for host in (a, c):
        host.insert(public_trigger(host.identity))
        host.until(TriggerStands)
    c.send(public(a.identity.address), b"from six")
    assert arrival(a) == b"from six"
    a.send(public(c.identity.address), b"from four")
    assert arrival(c) == b"from four"


def test_a_nodes_refusals_are_counted_by_reason_and_rubbish_is_never_answered(node: Node, make_host: MakeHost) -> None:
    c = make_host("c")
    for rubbish in (b"", b"\0", b"\x10\x01", b"\xff" * 100, bytes(8000)):
        c.sockets["c"].sendto(rubbish, (NODE4.address, NODE4.port))
    c.sockets["c"].sendto(b"\x10\x01\x10\x40" + bytes(32), (NODE4.address, NODE4.port))
    until = time.monotonic() + 5
    while sum(json.loads(json.dumps(node.status()["refused"])).values()) < 6:
        assert time.monotonic() < until, node.status()
        time.sleep(0.05)
    assert node.status()["refused"] == {"kind": 3, "no-trigger": 1, "short": 2}
    assert not select.select([c.sockets["c"]], [], [], 0.2)[0]


def test_both_move_at_once_and_talk_again_after_two_round_trips(node: Node, make_host: MakeHost) -> None:
    """a: from behind its NAT to b's, b: from behind its NAT to none; the old networks are gone at once."""
    a, b = make_host("a"), make_host("b")
    a_own, b_own = own("a for b"), own("b for a")
    for host, wanted in ((a, a_own), (b, b_own)):
        host.insert(wanted)
        host.until(TriggerStands)
    a.send(b_own.identifier, b"before")
    assert arrival(b) == b"before"
    for host, old, new, wanted in ((a, "a", "b", a_own), (b, "b", "c", b_own)):
        host.vanish(old)
        host.appear(new)
        host.insert(wanted)
        host.do(host.client.remove(wanted, old, time.monotonic(), via=new))
    with Standstill() as stood:
        begin, sent = time.monotonic(), 0
        while not any(isinstance(one, Arrived) for one in b.told) and time.monotonic() < begin + 5:
            a.send(b_own.identifier, b"after %d" % sent)
            sent += 1
            a.work()
            b.work()
        gap = stood.without(begin, time.monotonic())
    assert arrival(b).startswith(b"after")
    assert gap < 0.5, f"{gap * 1000:.0f} ms; a round trip takes less than one"
    b.send(a_own.identifier, b"and back")
    assert a.until(Arrived, b) == Arrived("b", (a_own.identifier,), b"and back")
    until = time.monotonic() + 5
    while node.status()["triggers"] != 2:
        assert time.monotonic() < until, node.status()
        a.work()
        b.work()
