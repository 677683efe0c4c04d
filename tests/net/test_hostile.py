"""What strangers send to the running daemons: it is counted, bounded, answered by nothing larger, and changes nothing.

mh --- nat0 (wifi) --- core --- an 45.0.0.1: UDP 1800 (tunnels), TCP 5061 (SIP over TLS)
                        |  \\---- ch 86.0.0.1
ch2 (the stranger) --- natc
"""

import contextlib
import json
import random
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sojourn.api.client import Client
from sojourn.api.messages import ApiError
from sojourn.lab.daemons import HOST_NAME, Daemons
from sojourn.lab.topology import WIFI, Lab, Topology
from tests.net import wire
from tests.net.capture import Capture
from tests.net.standing import PATIENCE, Sockets, eventually, hosts, laptop, own_prefix, processes_of, standing

pytestmark = pytest.mark.net

CORRESPONDENT = "86.0.0.1"
TUNNELS, SIP = ("45.0.0.1", 1800), ("45.0.0.1", 5061)
AMPLIFICATION = 3
GROWTH_KB = 24_000
"""What the anchor's processes may grow by under a flood: caches of fixed size fill, nothing else."""


@pytest.fixture(scope="module")
def daemons() -> Iterator[Daemons]:
    with standing(Topology(prefix=own_prefix(), access=(WIFI,))) as lab:
        daemons = Daemons(lab)
        daemons.set_up()
        daemons.start()
        yield daemons


@pytest.fixture(scope="module")
def lab(daemons: Daemons) -> Lab:
    return daemons.lab


@pytest.fixture
def sockets(lab: Lab) -> Iterator[Sockets]:
    made = Sockets(lab)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
def flow(daemons: Daemons, lab: Lab) -> Iterator["Flow"]:
    """Have a connection that must not notice anything, and processes that must not end."""
    made = Sockets(lab)
    before = {role: set(processes_of(lab, role)) for role in ("mh", "an")}
    try:
        flow = Flow(made)
        with contextlib.closing(flow):
            flow.check()
            yield flow
            flow.check()
        for role, pids in before.items():
            assert pids <= set(processes_of(lab, role)), "none has ended"
        assert daemons.status()["state"] == "associated"
    finally:
        made.close()


class Flow:
    """A TCP connection between the host and the correspondent."""

    def __init__(self, sockets: Sockets) -> None:
        server = sockets.at("ch", socket.SOCK_STREAM, port=0)
        server.listen()
        self._client = sockets.at("mh", socket.SOCK_STREAM)
        self._client.connect((CORRESPONDENT, server.getsockname()[1]))
        self._served = server.accept()[0]
        self._served.settimeout(PATIENCE)

    def close(self) -> None:
        """Close the end that `Sockets` did not make."""
        self._served.close()

    def check(self) -> None:
        """Send something in both directions."""
        for sender, receiver in ((self._client, self._served), (self._served, self._client)):
            sender.sendall(b"still here")
            got = b""
            while len(got) < 10:
                got += receiver.recv(10)
            assert got == b"still here"


def anchor_status(daemons: Daemons) -> dict[str, Any]:
    answer = Client(str(daemons.anchor_socket)).call("status")
    assert isinstance(answer, dict)
    return answer


def refused(daemons: Daemons, *reasons: str) -> int:
    counts = anchor_status(daemons)["refused"]
    return sum(counts.get(reason, 0) for reason in reasons)


def memory_kb(lab: Lab) -> int:
    """Return how much memory the anchor's processes have of their own."""
    total = 0
    for pid in processes_of(lab, "an"):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(("Private_Dirty:", "Private_Clean:")):
                total += int(line.split()[1])
    return total


def sealed_datagrams(daemons: Daemons, count: int) -> list[bytes]:
    """Return tunnel datagrams of the host, as whoever is on the path sees them."""
    with Capture(daemons.lab.namespace("core"), "nat0") as tap:
        daemons.lab.run("mh", "ping", "-c", str(count), "-i", "0.05", "-W", "10", CORRESPONDENT)
        return to_the_anchor(tap)


def to_the_anchor(tap: Capture) -> list[bytes]:
    return [
        wire.payload_of(packet)[8:]
        for packet in tap.read(0.1)
        if wire.protocol_of(packet) == wire.UDP
        and wire.address_of(packet, source=False) == TUNNELS[0]
        and wire.payload_of(packet)[8] & 0x80
    ]


def heard(stranger: socket.socket, seconds: float = 0.5) -> list[bytes]:
    """Return what a stranger is answered."""
    answers = []
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and select.select([stranger], [], [], left)[0]:
        answers.append(stranger.recv(65536))
    return answers


# Tunnels.


def test_datagrams_sent_again_by_a_stranger_are_counted_and_move_nothing(daemons: Daemons, sockets: Sockets) -> None:
    before, outer = refused(daemons, "replayed"), hosts(daemons)[HOST_NAME]["tunnels"]
    recorded = sealed_datagrams(daemons, 8)
    assert len(recorded) >= 8
    stranger = sockets.at("ch2")
    for datagram in recorded * 3:
        stranger.sendto(datagram, TUNNELS)
    eventually("all are counted", lambda: refused(daemons, "replayed") >= before + 3 * len(recorded))
    assert heard(stranger) == []
    assert hosts(daemons)[HOST_NAME]["tunnels"] == outer


@pytest.mark.parametrize(("spoil", "reasons"), [
    (lambda d: d[:-1] + bytes((d[-1] ^ 1,)), ("replayed",)),
    (lambda d: d[:4] + bytes((d[4] ^ 0x40,)) + d[5:], ("forged",)),
    (lambda d: bytes((d[0] ^ 3,)) + d[1:], ("forged",)),
    (lambda d: d[:1] + bytes((d[1] ^ 0xFF,)) + d[2:], ("no-tunnel",)),
    (lambda d: bytes((d[0] | 0x60,)) + d[1:], ("version",)),
    (lambda d: d[:20], ("short",)),
    (lambda d: d[:1], ("short",)),
    (lambda d: b"\x45" + bytes(40), ("no-tunnel",)),
    (lambda d: b"\x00" + bytes(40), ("no-tunnel",)),
], ids=["tag", "counter", "epoch", "index", "version", "cut", "one byte", "plain packet", "plain frame"])  # fmt: skip
def test_spoilt_datagrams_are_counted_by_reason(
    daemons: Daemons, sockets: Sockets, spoil: Callable[[bytes], bytes], reasons: tuple[str, ...]
) -> None:
    (datagram, *_) = sealed_datagrams(daemons, 1)
    before, all_before = refused(daemons, *reasons), anchor_status(daemons)["refused"]
    stranger = sockets.at("ch2")
    for _ in range(5):
        stranger.sendto(spoil(datagram), TUNNELS)

    def counted() -> bool:
        return refused(daemons, *reasons) >= before + 5

    try:
        eventually("counted", counted, 5.0)
    except pytest.fail.Exception:
        pytest.fail(f"not by {reasons}: before {all_before}, now {anchor_status(daemons)['refused']}")
    assert heard(stranger, 0.2) == []


def test_whoever_steals_a_fresh_datagram_gets_three_times_its_size_and_the_host_is_found_again(
    daemons: Daemons, lab: Lab, sockets: Sockets, flow: Flow
) -> None:
    """An attacker on the path holds a packet back and sends it from its own address: the highest counter so far."""
    outer = hosts(daemons)[HOST_NAME]["tunnels"]
    stranger = sockets.at("ch2")
    correspondent, client = sockets.at("ch", port=4001), sockets.at("mh")
    client.sendto(b"call", (CORRESPONDENT, 4001))
    _, caller = correspondent.recvfrom(100)
    with Capture(lab.namespace("nat0"), "in") as tap:
        lab.links["wifi"].set_silent(True)
        try:
            client.sendto(bytes(600), (CORRESPONDENT, 4001))
            time.sleep(0.1)
            stolen = to_the_anchor(tap)
            assert stolen
            newest = max(stolen, key=lambda datagram: datagram[4:8])
            stranger.sendto(newest, TUNNELS)
            for _ in range(20):
                correspondent.sendto(bytes(1000), caller)  # all of this would like to go where the host is now
            loot = heard(stranger, 1.5)
        finally:
            lab.links["wifi"].set_silent(False)
    assert sum(map(len, loot)) <= AMPLIFICATION * len(newest)
    flow.check()
    assert hosts(daemons)[HOST_NAME]["tunnels"] == outer


def test_a_flood_of_rubbish_takes_no_memory_and_gets_no_answer(daemons: Daemons, lab: Lab, sockets: Sockets) -> None:
    chance = random.Random(4)
    (sample, *_) = sealed_datagrams(daemons, 1)
    before = memory_kb(lab)
    strangers = [sockets.at("ch2") for _ in range(200)]
    for number in range(20_000):
        head = sample[:4] if number % 3 else bytes((0x80 | chance.randrange(128),)) + chance.randbytes(3)
        datagram = head + chance.randbytes(chance.choice((0, 1, 16, 21, 60, 400)))
        strangers[number % len(strangers)].sendto(datagram, TUNNELS)
        if number % 100 == 0:
            time.sleep(0.005)
    assert all(heard(stranger, 0.0) == [] for stranger in strangers)
    assert memory_kb(lab) - before < GROWTH_KB


# SIP over TLS.


def connected(sockets: Sockets) -> ssl.SSLSocket:
    plain = sockets.at("ch2", socket.SOCK_STREAM)
    plain.connect(SIP)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(plain)


RUBBISH = [
    b"\0" * 100_000,
    b"REGISTER " * 10_000,
    b"REGISTER sip:a SIP/2.0\r\n" + b"X: y\r\n" * 20_000,
    b"REGISTER sip:a SIP/2.0\r\nContent-Length: 99999999999\r\n\r\n" + b"x" * 100_000,
    b"REGISTER sip:a SIP/2.0\r\nContent-Length: -1\r\n\r\n",
    b"\r\n" * 50_000,
    b"SIP/2.0 200 OK\r\nVia: SIP/2.0/TLS a\r\n\r\n" * 100,
    bytes(range(256)) * 400,
]


@pytest.mark.parametrize("rubbish", RUBBISH, ids=lambda rubbish: repr(rubbish[:14]))
def test_rubbish_instead_of_sip_ends_its_own_connection_at_most(sockets: Sockets, rubbish: bytes) -> None:
    with contextlib.suppress(OSError), connected(sockets) as stranger:
        stranger.settimeout(2.0)
        stranger.sendall(rubbish)
        answered = 0
        while data := stranger.recv(65536):
            answered += len(data)
        assert answered <= len(rubbish)


def register(number: int, user: str, more: str = "") -> bytes:
    return (
        f"REGISTER sip:45.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TLS 192.0.2.1:5061;branch=z9hG4bK{number};TID=ab\r\n"
        f"From: <sip:{user}@45.0.0.1>;tag=1\r\nTo: <sip:{user}@45.0.0.1>\r\nCall-ID: {number}\r\n"
        f"CSeq: {number} REGISTER\r\nContact: <sip:x@192.0.2.1>\r\n{more}Content-Length: 0\r\n\r\n"
    ).encode()


def test_a_stranger_may_ask_so_often_and_is_told_nothing_about_users(daemons: Daemons, sockets: Sockets) -> None:
    wrong = 'Digest username="{}", realm="sojourn", nonce="0", uri="sip:45.0.0.1", response="{}", algorithm=SHA-256, ' \
            'cnonce="1", nc=00000001, qop=auth'  # fmt: skip
    told = []
    for user in (HOST_NAME, "nobody-of-that-name"):
        with connected(sockets) as stranger:
            stranger.settimeout(PATIENCE)
            stranger.sendall(register(1, user))
            assert stranger.recv(65536).startswith(b"SIP/2.0 401 ")
            stranger.sendall(register(2, user, f"Authorization: {wrong.format(user, '0' * 64)}\r\n"))
            told.append(stranger.recv(65536).split(b"\r\n")[0])
            with contextlib.suppress(OSError):
                for number in range(3, 100):
                    stranger.sendall(register(number, user))
                while stranger.recv(65536):
                    pass
    assert told[0] == told[1]
    assert laptop(daemons).status() == {} or hosts(daemons)[HOST_NAME]["state"] == "associated"


def test_strangers_on_many_connections_are_bounded_and_take_no_memory(
    daemons: Daemons, lab: Lab, sockets: Sockets
) -> None:
    before = memory_kb(lab)
    for _ in range(60):
        stranger = sockets.at("ch2", socket.SOCK_STREAM)
        stranger.settimeout(1.0)
        with contextlib.suppress(OSError):
            stranger.connect(SIP)
            stranger.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200))
    assert memory_kb(lab) - before < GROWTH_KB
    open_now = lab.run("an", "sh", "-c", "grep -c ' 01 ' /proc/net/tcp", check=False)
    assert int(open_now or 0) <= 16 + 4, "16 from one source, and the host's own"


# The control sockets, from inside.


@pytest.mark.parametrize("request_", [
    {"verb": "expose", "arguments": {"protocol": "tcp", "port": 99999, "public_port": 2222, "host": HOST_NAME}},
    {"verb": "expose", "arguments": {"protocol": "tcp", "port": 22, "public_port": -1, "host": HOST_NAME}},
    {"verb": "expose", "arguments": {"protocol": "tcp", "port": 22, "public_port": 0, "host": HOST_NAME}},
    {"verb": "expose", "arguments": {"protocol": "udp", "port": 22, "public_port": 1800, "host": HOST_NAME}},
    {"verb": "expose", "arguments": {"protocol": ["tcp"], "port": "22; drop", "public_port": 1, "host": HOST_NAME}},
    {"verb": "expose", "arguments": {}},
    {"verb": "expose", "arguments": {"protocol": "tcp", "port": 22, "public_port": 22, "host": {"a": 1}}},
    {"verb": "token", "arguments": {"name": "x\r\nVia: y"}},
    {"verb": "token", "arguments": {"name": ["a"]}},
    {"verb": "token", "arguments": {}},
    {"verb": "revoke", "arguments": {"name": "nobody"}},
    {"verb": "__init__", "arguments": {}},
    {"verb": "status", "arguments": [1]},
    {"verb": 7},
], ids=lambda request: str(request)[:60])  # fmt: skip
def test_a_bad_request_to_the_anchor_is_answered_by_one_error(daemons: Daemons, request_: dict[str, Any]) -> None:
    answer = ask(daemons.anchor_socket, json.dumps({"id": 1, "v": 1, **request_}).encode() + b"\n")
    assert answer.get("error"), answer
    assert "Traceback" not in str(answer)
    assert anchor_status(daemons)["state"] == "running"
    assert Client(str(daemons.anchor_socket)).call("exposed") == [], "nothing of it was kept"
    assert [row["name"] for row in Client(str(daemons.anchor_socket)).call("hosts")] == [HOST_NAME]


@pytest.mark.parametrize("request_", [
    {"verb": "handover", "arguments": {"to": "wifi", "flow": {"a": 1}}},
    {"verb": "handover", "arguments": {"to": ["wifi"], "all": True}},
    {"verb": "handover", "arguments": {"to": "nowhere", "all": True}},
    {"verb": "handover", "arguments": {"to": "wifi", "match": "-p " + "x" * 5000}},
    {"verb": "handover", "arguments": {}},
    {"verb": "up", "arguments": {"x": 1}, "more": []},
    {"verb": "nothing", "arguments": {}},
], ids=lambda request: str(request)[:60])  # fmt: skip
def test_a_bad_request_to_the_host_is_answered(daemons: Daemons, request_: dict[str, Any]) -> None:
    answer = ask(daemons.host_socket, json.dumps({"id": 1, "v": 1, **request_}).encode() + b"\n")
    assert answer.get("error") or request_["verb"] == "up", answer
    assert "Traceback" not in str(answer)


def test_lines_without_end_and_bytes_of_any_kind_do_not_stop_a_daemon(daemons: Daemons) -> None:
    for path in (daemons.host_socket, daemons.anchor_socket):
        for data in (b"x" * 3_000_000, b"\n" * 10_000, bytes(range(256)) * 100 + b"\n", b"[" * 100_000 + b"\n"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client, contextlib.suppress(OSError):
                client.settimeout(5.0)
                client.connect(str(path))
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                while client.recv(65536):
                    pass
        idle = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(80)]
        for one in idle:
            with contextlib.suppress(OSError):
                one.connect(str(path))
        for one in idle:
            one.close()

        def answers(path: Path = path) -> bool:
            with contextlib.suppress(ApiError):
                return bool(Client(str(path)).call("about"))
            return False

        eventually("it answers again", answers)


def ask(path: Path, line: bytes) -> dict[str, Any]:
    """Send one line and return the last answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(PATIENCE)
        client.connect(str(path))
        client.sendall(line)
        client.shutdown(socket.SHUT_WR)
        said = b""
        while chunk := client.recv(65536):
            said += chunk
    answer = json.loads(said.splitlines()[-1])
    assert isinstance(answer, dict)
    return answer
