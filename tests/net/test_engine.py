"""Two real engines, real packets: what goes in at one end comes out at the other, the same.

Topology: tests/net/engine_lab.py. Offloads towards the correspondent are off, so that its kernel sees real
checksums and verifies them.
"""

import contextlib
import hashlib
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from sojourn.upmt.events import Counters, TunnelFailed, TunnelMeasured, TunnelTested
from tests.net import beyond
from tests.net.engine_lab import (
    ANCHOR,
    CORRESPONDENT,
    HOST,
    PEER,
    PEER6,
    VIPA,
    VIPA6,
    Lab,
    layout,
    run,
    within,
)

pytestmark = [
    pytest.mark.net,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces and TUN devices"),
]

ALL = "tso,uso,gso,gro"
UDP_SEGMENT = 103
families = pytest.mark.parametrize("six", [False, True], ids=["ipv4", "ipv6"])


@pytest.fixture(scope="module", params=[(4, "", 1), (6, "", 2), (4, "uso", 2), (4, ALL, 1)], ids=str)
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    version, without, threads = request.param
    with layout(threads):
        beyond.lay_out(ANCHOR, CORRESPONDENT)
        if shutil.which("ethtool"):
            run("ip", "netns", "exec", ANCHOR, "ethtool", "-K", "a1", "tx", "off")
            run("ip", "netns", "exec", CORRESPONDENT, "ethtool", "-K", "c0", "tx", "off", "rx", "off")
        lab = Lab(version, without, threads)
        try:
            lab.host.until(TunnelTested)
            yield lab
        finally:
            lab.close()


_opened: list[socket.socket] = []


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
        made.setsockopt(socket.SOL_SOCKET, 33, 4 << 20)  # SO_RCVBUFFORCE: what comes at once must not be lost here
        if bind is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(bind)
        return made

    return within(namespace, make)


def peer(six: bool) -> str:
    return PEER6 if six else PEER


def bad_checksums(namespace: str) -> dict[str, int]:
    """Return the kernel's counters of wrong checksums."""
    text = run("ip", "netns", "exec", namespace, "cat", "/proc/net/snmp", "/proc/net/snmp6")
    found = dict(re.findall(r"^(\w*InCsumErrors)\s+(\d+)", text, re.MULTILINE))
    for names, values in re.findall(r"^(?:Tcp|Udp|Icmp): (\D.*)\n\w+: (.*)$", text, re.MULTILINE):
        found.update(pair for pair in zip(names.split(), values.split(), strict=True) if pair[0] == "InCsumErrors")
    return {name: int(value) for name, value in found.items() if int(value)}


@families
def test_ping_crosses_with_one_hop_counted(lab: Lab, six: bool) -> None:
    text = run("ip", "netns", "exec", HOST, "ping", "-c", "3", "-i", "0.1", "-W", "3", peer(six))
    assert " 0% packet loss" in text
    assert "ttl=63" in text


@families
@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
def test_tcp_carries_every_byte(lab: Lab, six: bool, up: bool) -> None:
    data = hashlib.shake_256(b"x").digest(8 << 20)
    server = sock(CORRESPONDENT, socket.SOCK_STREAM, six, (peer(six), 5001))
    server.listen()
    client = sock(HOST, socket.SOCK_STREAM, six)
    client.connect((peer(six), 5001))
    served, address = server.accept()
    _opened.append(served)
    served.settimeout(10)
    sender, receiver = (client, served) if up else (served, client)

    def send() -> None:
        sender.sendall(data)
        sender.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send)
    thread.start()
    digest, size = hashlib.sha256(), 0
    while piece := receiver.recv(1 << 18):
        digest.update(piece)
        size += len(piece)
    thread.join()
    assert address[0] == (VIPA6 if six else VIPA)
    assert (size, digest.digest()) == (len(data), hashlib.sha256(data).digest())
    assert bad_checksums(CORRESPONDENT) == bad_checksums(HOST) == {}


@families
def test_large_datagrams_cross_in_fragments_both_ways(lab: Lab, six: bool) -> None:
    server = sock(CORRESPONDENT, socket.SOCK_DGRAM, six, (peer(six), 5002))
    client = sock(HOST, socket.SOCK_DGRAM, six)
    question = hashlib.shake_256(b"q").digest(9000)
    client.sendto(question, (peer(six), 5002))
    data, source = server.recvfrom(65536)
    # The way back is narrower than the correspondent's link: with IPv6 its first attempt only tells it so.
    client.settimeout(0.5)
    for _ in range(3):
        server.sendto(data[::-1], source)
        with contextlib.suppress(TimeoutError):
            assert client.recv(65536) == question[::-1]
            return
    pytest.fail("no answer")


@families
@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
def test_a_train_of_datagrams_arrives_whole_and_in_order(lab: Lab, six: bool, up: bool) -> None:
    server = sock(CORRESPONDENT, socket.SOCK_DGRAM, six, (peer(six), 5003))
    client = sock(HOST, socket.SOCK_DGRAM, six)
    client.sendto(b"hello", (peer(six), 5003))
    _, source = server.recvfrom(100)
    sender, receiver, to = (client, server, (peer(six), 5003)) if up else (server, client, source)
    sent = [bytes((round_,)) * 4 + bytes((at,)) * (996 if at < 29 else 300) for round_ in range(5) for at in range(30)]
    for begin in range(0, len(sent), 30):
        sender.sendmsg([b"".join(sent[begin : begin + 30])], [(17, UDP_SEGMENT, (1000).to_bytes(2, "little"))], 0, to)
    assert [receiver.recv(2000) for _ in sent] == sent
    assert bad_checksums(CORRESPONDENT) == {}


@families
def test_icmp_errors_from_beyond_the_anchor_find_the_sockets_that_they_are_about(lab: Lab, six: bool) -> None:
    for case in beyond.CASES:
        client = sock(HOST, socket.SOCK_DGRAM, six)
        for _ in range(2):
            beyond.provoke(client, case)


def test_the_ecn_field_of_the_inner_packet_survives_the_tunnel(lab: Lab) -> None:
    server = sock(CORRESPONDENT, socket.SOCK_DGRAM, False, (PEER, 5004))
    server.setsockopt(socket.IPPROTO_IP, 13, 1)
    client = sock(HOST, socket.SOCK_DGRAM, False)
    seen = []
    for ecn in (0, 1, 2, 3):
        client.setsockopt(socket.IPPROTO_IP, 1, ecn)
        client.sendto(b"x", (PEER, 5004))
        seen.append(server.recvmsg(10, 100)[1][0][2][0])
    assert seen == [0, 1, 2, 3]


def test_counters_tell_what_passed_and_nothing_was_refused(lab: Lab) -> None:
    totals = lab.host.counters()
    assert totals.totals["packets_out"] > 100
    assert totals.flows > 0
    assert not {"replayed", "forged", "hint", "inner-vipa"} & totals.refused.keys()
    anchor: Counters = lab.anchor.counters()
    assert not {"replayed", "forged", "hint", "inner-vipa"} & anchor.refused.keys()


def measure(lab: Lab, most: int) -> int:
    """Return the inner MTU of the host's tunnel once it is no larger than `most`."""
    for _ in range(40):
        run("ip", "netns", "exec", HOST, "ping", "-c", "1", "-W", "1", PEER, check=False)
        lab.host.counters()
        found = lab.host.until(TunnelMeasured).mtu
        if found <= most:
            return found
        time.sleep(0.2)
    pytest.fail(f"still {found}")


def test_a_narrow_path_is_measured_and_told_to_senders() -> None:
    with layout():
        for namespace, device in ((HOST, "h0"), (ANCHOR, "a0")):
            run("ip", "-n", namespace, "link", "set", device, "mtu", "1400")
        lab = Lab(4)
        try:
            lab.host.until(TunnelTested)
            measured = measure(lab, 1400 - 52)
            text = run(
                "ip", "netns", "exec", HOST, "ping", "-c", "1", "-W", "2", "-M", "do", "-s", "1380", PEER, check=False
            )
            assert f"mtu = {measured}" in text or f"mtu={measured}" in text
            for size in (1320, 1380):
                text = run("ip", "netns", "exec", HOST, "ping", "-c", "1", "-M", "dont", "-s", str(size), PEER)
                assert " 0% packet loss" in text
        finally:
            lab.close()


def test_an_address_that_goes_is_told_once_and_the_tunnel_comes_back_with_it() -> None:
    with layout():
        lab = Lab(4)
        try:
            lab.host.until(TunnelTested)
            run("ip", "-n", HOST, "link", "set", "h0", "down")
            run("ip", "netns", "exec", HOST, "ping", "-c", "3", "-i", "0.1", "-W", "1", PEER, check=False)
            lab.host.until(TunnelFailed)
            assert sum(isinstance(event, TunnelFailed) for event in lab.host.events) == 1
            run("ip", "-n", HOST, "link", "set", "h0", "up")
            text = run("ip", "netns", "exec", HOST, "ping", "-c", "20", "-i", "0.2", "-W", "1", PEER, check=False)
            assert "ttl=63" in text
        finally:
            lab.close()
