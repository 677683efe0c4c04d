"""The kernel path with real packets: programs at both ends, all that crosses is what went in.

Topology: tests/net/kernel_lab.py. The veths pass super-packets and open checksums whole, as virtual networks do; where
a card's way matters, offloads are turned off.
"""

import contextlib
import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from sojourn.model import Endpoint
from sojourn.packet.ip import udp_packet
from tests.net import beyond
from tests.net.engine_lab import run, within
from tests.net.kernel_lab import (
    ANCHOR,
    CORRESPONDENT,
    HOST,
    OUTER,
    PEER,
    PEER6,
    VIPA,
    VIPA6,
    KernelLab,
    layout,
)

pytestmark = [
    pytest.mark.net,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces and TUN devices"),
]

UDP_SEGMENT = 103
families = pytest.mark.parametrize("six", [False, True], ids=["ipv4", "ipv6"])
ways = pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
_opened: list[socket.socket] = []


@pytest.fixture(scope="module", params=[(4, ""), (6, ""), (4, "tcx")], ids=["over-ipv4", "over-ipv6", "by-clsact"])
def lab(request: pytest.FixtureRequest) -> Iterator[KernelLab]:
    version, without = request.param
    with layout():
        beyond.lay_out(ANCHOR, CORRESPONDENT)
        made = KernelLab(version, without)
        try:
            yield made
        finally:
            made.close()


@pytest.fixture(autouse=True)
def _close_sockets() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


def sock(namespace: str, kind: int, six: bool, bind: tuple[str, int] | None = None) -> socket.socket:
    """Return a socket in a namespace, closed with the test."""

    def make() -> socket.socket:
        made = socket.socket(socket.AF_INET6 if six else socket.AF_INET, kind)
        _opened.append(made)
        made.settimeout(10)
        made.setsockopt(socket.SOL_SOCKET, 33, 4 << 20)  # SO_RCVBUFFORCE
        if bind is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(bind)
        return made

    return within(namespace, make)


def peer(six: bool) -> str:
    return PEER6 if six else PEER


def inside(namespace: str, *words: str, check: bool = True) -> str:
    return run("ip", "netns", "exec", namespace, *words, check=check)


def transfer(six: bool, up: bool, size: int, meanwhile: object = None) -> str:
    """Carry `size` bytes by TCP; return the address that the correspondent saw. `meanwhile` is called while they go."""
    block = hashlib.shake_256(b"x").digest(1 << 20)
    server = sock(CORRESPONDENT, socket.SOCK_STREAM, six, (peer(six), 5001))
    server.listen()
    client = sock(HOST, socket.SOCK_STREAM, six)
    client.connect((peer(six), 5001))
    served, address = server.accept()
    _opened.append(served)
    served.settimeout(10)
    sender, receiver = (client, served) if up else (served, client)

    def send() -> None:
        for _ in range(size >> 20):
            sender.sendall(block)
        sender.shutdown(socket.SHUT_WR)

    threads = [threading.Thread(target=send)]
    if callable(meanwhile):
        threads.append(threading.Thread(target=meanwhile))
    for thread in threads:
        thread.start()
    found, expected, got = hashlib.sha256(), hashlib.sha256(), 0
    while piece := receiver.recv(1 << 18):
        found.update(piece)
        got += len(piece)
    for _ in range(size >> 20):
        expected.update(block)
    for thread in threads:
        thread.join()
    server.close()
    assert (got, found.digest()) == (size, expected.digest())
    return str(address[0])


@families
def test_ping_crosses_with_one_hop_counted_and_all_but_the_first_by_the_kernel(lab: KernelLab, six: bool) -> None:
    before = lab.carried()
    text = inside(HOST, "ping", "-c", "5", "-i", "0.1", "-W", "3", peer(six))
    assert " 0% packet loss" in text
    assert "ttl=63" in text
    after = lab.carried()
    assert after[0] - before[0] == 4
    assert after[1] - before[1] >= 4


@families
@ways
def test_tcp_carries_every_byte_in_the_kernel(lab: KernelLab, six: bool, up: bool) -> None:
    before = lab.carried()
    assert transfer(six, up, 64 << 20) == (VIPA6 if six else VIPA)
    after = lab.carried()
    assert after[not up] - before[not up] >= (64 << 20) / 1400 * 0.95
    reasons = lab.host.counters().totals
    assert reasons.get("kernel-refused-out", 0) == reasons.get("kernel-lost-out", 0) == 0


@families
@ways
def test_a_train_of_datagrams_arrives_whole(lab: KernelLab, six: bool, up: bool) -> None:
    server = sock(CORRESPONDENT, socket.SOCK_DGRAM, six, (peer(six), 5003))
    client = sock(HOST, socket.SOCK_DGRAM, six)
    for _ in range(2):
        client.sendto(b"hello", (peer(six), 5003))
        _, source = server.recvfrom(100)
        server.sendto(b"hello", source)
        client.recv(100)
    sender, receiver, to = (client, server, (peer(six), 5003)) if up else (server, client, source)
    sent = [bytes((round_,)) * 4 + bytes((at,)) * (996 if at < 29 else 300) for round_ in range(5) for at in range(30)]
    for begin in range(0, len(sent), 30):
        sender.sendmsg([b"".join(sent[begin : begin + 30])], [(17, UDP_SEGMENT, (1000).to_bytes(2, "little"))], 0, to)
    assert sorted(receiver.recv(2000) for _ in sent) == sorted(sent)


@families
def test_large_datagrams_cross_in_fragments_both_ways(lab: KernelLab, six: bool) -> None:
    server = sock(CORRESPONDENT, socket.SOCK_DGRAM, six, (peer(six), 5002))
    client = sock(HOST, socket.SOCK_DGRAM, six)
    question = hashlib.shake_256(b"q").digest(9000)
    client.sendto(question, (peer(six), 5002))
    data, source = server.recvfrom(65536)
    client.settimeout(0.5)
    for _ in range(3):  # with IPv6 the first attempt only tells the correspondent how narrow the way is
        server.sendto(data[::-1], source)
        with contextlib.suppress(TimeoutError):
            assert client.recv(65536) == question[::-1]
            return
    pytest.fail("no answer")


@families
def test_icmp_errors_from_beyond_the_anchor_find_the_sockets_that_they_are_about(lab: KernelLab, six: bool) -> None:
    before = lab.carried()[0]
    for case in beyond.CASES:
        client = sock(HOST, socket.SOCK_DGRAM, six)
        for _ in range(3):
            beyond.provoke(client, case)
    assert lab.carried()[0] - before >= 2 * len(beyond.CASES), "but for the first, those that they are about"


@families
@ways
def test_a_flow_moves_to_and_fro_under_full_load(lab: KernelLab, six: bool, up: bool) -> None:
    moved = 0

    def hand_over() -> None:
        nonlocal moved
        for number in range(10):
            time.sleep(0.05)
            lab.hand_over((number + 1) % 2)
            moved += 1

    before = {name: received(HOST, name) for name in ("h0", "h1")}
    transfer(six, up, 512 << 20, hand_over)
    assert moved == 10
    assert all(received(HOST, name) - before[name] > 1 << 20 for name in before), "it was on both"


def received(namespace: str, interface: str) -> int:
    """Return the bytes that an interface has seen, both ways."""
    text = inside(namespace, "cat", "/proc/net/dev")
    words = (
        next(line for line in text.splitlines() if line.strip().startswith(f"{interface}:")).partition(":")[2].split()
    )
    return int(words[0]) + int(words[8])


@pytest.mark.parametrize("value", ["1", "2"], ids=["strict", "loose"])
def test_reverse_path_filters_let_it_pass(lab: KernelLab, value: str) -> None:
    for namespace in (HOST, ANCHOR):
        for name in ("all", "default", "h0", "a0", "a1", "sj0"):
            inside(namespace, "sysctl", "-qw", f"net.ipv4.conf.{name}.rp_filter={value}", check=False)
    try:
        before = lab.carried()
        assert " 0% packet loss" in inside(HOST, "ping", "-c", "4", "-i", "0.1", "-W", "3", PEER)
        transfer(False, True, 8 << 20)
        assert lab.carried()[0] - before[0] > 5000
    finally:
        for namespace in (HOST, ANCHOR):
            inside(namespace, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0")


def test_forged_packets_are_let_in_by_nobody(lab: KernelLab) -> None:
    victim = sock(CORRESPONDENT, socket.SOCK_DGRAM, False, (PEER, 5009))
    victim.settimeout(0.3)
    client = sock(HOST, socket.SOCK_DGRAM, False, (VIPA, 4009))
    for _ in range(2):
        client.sendto(b"true", (PEER, 5009))
        assert victim.recv(100) == b"true"
    here, there = OUTER[lab.version][0]
    six = lab.version == 6
    forged = udp_packet(Endpoint(VIPA, 4009), Endpoint(PEER, 5009), b"forged")
    from_another_port = sock(HOST, socket.SOCK_DGRAM, six, (here, 4799))
    from_another_port.sendto(forged, (there, 1800))
    for source in ("10.201.0.3", "192.0.2.99", PEER):  # right outside, wrong inside
        wrong = udp_packet(Endpoint(source, 4009), Endpoint(PEER, 5009), b"forged")
        from_another_port.sendto(wrong, (there, 1800))
    with pytest.raises(TimeoutError):
        victim.recv(100)
    refused = lab.anchor.counters().refused
    assert refused["no-tunnel"] >= 1
