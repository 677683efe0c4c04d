"""A rendezvous node in Python, on one core: packets forwarded, latency, inserts, memory of a million triggers.

forwarding   the real daemon on loopback in a namespace, on a core of its own; this program sends and counts on another.
             A window of packets is under way, so that nothing is lost and the node is never idle. One flow in bursts,
             and 64 flows turn by turn; by the clock, and by the CPU time that the node took (others count less in it)
latency      one packet at a time, through the node and, to compare, from socket to socket
machine      the same code without sockets: what the node's logic costs
inserts      requests with a nonce, each of another identifier; signed ones apart
memory       resident bytes for each trigger, ten a host
"""

import argparse
import contextlib
import gc
import json
import os
import shutil
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from bench._ground import HZ, PREFIX, machine
from sojourn.i3.client import RendezvousClient, TriggerStands, Wanted
from sojourn.i3.home import HomeIdentity
from sojourn.i3.identifier import Identifier, private, public
from sojourn.i3.node import RendezvousNode
from sojourn.i3.packet import INSERT, Answer, Challenge, Data, Request, Right, Status, parse
from sojourn.i3.proof import sign
from sojourn.i3.shares import Rates
from sojourn.lab import namespaces
from sojourn.lab.processes import Child
from sojourn.linux.udp import SOL_UDP, UDP_GRO, UDP_SEGMENT
from sojourn.model import Endpoint

NAMESPACE = f"{PREFIX}-rv"
NODE = Endpoint("127.0.0.1", 1801)
WINDOW, BATCH = 256, 32
UNLIMITED = Rates(1e9, 1e9)


def trigger() -> Wanted:
    secret = os.urandom(16)
    return Wanted(private(secret, os.urandom(8)), Right.KEY, secret)


# -- the daemon


def start(folder: Path, core: int | None) -> Child:
    (folder / "rendezvous.toml").write_text(
        'listen = ["127.0.0.1"]\npackets_per_sender = 1e9\nrequests_per_sender = 1e9\n'
    )
    argv = [sys.executable, "-m", "sojourn", "rendezvous", "--config-dir", str(folder), "--socket", str(folder / "s")]
    pin = ["taskset", "-c", str(core)] if core is not None else []
    child = Child("node", namespaces.entering(NAMESPACE, [*pin, *argv]), folder / "log")
    until = time.monotonic() + 20
    while "ready" not in (folder / "log").read_text():
        if time.monotonic() > until:
            raise SystemExit((folder / "log").read_text())
        time.sleep(0.05)
    return child


def opened() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
    made.bind(("127.0.0.1", 0))
    made.settimeout(2.0)
    return made


def inserted(sock: socket.socket) -> Identifier:
    client, wanted = RendezvousClient([NODE], os.urandom), trigger()
    commands = client.insert(wanted, "lo", time.monotonic())
    while not any(isinstance(command, TriggerStands) for command in commands):
        for command in commands:
            sock.sendto(command.data, (NODE.address, NODE.port))  # type: ignore[union-attr]
        commands = client.received("lo", sock.recv(2048), NODE, time.monotonic())
    return wanted.identifier


def forwarding(size: int, seconds: float, flows: int, pid: int) -> dict[str, int]:
    """Return packets a second, of `size` bytes of payload, with a window of them under way; and by the node's CPU time.

    One flow comes in bursts, as bulk does, and leaves the node in bursts; many flows, turn by turn, one by one.
    """
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(opened())
        sources = [stack.enter_context(opened()) for _ in range(flows)]
        identifiers = [inserted(sink) for _ in sources]
        packets = [bytes(Data((identifier,), bytes(size))) for identifier in identifiers]
        segments = [(SOL_UDP, UDP_SEGMENT, len(packets[0]).to_bytes(2, sys.byteorder))]
        to = (NODE.address, NODE.port)
        sink.setsockopt(SOL_UDP, UDP_GRO, int(flows == 1))
        sink.setblocking(False)
        under_way = received = 0
        begin, busy = time.perf_counter(), cpu_seconds(pid)
        while time.perf_counter() - begin < seconds:
            while under_way <= WINDOW - BATCH:
                if flows == 1:
                    sources[0].sendmsg([packets[0] * BATCH], segments, 0, to)
                else:
                    for number in range(under_way, under_way + BATCH):
                        sources[number % flows].sendto(packets[number % flows], to)
                under_way += BATCH
            try:
                while under_way > WINDOW - BATCH:
                    came = len(sink.recv(65536)) // len(packets[0])
                    received += came
                    under_way -= came
            except BlockingIOError:
                continue
        took, busy = time.perf_counter() - begin, cpu_seconds(pid) - busy
        return {"per_s": round(received / took), "per_cpu_s": round(received / busy)}


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process and its children have used."""
    of = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    own = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(own[11]) + int(own[12])) / HZ + sum(cpu_seconds(int(child)) for child in of)


def latency(count: int, *, by_node: bool) -> dict[str, float]:
    """Return microseconds from sending to receiving, one packet at a time."""
    with opened() as sink, opened() as source:
        packet = bytes(Data((inserted(sink),), bytes(100)))
        to = (NODE.address, NODE.port) if by_node else sink.getsockname()
        times = []
        for _ in range(count):
            begin = time.perf_counter_ns()
            source.sendto(packet, to)
            sink.recv(2048)
            times.append((time.perf_counter_ns() - begin) / 1000)
        times.sort()
        return {"median_us": round(statistics.median(times), 1), "p99_us": round(times[len(times) * 99 // 100], 1)}


def daemon(seconds: float) -> dict[str, Any]:
    cores = sorted(os.sched_getaffinity(0))
    folder = Path(tempfile.mkdtemp(prefix="sojourn-bench-"))
    namespaces.add(NAMESPACE)
    child = start(folder, cores[-1] if len(cores) > 1 else None)
    try:
        if len(cores) > 1:
            os.sched_setaffinity(0, cores[:-1])

        def measured() -> dict[str, Any]:
            sizes = {
                f"{size} bytes, {flows} flow{'s' * (flows > 1)}": forwarding(size, seconds, flows, child.pid)
                for flows in (1, 64)
                for size in (64, 1000)
            }
            return {
                "packets": sizes,
                "latency": latency(3000, by_node=True),
                "latency_without_node": latency(3000, by_node=False),
            }

        return namespaces.inside(NAMESPACE, measured)
    finally:
        os.sched_setaffinity(0, cores)
        child.stop()
        namespaces.delete([NAMESPACE])
        shutil.rmtree(folder, ignore_errors=True)


# -- the machine


def resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def host_address(number: int) -> tuple[str, int]:
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", 4000


def full(count: int) -> dict[str, Any]:
    """Insert `count` triggers, ten a host, each by a whole request with a nonce."""
    node = RendezvousNode(os.urandom(32), (), UNLIMITED, 2 * count)
    before, took, wanted = resident(), 0.0, trigger()
    for host in range(count // 10):
        address = host_address(host)
        own = [trigger() for _ in range(10)]
        asked = Request(INSERT, Right.KEY, 1, own[0].identifier, own[0].evidence)
        challenge = parse(node.handle(bytes(asked), address, 1000.0)[0][0])
        assert isinstance(challenge, Challenge)
        requests = [bytes(Request(INSERT, Right.KEY, 2, one.identifier, one.evidence, challenge.nonce)) for one in own]
        begin = time.perf_counter()
        for request in requests:
            node.handle(request, address, 1000.0)
        took += time.perf_counter() - begin
        wanted = own[-1]
    there = len(node.table)
    assert there == count // 10 * 10
    each = (resident() - before) / there
    packet = bytes(Data((wanted.identifier,), bytes(1000)))
    return {
        "triggers": there, "bytes_each": round(each), "inserts_per_s": round(there / took),
        "machine_packets_per_s": round(looped(node, packet)),
    }  # fmt: skip


def looped(node: RendezvousNode, packet: bytes, count: int = 200_000) -> float:
    begin, source = time.perf_counter(), ("192.0.2.1", 5000)
    for number in range(count):
        sends = node.handle(packet, source, 1000.0 + number * 1e-6)
    took = time.perf_counter() - begin
    assert len(sends) == 1
    return count / took


def signed(count: int) -> float:
    """Return signed inserts a second: public triggers, a signature checked for each."""
    here = Endpoint("203.0.113.9", 1801)
    node = RendezvousNode(os.urandom(32), {here}, UNLIMITED, 10 * count)
    requests = []
    for host in range(count):
        identity = HomeIdentity(os.urandom(32), os.urandom(32))
        asked = sign(Request(INSERT, Right.SIGNED, 1, public(identity.address), b""), identity, here)
        challenge = parse(node.handle(bytes(asked), host_address(host), 1000.0)[0][0])
        assert isinstance(challenge, Challenge)
        requests.append(bytes(sign(replace(asked, nonce=challenge.nonce), identity, here)))
    begin = time.perf_counter()
    for host, request in enumerate(requests):
        sends = node.handle(request, host_address(host), 1000.0)
    took = time.perf_counter() - begin
    answer = parse(sends[0][0])
    assert isinstance(answer, Answer)
    assert answer.status is Status.INSERTED
    return count / took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--triggers", type=int, default=1_000_000)
    given = parser.parse_args()
    result: dict[str, Any] = {
        "bench": "rendezvous", **machine(), "forwarding": daemon(given.seconds), "memory": full(given.triggers),
        "signed_inserts_per_s": round(signed(2000)),
    }  # fmt: skip
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
