r"""The splice where it is hard: both families, narrow links, no ports left, killed with a hundred sessions, idle ones.

mh (clients) --- nat0, nat1 --- core --- an (sojourn anchor --only socks, spliced by its kernel)
                                      \-- ch (correspondents)

Core, anchor, correspondent and the first network have IPv6, too. After each test the proxy holds no descriptor, the
kernel no socket and no tuple of a session that is over (but for those in TIME-WAIT, which it counts).
"""

import random
import socket
import struct
import sys
import time
from collections.abc import Iterator

import msgspec
import pytest

from sojourn.lab import namespaces
from sojourn.lab.topology import CELLULAR, WIFI, Topology
from sojourn.linux import bpf_pin, tcp_state
from sojourn.msocks.frames import Status
from sojourn.msocks.socks5 import Address, Code, Command, Request
from tests.net.socks_lab import PROXY_PORT, SocksLab, exactly
from tests.net.socks_remains import key, memory, sockets, tuples
from tests.net.standing import PATIENCE, eventually, own_prefix, standing
from tests.net.test_socks_clients import account, answered, descriptors, set_up
from tests.net.test_splice import carry, packets

pytestmark = pytest.mark.net
PORT = 9300
MANY = 100
NARROW = 1300
families = pytest.mark.parametrize("six", [False, True], ids=["ipv4", "ipv6"])


@pytest.fixture(scope="module")
def place() -> Iterator[SocksLab]:
    wifi = msgspec.structs.replace(WIFI, ipv6=True)
    with standing(Topology(prefix=own_prefix(), access=(wifi, CELLULAR), ipv6=True)) as lab:
        socks = SocksLab(lab)
        socks.set_up('anonymous = ["0.0.0.0/0", "::/0"]\nsessions = 400\nhold = 600.0')
        socks.start_proxy()
        status = socks.proxy_status()
        assert (status["mode"], status["why"]) == ("splice", "[socks] splice = true"), "nobody has asked for it"
        yield socks
        assert socks.proxy is not None
        socks.proxy.stop(PATIENCE)
        assert not list(bpf_pin.place().glob(f"sojourn-*-{key(socks)}/*")), "a clean stop leaves nothing pinned"


def addresses(place: SocksLab, six: bool) -> tuple[str, str]:
    """Return the proxy's address and the correspondent's."""
    sites = place.lab.topology.anchor, place.lab.topology.correspondent
    proxy, correspondent = (site.address6 if six else site.address for site in sites)
    return proxy, correspondent


@pytest.fixture
def listening(place: SocksLab) -> Iterator[socket.socket]:
    def make() -> socket.socket:
        return socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True, backlog=256)

    before = descriptors(place)
    with namespaces.inside(place.lab.namespace("ch"), make) as made:
        made.settimeout(PATIENCE)
        yield made
    eventually("no session is left", lambda: not place.proxy_status()["sessions"])
    eventually("no descriptor is left", lambda: descriptors(place) <= before)
    lingering = place.proxy_status()["splice"]["lingering"]
    assert tuples(place) <= 2 * lingering
    eventually("no socket is left", lambda: sockets(place) <= place.lingering())


class Call:
    """A plain client's connection through the proxy, and the correspondent's end of it."""

    def __init__(self, place: SocksLab, listening: socket.socket, *, six: bool = False) -> None:
        self.client, code = asked(place, six=six)
        assert code == Code.SUCCEEDED
        self.far, _ = listening.accept()
        self.far.settimeout(PATIENCE)
        for one, other in ((self.client, self.far), (self.far, self.client)):
            one.sendall(b"x")
            assert exactly(other, 1) == b"x"

    def close(self) -> None:
        """End it at once, so that no place stays taken for TIME-WAIT."""
        tcp_state.reset(self.client)
        self.far.close()


def asked(place: SocksLab, *, six: bool = False) -> tuple[socket.socket, int]:
    """Ask the proxy for the correspondent; return the connection and the code."""
    proxy, correspondent = addresses(place, six)
    sock = dialled(place, proxy)
    where = socket.inet_pton(socket.AF_INET6 if six else socket.AF_INET, correspondent) + struct.pack("!H", PORT)
    sock.sendall(b"\5\1\0" + b"\5\1\0" + (b"\4" if six else b"\1") + where)
    head = exactly(sock, 6)
    exactly(sock, 18 if head[5] == 4 else 6)
    return sock, head[3]


def dialled(place: SocksLab, proxy: str) -> socket.socket:
    dial = lambda: socket.create_connection((proxy, PROXY_PORT), PATIENCE)  # noqa: E731
    return namespaces.inside(place.lab.namespace("mh"), dial)


def spliced(place: SocksLab) -> int:
    return int(place.proxy_status()["splice"]["sessions"])


@families
def test_both_ways_of_a_session_are_narrowed_after_it_has_begun(
    place: SocksLab, listening: socket.socket, six: bool
) -> None:
    call = Call(place, listening, six=six)
    assert spliced(place) == 1
    for finish in carry(call.far, call.client, 400_000, 1), carry(call.client, call.far, 400_000, 2):
        finish()
    core, told = place.lab.namespace("core"), packets(place, "translated")
    for device, source, sink in (("nat0", call.far, call.client), ("ch", call.client, call.far)):
        namespaces.ip(core, [f"link set {device} mtu {NARROW}"])
        try:
            carry(source, sink, 300_000, 3)()
            assert packets(place, "translated") > told, "a router's word has gone to who had sent the packet"
            told = packets(place, "translated")
        finally:
            namespaces.ip(core, [f"link set {device} mtu 1500"])
    call.close()


@pytest.mark.parametrize(("before", "after"), [(False, True), (True, False)], ids=["4 to 6", "6 to 4"])
def test_a_session_goes_on_over_a_network_of_the_other_family(
    place: SocksLab, listening: socket.socket, before: bool, after: bool
) -> None:
    leg = dialled(place, addresses(place, before)[0])
    to = Address(addresses(place, before)[1], PORT)
    machine, replied = set_up(leg, account(place), Request(Command.CONNECT, to))
    far, _ = listening.accept()
    far.settimeout(PATIENCE)
    leg.sendall(b"hello")
    assert exactly(far, 5) == b"hello"
    far.sendall(b"and you")
    assert exactly(leg, 7) == b"and you"
    assert spliced(place) == 1
    refused = place.proxy_status()["refused"].get("not spliced: families", 0)
    tcp_state.reset(leg)
    far.sendall(b"nobody is there")
    back = dialled(place, addresses(place, after)[0])
    resumed = answered(back, machine.key, replied.session, 1, 7).resumed
    assert (resumed.status, resumed.received) == (Status.RESUMED, 5)
    assert spliced(place) == 0
    assert place.proxy_status()["refused"]["not spliced: families"] == refused + 1
    assert exactly(back, 15) == b"nobody is there"
    for finish in [carry(back, far, 500_000, 4), carry(far, back, 500_000, 5)]:
        finish()
    far.shutdown(socket.SHUT_WR)
    assert back.recv(1) == b""
    back.close()
    assert far.recv(1) == b""
    far.close()


@families
def test_a_reset_in_mid_stream_reaches_the_client_at_once(place: SocksLab, listening: socket.socket, six: bool) -> None:
    call = Call(place, listening, six=six)
    call.far.setblocking(False)
    call.far.send(bytes(4_000_000))
    exactly(call.client, 10_000)
    tcp_state.reset(call.far)
    with pytest.raises(ConnectionResetError):
        while call.client.recv(1 << 20):
            pass
    call.client.close()


def test_a_killed_proxy_leaves_a_hundred_sessions_running_and_the_next_one_has_them(
    place: SocksLab, listening: socket.socket
) -> None:
    calls = [Call(place, listening, six=index % 2 == 1) for index in range(MANY)]
    assert spliced(place) == MANY
    place.kill_proxy()
    speak(calls, b"killed")
    place.start_proxy()
    assert (place.proxy_status()["sessions"], spliced(place)) == (MANY, MANY)
    speak(calls, b"adopted")
    before = memory(place.proxy)
    for call in calls:
        call.close()
    eventually("all are over", lambda: not place.proxy_status()["sessions"])
    for call in [Call(place, listening) for _ in range(MANY // 4)]:
        call.close()
    eventually("all are over", lambda: not place.proxy_status()["sessions"])
    assert memory(place.proxy) < before + 1_000_000, "more of them take no more"


def speak(calls: list[Call], word: bytes) -> None:
    """Say something in both directions of all; in any order."""
    for call in random.Random(1).sample(calls, len(calls)):
        call.client.sendall(word)
        call.far.sendall(word[::-1])
    for call in calls:
        assert (exactly(call.far, len(word)), exactly(call.client, len(word))) == (word, word[::-1])


def test_where_the_proxy_has_no_port_left_the_client_is_told_and_nothing_leaks(
    place: SocksLab, listening: socket.socket
) -> None:
    anchor, kept = place.lab.namespace("an"), []
    usual = namespaces.run(anchor, "sysctl", "-n", "net.ipv4.ip_local_port_range").split()
    namespaces.sysctl(anchor, net__ipv4__ip_local_port_range="50000 50003")
    try:
        kept = [Call(place, listening) for _ in range(4)]
        sock, code = asked(place)
        sock.close()
        assert code == Code.FAILURE
        assert place.proxy_status()["refused"]["no port left"] == 1
        speak(kept, b"the others go on")
    finally:
        namespaces.sysctl(anchor, net__ipv4__ip_local_port_range=" ".join(usual))
    for call in kept:
        call.close()


def test_urgent_bytes_stay_in_their_place_while_the_client_moves(place: SocksLab, listening: socket.socket) -> None:
    place.start_client()
    app = place.connect(Address(addresses(place, False)[1], PORT)).sock
    app.settimeout(PATIENCE)
    far, _ = listening.accept()
    far.settimeout(PATIENCE)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    networks = sorted(place.up())
    sent = {app: b"", far: b""}
    for turn in range(6):
        for one in (app, far):
            for word, flags in ((b"before", 0), (b"!", socket.MSG_OOB), (b"after", 0)):
                one.send(word + bytes([turn]), flags)
                sent[one] += word + bytes([turn])
        place.move(networks[turn % 2])
        time.sleep(0.02 * turn)
    assert exactly(far, len(sent[app])) == sent[app]
    assert exactly(app, len(sent[far])) == sent[far]
    assert spliced(place) == 1
    app.close()
    far.close()
    assert place.client is not None
    place.client.stop(PATIENCE)


def test_idle_sessions_end_and_say_so(place: SocksLab, listening: socket.socket) -> None:
    assert place.proxy is not None
    calls = [Call(place, listening, six=six) for six in (False, True)]
    place.kill_proxy()
    config = place.anchor_folder / "anchor.toml"
    text = config.read_text()
    config.write_text(text.replace("hold = 600.0", "hold = 600.0\nidle = 1.0"))
    try:
        place.start_proxy()
        for call in calls:
            for end in (call.client, call.far):
                with pytest.raises(ConnectionResetError):
                    end.recv(1)
                end.close()
    finally:
        config.write_text(text)
    assert place.proxy_status()["refused"]["idle"] == 2


def test_a_proxy_without_rights_relays_and_says_why_in_one_line(place: SocksLab) -> None:
    assert place.proxy is not None
    place.proxy.stop(PATIENCE)
    anchor = [sys.executable, "-m", "sojourn", "anchor", "--only", "socks", "--config-dir", str(place.anchor_folder),
              "--socket", str(place.proxy_socket)]  # fmt: skip
    weak = place.lab.start("an", "weak", ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *anchor])
    weak.wait_for("ready", PATIENCE)
    status = place.proxy_status()
    assert (status["mode"], status["splice"]) == ("relay", None)
    assert status["why"].startswith("[socks] splice = true, but the kernel does not let us: operation not permitted")
    said = [line for line in weak.output().splitlines() if "does not let us" in line]
    assert len(said) == 1
    weak.stop(PATIENCE)
    place.start_proxy()
