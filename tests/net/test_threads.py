"""Two threads a direction: many flows at once, each whole and in order. Topology: tests/net/engine_lab.py.

tests/net/test_engine.py runs with one thread and with two; this is what only several can get wrong.
"""

import ctypes
import hashlib
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sojourn.packet.seal import Secret
from sojourn.upmt.commands import InstallSecret
from sojourn.upmt.events import SecretInUse, TunnelTested
from tests.net.capture import Capture
from tests.net.engine_lab import CORRESPONDENT, HOST, ME, PATIENCE, PEER, End, Lab, layout, within
from tests.net.exchange import read_all

pytestmark = [
    pytest.mark.net,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces and TUN devices"),
    pytest.mark.skipif(os.environ.get("SOJOURN_ENGINE") == "python", reason="the Python engine has one thread"),
]

FLOWS, EACH = 8, 4 << 20
UDP_SEGMENT = 103
SO_NO_CHECK, PIDFD_GETFD = 11, 438
FRAME = 1500


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with layout(threads=2):
        lab = Lab(4, threads=2)
        try:
            lab.host.until(TunnelTested, 30)
            yield lab
        finally:
            lab.close()


def made(namespace: str, kind: int, port: int = 0) -> socket.socket:
    def make() -> socket.socket:
        sock = socket.socket(socket.AF_INET, kind)
        sock.settimeout(20)
        sock.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
        if port:
            sock.bind((PEER, port))
        return sock

    return within(namespace, make)


def send_all(sock: socket.socket, data: bytes, enough: threading.Event, sent: dict[int, int]) -> None:
    """Send it once, and again until it is enough; note how often."""
    while not sent.get(sock.fileno()) or not enough.is_set():
        sock.sendall(data)
        sent[sock.fileno()] = sent.get(sock.fileno(), 0) + 1
    sock.shutdown(socket.SHUT_WR)


def renew_secrets(lab: Lab, enough: threading.Event) -> None:
    """Give both ends two new secrets, the second when the first is in use."""
    try:
        for generation in (2, 3):
            new = InstallSecret(ME, Secret(generation, bytes((generation,)) * 32, 100 * generation))
            lab.anchor.submit(new)
            lab.anchor.counters()  # it has it
            lab.host.submit(new)
            until = time.monotonic() + 10
            while SecretInUse(ME, generation) not in lab.anchor.events and time.monotonic() < until:
                time.sleep(0.01)
            time.sleep(0.3)  # the host has to hear the anchor seal with it: a successor that was never used gives way
    finally:
        enough.set()


def turns(end: End) -> dict[str, list[int]]:
    """Return how often each thread of an engine has waited, by what the threads are."""
    found: dict[str, list[int]] = {}
    for task in Path(f"/proc/{end.process.pid}/task").iterdir():
        status = dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines() if ":\t" in line)
        found.setdefault(status["Name"], []).append(int(status["voluntary_ctxt_switches"]))
    return found


def test_eight_flows_at_once_carry_every_byte_both_ways_while_keys_change_and_both_threads_work(lab: Lab) -> None:
    data = hashlib.shake_256(b"threads").digest(EACH)
    listener = made(CORRESPONDENT, socket.SOCK_STREAM, 5001)
    listener.listen(FLOWS)
    pairs = []
    for _ in range(FLOWS):
        client = made(HOST, socket.SOCK_STREAM)
        client.connect((PEER, 5001))
        pairs.append((client, listener.accept()[0]))
    ends = [sock for pair in pairs for sock in pair]
    enough, sent = threading.Event(), dict[int, int]()
    threads = [threading.Thread(target=send_all, args=(sock, data, enough, sent)) for sock in ends]
    threads.append(threading.Thread(target=renew_secrets, args=(lab, enough)))
    for thread in threads:
        thread.start()
    digests = {sock: hashlib.sha256() for sock in ends}
    waiting = set(ends)
    while waiting:
        ready, _, _ = select.select(list(waiting), [], [], 20)
        assert ready, f"{len(waiting)} of {len(ends)} streams stand still"
        for sock in ready:
            piece = sock.recv(1 << 18)
            digests[sock].update(piece)
            if not piece:
                waiting.discard(sock)
    for thread in threads:
        thread.join()
    came = [(digests[one].digest(), sent[other.fileno()]) for pair in pairs for one, other in (pair, pair[::-1])]
    for sock in (*ends, listener):
        sock.close()
    assert {digest for digest, times in came} == {hashlib.sha256(data * times).digest() for _, times in came}
    assert [event.generation for event in lab.anchor.events if isinstance(event, SecretInUse)][-2:] == [2, 3]
    for end in (lab.host, lab.anchor):
        waited = turns(end)
        assert len(waited["sojourn-send"]) == 2
        assert min(waited["sojourn-send"]) > 20, f"eight flows on one queue: {waited}"
        assert len(waited["sojourn-help"]) == 1
        assert not {"forged", "replayed"} & end.counters().refused.keys()


@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
def test_the_datagrams_of_each_flow_stay_in_order(lab: Lab, up: bool) -> None:
    servers = [made(CORRESPONDENT, socket.SOCK_DGRAM, 6000 + number) for number in range(FLOWS)]
    clients = [made(HOST, socket.SOCK_DGRAM) for _ in range(FLOWS)]
    for number, (client, server) in enumerate(zip(clients, servers, strict=True)):
        client.connect((PEER, 6000 + number))
        client.send(b"here")
        server.connect(server.recvfrom(100)[1])
        server.send(b"there")  # a flow that was answered is the core's
        assert client.recv(100) == b"there"
    senders, receivers = (clients, servers) if up else (servers, clients)
    for sender in senders:
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)

    def send(number: int) -> None:
        for burst in range(60):
            segments = [(20 * burst + at).to_bytes(4) + bytes(996) for at in range(20)]
            senders[number].send(b"".join(segments))
            time.sleep(0.002)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(FLOWS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    time.sleep(0.5)
    for number, receiver in enumerate(receivers):
        receiver.setblocking(False)
        numbers = []
        try:
            while True:
                numbers.append(int.from_bytes(receiver.recv(2000)[:4]))
        except BlockingIOError:
            pass
        assert numbers == sorted(numbers), f"flow {number} was put out of order"
        assert len(numbers) > 1000, f"flow {number} lost more than a queue may: {len(numbers)} of 1200 came"
    for sock in (*servers, *clients):
        sock.close()


def test_what_peers_and_strangers_make_up_harms_no_flow(lab: Lab) -> None:
    """Super-packets of nonsense from outside, by the calls that the line reads in batches, beside a live flow."""
    tunnel = (0x80ABCDEF).to_bytes(4)
    nonsense = [tunnel + number.to_bytes(4) + os.urandom(size) for number in range(8) for size in (0, 1, 15, 17, 1200)]
    stranger = made(CORRESPONDENT, socket.SOCK_DGRAM)
    server = made(CORRESPONDENT, socket.SOCK_DGRAM, 7000)
    client = made(HOST, socket.SOCK_DGRAM)
    client.connect((PEER, 7000))
    client.send(b"here")
    server.connect(server.recvfrom(100)[1])
    before = lab.anchor.counters().refused.get("forged", 0)
    for round_ in range(20):
        for width in (9, 25, 1224):
            stranger.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, width)
            data = b"".join((datagram + bytes(width))[:width] for datagram in nonsense)[: 60 * width]
            stranger.sendto(data, ("192.0.2.1", 1800))
        stranger.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 0)
        stranger.sendto(nonsense[round_], ("192.0.2.1", 1800))
        client.send(round_.to_bytes(4))
        assert server.recv(100) == round_.to_bytes(4)
    for sock in (stranger, server, client):
        sock.close()
    assert lab.anchor.counters().refused.get("forged", 0) > before


def outer_sockets(end: End) -> Iterator[socket.socket]:
    """Yield the UDP sockets of an engine, shared with it (pidfd_getfd)."""
    libc, process = ctypes.CDLL(None, use_errno=True), os.pidfd_open(end.process.pid)
    for entry in Path(f"/proc/{end.process.pid}/fd").iterdir():
        if not os.readlink(entry).startswith("socket:"):
            continue
        shared = socket.socket(fileno=libc.syscall(PIDFD_GETFD, process, int(entry.name), 0))
        with shared:
            if shared.type == socket.SOCK_DGRAM and shared.family in (socket.AF_INET, socket.AF_INET6):
                yield shared
    os.close(process)


def largest_on_the_wire(data: bytes) -> int:
    """Send by TCP from the host; return the size of the largest UDP packet that leaves for it."""
    with Capture(HOST, "h0") as tap, made(CORRESPONDENT, socket.SOCK_STREAM, 7300) as listener:
        listener.listen()
        with made(HOST, socket.SOCK_STREAM) as client:
            client.connect((PEER, 7300))
            served, _ = listener.accept()
            client.sendall(data)
        with served:
            assert read_all(served) == data
        return max(len(packet) for packet in tap.read(0.2) if packet[9] == socket.IPPROTO_UDP)


def test_where_the_kernel_will_not_cut_every_datagram_is_sent_singly(lab: Lab) -> None:
    """It refuses UDP_SEGMENT with EINVAL where checksums are off."""
    data = hashlib.shake_256(b"singly").digest(1 << 18)
    assert largest_on_the_wire(data) > FRAME
    for sock in outer_sockets(lab.host):
        sock.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    try:
        assert largest_on_the_wire(data) <= FRAME
    finally:
        for sock in outer_sockets(lab.host):
            sock.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 0)


def test_a_data_path_that_is_killed_under_load_takes_nobody_along(lab: Lab) -> None:
    """The last test here: the host's end dies. The anchor's goes on, and is told what it wants to know."""
    sink, client = made(CORRESPONDENT, socket.SOCK_DGRAM, 7100), made(HOST, socket.SOCK_DGRAM)
    client.connect((PEER, 7100))
    client.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
    for _ in range(50):
        client.send(bytes(40000))
    lab.host.process.send_signal(signal.SIGKILL)
    assert lab.host.process.wait(PATIENCE) == -signal.SIGKILL
    client.close()
    sink.close()
    assert lab.anchor.counters() is not None
    assert {"sojourn-send", "sojourn-receive", "sojourn-help"} <= turns(lab.anchor).keys()
