r"""The splice: one TCP connection from the client to the correspondent, whatever becomes of the proxy between them.

mh (clients) --- nat0, nat1 --- core --- an (sojourn anchor --only socks, spliced by its kernel)
                                      \-- ch (correspondents)
"""

import hashlib
import os
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from sojourn.lab import namespaces
from sojourn.lab.topology import Topology
from sojourn.linux import bpf_pin, tcp_state
from sojourn.msocks.frames import Status
from sojourn.msocks.socks5 import Address, Command, Request
from tests.net.socks_lab import PROXY_PORT, SocksLab, exactly
from tests.net.socks_remains import key
from tests.net.standing import PATIENCE, eventually, own_prefix, standing
from tests.net.test_socks_clients import account, answered, dial, set_up

pytestmark = pytest.mark.net
PORT = 9200
RETRANSMITTED_AT = 100
"""tcpi_total_retrans in struct tcp_info."""


@pytest.fixture(scope="module")
def place() -> Iterator[SocksLab]:
    with standing(Topology(prefix=own_prefix())) as lab:
        socks = SocksLab(lab)
        socks.set_up('anonymous = ["0.0.0.0/0"]\nsessions = 40\nhold = 600.0\nsplice = true')
        socks.start_proxy()
        status = socks.proxy_status()
        assert status["mode"] == "splice", status["why"]
        yield socks
        assert socks.proxy is not None
        socks.proxy.stop(PATIENCE)
        assert not list(bpf_pin.place().glob(f"sojourn-*-{key(socks)}/*")), "a clean stop leaves nothing pinned"


@pytest.fixture
def listening(place: SocksLab) -> Iterator[socket.socket]:
    def make() -> socket.socket:
        return socket.create_server(("0.0.0.0", PORT), backlog=64)

    with namespaces.inside(place.lab.namespace("ch"), make) as made:
        made.settimeout(PATIENCE)
        yield made
    eventually("no session is left", lambda: not place.proxy_status()["sessions"])


class Call:
    """A plain client's connection through the proxy, and the correspondent's end of it."""

    def __init__(
        self, place: SocksLab, listening: socket.socket, *, receive: int = 0, spliced: bool | None = True
    ) -> None:
        def make() -> socket.socket:
            sock = socket.socket()
            if receive:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
            sock.settimeout(PATIENCE)
            sock.connect((place.lab.topology.anchor.address, PROXY_PORT))
            return sock

        before = packets(place)
        self.client = namespaces.inside(place.lab.namespace("mh"), make)
        where = socket.inet_aton(place.lab.topology.correspondent.address) + struct.pack("!H", PORT)
        self.client.sendall(b"\5\1\0" + b"\5\1\0\1" + where)
        assert exactly(self.client, 12)[3] == 0
        self.far, _ = listening.accept()
        self.far.settimeout(PATIENCE)
        self.client.sendall(b"x")
        assert self.far.recv(1) == b"x"
        self.spliced = packets(place) > before
        assert spliced in (None, self.spliced)

    def close(self) -> None:
        for sock in (self.client, self.far):
            sock.close()


def packets(place: SocksLab, what: str = "forwarded") -> int:
    return int(place.proxy_status()["splice"]["packets"][what])


def carry(source: socket.socket, sink: socket.socket, size: int, seed: int, pace: float = 0.0) -> Callable[[], None]:
    """Begin to send random bytes; return what waits until all have come, and are right."""
    data, seen = random.Random(seed).randbytes(size), hashlib.sha256()

    def send() -> None:
        for at in range(0, size, 65536):
            source.sendall(data[at : at + 65536])
            time.sleep(pace)

    def take() -> None:
        seen.update(exactly(sink, size))

    threads = [threading.Thread(target=work, daemon=True) for work in (send, take)]
    for thread in threads:
        thread.start()

    def finish() -> None:
        for thread in threads:
            thread.join(PATIENCE)
        assert seen.digest() == hashlib.sha256(data).digest(), "bytes are wrong, or missing"

    return finish


def retransmitted(sock: socket.socket) -> int:
    (number,) = struct.unpack_from("=I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 152), RETRANSMITTED_AT)
    return int(number)


def acknowledged(sock: socket.socket, written: int) -> int:
    return written - tcp_state.unacknowledged(sock)


def test_the_client_s_acknowledgements_alone_release_the_correspondent_s_window(
    place: SocksLab, listening: socket.socket
) -> None:
    call, size = Call(place, listening, receive=65536), 2_000_000
    call.far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8_000_000)
    call.far.setblocking(False)
    written = call.far.send(bytes(size))
    call.far.setblocking(True)
    time.sleep(1.0)
    had = acknowledged(call.far, written)
    assert had <= 2 * 65536, "no more than the client's own buffer takes"
    time.sleep(0.5)
    assert acknowledged(call.far, written) == had, "nobody else takes anything"
    assert exactly(call.client, written) == bytes(written)
    eventually("all is acknowledged", lambda: acknowledged(call.far, written) == written)
    call.close()


def test_what_the_client_loses_the_correspondent_sends_again(place: SocksLab, listening: socket.socket) -> None:
    call = Call(place, listening)
    client, proxy = place.lab.namespace("mh"), place.lab.namespace("an")
    hook = "type filter hook prerouting priority -400; ip length > 1000 numgen random mod 100 < 15 drop;"
    rules = f"table ip loses {{ chain in {{ {hook} }}; }}"
    before = counter(proxy)
    namespaces.run(client, "nft", "-f", "-", stdin=rules + "\n")
    try:
        carry(call.far, call.client, 3_000_000, 5)()
    finally:
        namespaces.run(client, "nft", "delete table ip loses")
    assert retransmitted(call.far) > 0
    assert counter(proxy) == before, "the proxy's own TCP had nothing to do with it"
    call.close()


def counter(namespace: str) -> int:
    lines = [line.split() for line in namespaces.run(namespace, "cat", "/proc/net/snmp").splitlines()
             if line.startswith("Tcp:")]  # fmt: skip
    return int(lines[1][lines[0].index("RetransSegs")])


def test_either_side_may_finish_first_and_urgent_bytes_pass(place: SocksLab, listening: socket.socket) -> None:
    call = Call(place, listening)
    call.far.sendall(b"half")
    call.far.shutdown(socket.SHUT_WR)
    assert exactly(call.client, 4) == b"half"
    assert call.client.recv(1) == b""
    call.client.sendall(b"the other half")
    assert exactly(call.far, 14) == b"the other half"
    call.client.send(b"!", socket.MSG_OOB)
    eventually("the urgent byte is there", lambda: peek_urgent(call.far) == b"!")
    call.client.shutdown(socket.SHUT_WR)
    assert call.far.recv(10) == b""
    eventually("it is over", lambda: not place.proxy_status()["sessions"])
    call.close()


def peek_urgent(sock: socket.socket) -> bytes:
    sock.setblocking(False)  # an urgent byte makes nothing readable: with a timeout we would wait for that
    try:
        return sock.recv(1, socket.MSG_OOB)
    except OSError:
        return b""
    finally:
        sock.settimeout(PATIENCE)


def test_a_killed_proxy_leaves_connections_running_and_the_next_one_has_them(
    place: SocksLab, listening: socket.socket
) -> None:
    call = Call(place, listening)
    down = carry(call.far, call.client, 4_000_000, 6, 0.03)
    place.kill_proxy()
    up = carry(call.client, call.far, 1_000_000, 7, 0.03)
    up()
    down()
    place.start_proxy()
    status = place.proxy_status()
    assert (status["sessions"], status["splice"]["sessions"]) == (1, 1)
    carry(call.far, call.client, 1_000_000, 8)()
    call.close()


@pytest.mark.parametrize("by", ["client", "far"])
def test_a_reset_reaches_the_other_side_and_ends_the_session(
    place: SocksLab, listening: socket.socket, by: str
) -> None:
    call = Call(place, listening)
    one, other = (call.client, call.far) if by == "client" else (call.far, call.client)
    tcp_state.reset(one)
    with pytest.raises(ConnectionResetError):
        other.recv(1)
    eventually("it is over", lambda: not place.proxy_status()["sessions"])
    other.close()


def test_without_a_leg_the_correspondent_waits_at_a_window_of_zero(place: SocksLab, listening: socket.socket) -> None:
    leg = dial(place)
    to = Address(place.lab.topology.correspondent.address, PORT)
    machine, replied = set_up(leg, account(place), Request(Command.CONNECT, to))
    far, _ = listening.accept()
    leg.sendall(b"hello")
    assert exactly(far, 5) == b"hello"
    tcp_state.reset(leg)
    eventually("the session waits", lambda: place.proxy_status()["waiting"] == 1)
    before = packets(place, "zero window")
    far.sendall(b"nobody is there")
    eventually("it is told to wait", lambda: packets(place, "zero window") > before)
    time.sleep(0.7)
    assert tcp_state.progress(far).state == tcp_state.ESTABLISHED
    assert tcp_state.unacknowledged(far) == 15
    back = dial(place)
    resumed = answered(back, machine.key, replied.session, 1, 0)
    assert (resumed.resumed.status, resumed.resumed.received) == (Status.RESUMED, 5)
    back.settimeout(PATIENCE)
    assert exactly(back, 15) == b"nobody is there"
    back.sendall(b" but now")
    assert exactly(far, 8) == b" but now"
    for bad, generation in ((machine.key, 1), (bytes(32), 2)):
        with dial(place) as intruder:
            status = answered(intruder, bad, replied.session, generation, 0).resumed.status
            assert status in (Status.STALE, Status.UNKNOWN)
    back.sendall(b"!")
    assert exactly(far, 1) == b"!"
    back.shutdown(socket.SHUT_WR)
    assert far.recv(1) == b""
    far.close()
    assert back.recv(1) == b""
    back.close()


def test_a_session_that_comes_back_on_a_leg_that_cannot_be_spliced_is_relayed(
    place: SocksLab, listening: socket.socket
) -> None:
    leg, client = dial(place), place.lab.namespace("mh")
    to = Address(place.lab.topology.correspondent.address, PORT)
    machine, replied = set_up(leg, account(place), Request(Command.CONNECT, to))
    far, _ = listening.accept()
    far.settimeout(PATIENCE)
    leg.settimeout(PATIENCE)
    leg.sendall(b"hello")
    assert exactly(far, 5) == b"hello"
    far.sendall(b"and you")
    assert exactly(leg, 7) == b"and you"
    tcp_state.reset(leg)
    eventually("the session waits", lambda: place.proxy_status()["waiting"] == 1)
    far.sendall(b"nobody is there")
    namespaces.run(client, "sysctl", "-w", "net.ipv4.tcp_timestamps=0")
    try:
        back = dial(place)
    finally:
        namespaces.run(client, "sysctl", "-w", "net.ipv4.tcp_timestamps=1")
    resumed = answered(back, machine.key, replied.session, 1, 7).resumed
    assert (resumed.status, resumed.received) == (Status.RESUMED, 5)
    back.settimeout(PATIENCE)
    status = place.proxy_status()
    assert (status["sessions"], status["splice"]["sessions"]) == (1, 0)
    assert status["refused"]["not spliced: timestamps"] == 1
    assert exactly(back, 15) == b"nobody is there"
    both = carry(back, far, 2_000_000, 10), carry(far, back, 2_000_000, 11)
    for finish in both:
        finish()
    place.kill_proxy()
    place.start_proxy()
    carry(back, far, 300_000, 12)()
    tcp_state.reset(back)
    again = dial(place)
    resumed = answered(again, machine.key, replied.session, 2, 2_000_022).resumed
    assert (resumed.status, resumed.received) == (Status.RESUMED, 2_300_005)
    again.settimeout(PATIENCE)
    far.sendall(b"bye")
    far.shutdown(socket.SHUT_WR)
    assert exactly(again, 3) == b"bye"
    assert again.recv(1) == b""
    again.close()
    assert far.recv(1) == b""
    far.close()


def test_where_there_is_no_room_sessions_are_relayed(place: SocksLab, listening: socket.socket) -> None:
    before = place.proxy_status()["refused"].get("not spliced: map full", 0)
    for _ in range(80):  # those that have ended keep their places for a minute
        call = Call(place, listening, spliced=None)
        if not call.spliced:
            break
        call.client.close()
        assert call.far.recv(1) == b""
        call.far.close()
    assert not call.spliced
    carry(call.far, call.client, 300_000, 9)()
    assert place.proxy_status()["refused"]["not spliced: map full"] > before
    call.close()


def test_the_environment_turns_it_off_and_the_proxy_says_so(place: SocksLab) -> None:
    assert place.proxy is not None
    place.proxy.stop(PATIENCE)
    os.environ["SOJOURN_SPLICE"] = "off"
    try:
        place.start_proxy()
    finally:
        del os.environ["SOJOURN_SPLICE"]
    status = place.proxy_status()
    assert (status["mode"], status["why"], status["splice"]) == ("relay", "SOJOURN_SPLICE=off", None)
