"""Three real nodes that share their triggers in three real redis-servers; nodes and servers are killed under traffic.

a 192.168.1.2 -- nat-a (198.51.100.1) --+                  +-- one   203.0.113.2
                                        +-- core (bridge) -+-- two   203.0.113.3
b 192.168.1.2 -- nat-b (198.51.100.2) --+                  +-- three 203.0.113.4
                                                           +-- redis 203.0.113.9: ports 7001, 7002, 7003

Both NATs let in only what comes from an address and port that their host has sent to.
"""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sojourn.api.client import Client
from sojourn.i3.client import Arrived, Command, RendezvousClient, Transmit, TriggerRefused, TriggerStands, Wanted
from sojourn.i3.packet import Status
from sojourn.lab import namespaces
from sojourn.model import Endpoint
from sojourn.store.valkey_link import PATIENCE
from tests.harness.redis_cluster import RedisCluster
from tests.harness.standstill import Standstill
from tests.i3.world import own

pytestmark = pytest.mark.net

PREFIX = f"sjtrc{os.getpid() % 10000}-"
NODES = {"one": "203.0.113.2", "two": "203.0.113.3", "three": "203.0.113.4"}
STORE, PORTS = "203.0.113.9", (7001, 7002, 7003)
OUTSIDE = {"a": "198.51.100.1", "b": "198.51.100.2"}
ROLES = ("core", "redis", *NODES, "a", "b", "nat-a", "nat-b")
NAT = """table ip n {
  chain p { type nat hook postrouting priority 100; oifname "core" masquerade; }
  chain f { type filter hook forward priority 0; policy drop; iifname != "core" accept; ct state established accept; }
}
"""


def name(role: str) -> str:
    return PREFIX + role


def join(one: str, other: str) -> None:
    """Join two namespaces; each end is called after the other."""
    namespaces.join(name(one), other, name(other), one)


@pytest.fixture(scope="module")
def internet() -> Iterator[None]:
    try:
        for role in ROLES:
            namespaces.add(name(role))
        namespaces.sysctl(name("core"), net__ipv4__ip_forward=1)
        namespaces.ip(name("core"), ["link add lan type bridge", "addr add 203.0.113.1/28 dev lan", "link set lan up"])
        for role, address in {**NODES, "redis": STORE}.items():
            join("core", role)
            namespaces.ip(name("core"), [f"link set dev {role} master lan"])
            namespaces.ip(name(role), [
                f"addr add {address}/28 dev core", "route add default via 203.0.113.1", "link set lo up",
            ])  # fmt: skip
        for host, outside in OUTSIDE.items():
            nat = f"nat-{host}"
            join(host, nat)
            join(nat, "core")
            namespaces.ip(name(host), [f"addr add 192.168.1.2/24 dev {nat}", "route add default via 192.168.1.1"])
            namespaces.ip(name(nat), [
                f"addr add 192.168.1.1/24 dev {host}", f"addr add {outside}/32 dev core",
                "route add 10.9.9.9/32 dev core", "route add default via 10.9.9.9 dev core",
            ])  # fmt: skip
            namespaces.ip(name("core"), [f"addr add 10.9.9.9/32 dev {nat}", f"route add {outside}/32 dev {nat}"])
            namespaces.sysctl(name(nat), net__ipv4__ip_forward=1)
            namespaces.run(name(nat), "nft", "-f", "-", stdin=NAT)
        for role in ROLES:
            namespaces.settle(name(role))
        yield
    finally:
        namespaces.delete([name(role) for role in ROLES])


@pytest.fixture(scope="module")
def redis(internet: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    cluster = RedisCluster(tmp_path_factory.mktemp("redis"), PORTS, STORE, namespaces.entering(name("redis"), []))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


class Node:
    """`sojourn rendezvous` in its namespace."""

    def __init__(self, role: str, folder: Path, store: list[str]) -> None:
        self.place = Endpoint(NODES[role], 1801)
        folder.mkdir()
        urls = ", ".join(f'"{url}"' for url in store)
        (folder / "rendezvous.toml").write_text(f'listen = ["{self.place.address}"]\nstore = [{urls}]\n')
        self.socket, self.log = str(folder / "r.sock"), folder / "log"
        argv = [sys.executable, "-m", "sojourn", "rendezvous", "--config-dir", str(folder), "--socket", self.socket]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(namespaces.entering(name(role), argv), stderr=log, cwd=folder)

    def wait(self) -> None:
        end = time.monotonic() + 30
        while "ready" not in self.log.read_text():
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.05)

    def status(self) -> dict[str, Any]:
        result: dict[str, Any] = Client(self.socket).call("status")
        return result

    def down(self) -> list[str]:
        """Return the store's servers that this node says are down."""
        return [one["address"] for one in self.status()["store"]["servers"] if one["state"] == "down"]

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(timeout=20)


@pytest.fixture
def nodes(redis: RedisCluster, tmp_path: Path) -> Iterator[dict[str, Node]]:
    redis.revive(PORTS)
    started = {role: Node(role, tmp_path / role, redis.urls) for role in NODES}
    try:
        for node in started.values():
            node.wait()
        yield started
    finally:
        for node in started.values():
            node.stop()


class Host:
    """A client on one real socket."""

    def __init__(self, role: str, *nodes: str) -> None:
        self.socket = namespaces.inside(name(role), lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.socket.setblocking(False)
        self.client = RendezvousClient([Endpoint(NODES[node], 1801) for node in nodes], os.urandom)
        self.told: list[Command] = []
        self.came: list[tuple[float, bytes]] = []

    def do(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Transmit):
                self.socket.sendto(command.data, (command.node.address, command.node.port))
            elif isinstance(command, Arrived):
                self.came.append((time.monotonic(), command.payload))
            else:
                self.told.append(command)

    def work(self, wait: float = 0.001) -> None:
        if select.select([self.socket], [], [], wait)[0]:
            data, source = self.socket.recvfrom(9000)
            self.do(self.client.received("net", data, Endpoint(*source), time.monotonic()))
        now = time.monotonic()
        if (due := self.client.deadline()) is not None and due <= now:
            self.do(self.client.tick(now))

    def insert(self, wanted: Wanted) -> None:
        self.do(self.client.insert(wanted, "net", time.monotonic()))

    def send(self, wanted: Wanted, payload: bytes) -> None:
        self.do(self.client.send((wanted.identifier,), payload, "net", time.monotonic()))


@pytest.fixture
def hosts(nodes: dict[str, Node]) -> Iterator[tuple[Host, Host]]:
    """a speaks to node one, b to node two; each has the other nodes behind."""
    a, b = Host("a", "one", "two", "three"), Host("b", "two", "three", "one")
    for host, of in ((a, own("a for b")), (b, own("b for a"))):
        host.insert(of)
        until(lambda: {TriggerStands} <= {type(one) for one in host.told}, a, b)  # noqa: B023 - called at once
    yield a, b
    a.socket.close()
    b.socket.close()


def until(true: Callable[[], bool], *hosts: Host, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, [host.told for host in hosts]
        for host in hosts:
            host.work()


@dataclass(frozen=True)
class Talk:
    """What became of a conversation."""

    gap: float
    """The longest time for which one of the two got nothing, without the machine's own."""
    lost: int


def talk(a: Host, b: Host, seconds: float) -> Talk:
    """Let both send 50 packets a second; what is under way at the end has half a second more."""
    with Standstill() as stood:
        begin = last = time.monotonic()
        a.came, b.came = [], []
        sent = 0
        while (now := time.monotonic()) < begin + seconds:
            if now - last >= 0.02:
                last = now
                a.send(own("b for a"), b"from a")
                b.send(own("a for b"), b"from b")
                sent += 1
            a.work()
            b.work()
        end = time.monotonic()
        while min(len(a.came), len(b.came)) < sent and time.monotonic() < end + 0.5:
            a.work()
            b.work()
        gap = max(stood.longest([begin, *(at for at, _ in host.came), time.monotonic()]) for host in (a, b))
    return Talk(gap, 2 * sent - len(a.came) - len(b.came))


def assert_smooth(talk: Talk) -> None:
    """Nobody waited for a store or node that does not answer (valkey_link.PATIENCE), and no trigger was missing."""
    assert talk.lost == 0
    assert talk.gap < PATIENCE, f"{talk.gap:.2f} s without a packet"


def test_hosts_at_different_nodes_talk_and_a_killed_node_costs_them_less_than_a_second(
    nodes: dict[str, Node], hosts: tuple[Host, Host]
) -> None:
    a, b = hosts
    assert_smooth(talk(a, b, 1.0))
    for role in ("two", "one"):
        nodes[role].process.kill()
        gap = talk(a, b, 3.0).gap
        assert gap < 1.5, f"{gap:.2f} s without a packet after node {role} was killed"
        assert_smooth(talk(a, b, 1.0))
    assert {host.client.node.address for host in hosts} == {NODES["three"]}
    assert b.client.stands(own("b for a").identifier) == ["net"]


def test_a_part_of_the_store_may_die_and_come_back_empty_without_a_flow_being_lost(
    redis: RedisCluster, nodes: dict[str, Node], hosts: tuple[Host, Host]
) -> None:
    a, b = hosts
    assert_smooth(talk(a, b, 1.0))  # now each node has the other's triggers cached
    for port in PORTS:
        redis.kill(port)
    until(lambda: len(nodes["one"].down()) == 3, a, b)
    assert_smooth(talk(a, b, 22.0))  # longer than a refresh
    assert "does not answer" in nodes["two"].log.read_text()
    b.insert(own("new"))
    until(lambda: TriggerRefused(own("new").identifier, "net", Status.LATER) in b.told, a, b)
    for port in PORTS:
        redis.start_one(port)
    until(lambda: not any(node.down() for node in nodes.values()), a, b, seconds=40)
    until(lambda: b.client.stands(own("new").identifier) == ["net"], a, b)
    assert_smooth(talk(a, b, 1.0))
    assert nodes["three"].status()["triggers"] > 0
