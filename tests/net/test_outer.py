"""What carries the tunnels: IPv4 and IPv6, small path MTUs, and a host that slept.

    mh --- nat0 (wifi, IPv4) --------- core --- an     anchor.lab: 45.0.0.1, 2001:db8:45::1
      \\-- nat1 (ethernet, IPv6 only) --/  \\---- ch   86.0.0.1

A NAT that forgets is in test_nat.py, one family throughout in test_ipv6.py.
"""

import errno
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from sojourn.lab import namespaces
from sojourn.lab.daemons import Daemons
from sojourn.lab.topology import ETHERNET, WIFI, Lab, Topology
from tests.harness.standstill import Standstill
from tests.net import wire
from tests.net.capture import Capture
from tests.net.conftest import MakeLab
from tests.net.exchange import exchange
from tests.net.standing import PATIENCE, Sockets, eventually, name_the_anchor, processes_of

pytestmark = pytest.mark.net

CORRESPONDENT = "86.0.0.1"
ANCHOR_NAME = "anchor.lab"
SEALED = 24
"""Bytes of header and tag around an inner packet, beside IP and UDP."""
OVERHEAD = 20 + 8 + SEALED
SLEEP = float(os.environ.get("SOJOURN_TEST_SUSPEND", "20"))
AT_ONCE = 4.0
"""After 20 s TCP would try again by itself 5 s later."""
IP_MTU_DISCOVER, IP_MTU, PMTUDISC_DO = 10, 14, 2


@pytest.fixture
def sockets(request: pytest.FixtureRequest) -> Iterator[Sockets]:
    made = Sockets(request.getfixturevalue("daemons").lab)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def daemons(make_lab: MakeLab, prefix: str) -> Daemons:
    """Return daemons that are set up, not started."""
    access = (WIFI, replace(ETHERNET, ipv4=False, ipv6=True))
    lab = make_lab(Topology(prefix=prefix, access=access, ipv6=True))
    name_the_anchor(lab, ANCHOR_NAME)
    daemons = Daemons(lab)
    daemons.set_up(address=ANCHOR_NAME)
    daemons.configure("mh", order='["wifi", "ethernet-6"]')
    return daemons


def start(daemons: Daemons) -> None:
    daemons.start_anchor()
    daemons.start_host()
    daemons.wait_until("associated", lambda status: {row["name"] for row in status["networks"] if row["state"] == "up"}
                       == {"wifi", "ethernet-6"}, PATIENCE)  # fmt: skip


def data_of(tap: Capture, source: str, smallest: int) -> list[bytes]:
    """Return the large UDP packets that came from an address since the last call."""
    return [
        packet
        for packet in tap.read(0.1)
        if wire.protocol_of(packet) == wire.UDP
        and wire.address_of(packet, source=True) == source
        and len(packet) > smallest
    ]


def test_a_connection_goes_from_ipv4_to_ipv6_and_back(daemons: Daemons, sockets: Sockets) -> None:
    start(daemons)
    lab = daemons.lab
    server, client = sockets.at("ch", socket.SOCK_STREAM, port=9001), sockets.at("mh", socket.SOCK_STREAM)
    server.listen()
    client.connect((CORRESPONDENT, 9001))
    served, _ = server.accept()
    with (
        served, Capture(lab.namespace("mh"), "wifi") as wifi, Capture(lab.namespace("mh"), "ethernet") as ethernet,
    ):  # fmt: skip
        served.settimeout(PATIENCE)
        for network in ("ethernet-6", "wifi", "ethernet-6"):
            daemons.hand_over(network)
            wifi.read(0.1), ethernet.read(0.1)
            payload = os.urandom(1000)
            for sender, receiver in ((client, served), (served, client)):
                sender.sendall(payload)
                got = b""
                while len(got) < len(payload):
                    got += receiver.recv(2000)
                assert got == payload
            four, six = wifi.read(0.1), ethernet.read(0.1)
            carried = {packet[0] >> 4 for packet in (*four, *six) if len(packet) > len(payload)}
            assert carried == ({6} if network == "ethernet-6" else {4})


@pytest.fixture
def narrow(daemons: Daemons, request: pytest.FixtureRequest) -> int:
    """Let wifi's path carry no more than so many bytes, and tell nobody; return how many."""
    mtu: int = request.param
    make_narrow(daemons.lab, mtu)
    start(daemons)
    return mtu


def make_narrow(lab: Lab, mtu: int) -> None:
    """Give wifi's outer cable another MTU; whatever ICMP would say about it is lost."""
    black_hole = """table inet black_hole {
        chain c { type filter hook output priority 0; icmp type destination-unreachable drop; }
    }\n"""
    for role, interface in (("nat0", "out"), ("core", "nat0")):
        namespaces.ip(lab.namespace(role), [f"link set {interface} mtu {mtu}"])
        namespaces.run(lab.namespace(role), "nft", "-f", "-", stdin=black_hole)


def tunnel_mtu(daemons: Daemons, network: str) -> int | None:
    for row in daemons.status()["networks"]:
        if row["name"] == network and row["tunnel"] is not None:
            return int(row["tunnel"]["mtu"])
    return None


def mss_of(packet: bytes) -> int | None:
    """Return the MSS option of a SYN."""
    segment = wire.payload_of(packet)
    options = segment[20 : (segment[12] >> 4) * 4]
    while options:
        if options[0] == 2:
            return int.from_bytes(options[2:4], "big")
        options = options[1 if options[0] == 1 else max(options[1], 2) :] if options[0] else b""
    return None


@pytest.mark.parametrize("narrow", [1400], indirect=True)
def test_a_path_of_1400_bytes_is_measured_and_kept_to(daemons: Daemons, sockets: Sockets, narrow: int) -> None:
    lab, inner = daemons.lab, narrow - OVERHEAD
    eventually("the inner MTU is known", lambda: tunnel_mtu(daemons, "wifi") == inner)
    with (
        Capture(lab.namespace("nat0"), "in") as up, Capture(lab.namespace("an"), "eth0") as down,
        Capture(lab.namespace("ch"), "eth0") as at_correspondent,
    ):  # fmt: skip
        assert exchange(sockets, CORRESPONDENT, 9002, up_bytes=500_000, down_bytes=500_000).whole
        seen = [packet for packet in at_correspondent.read(0.1) if wire.protocol_of(packet) == wire.TCP]
        syns = [packet for packet in seen if wire.payload_of(packet)[13] & 0x12 == 2]
        sealed = data_of(up, "192.168.100.25", 1000) + data_of(down, "45.0.0.1", 1000)
    assert [mss_of(packet) for packet in syns] == [inner - 40]
    assert len(sealed) > 20
    for packet in sealed:
        assert packet[6] & 0x40, "DF is set"
        assert not packet[6] & 0x3F, "and it is no fragment"
    _assert_applications_learn(sockets, inner)


@pytest.mark.parametrize("narrow", [1280], indirect=True)
def test_a_path_of_1280_bytes_carries_the_least_ipv6_mtu_in_fragments(
    daemons: Daemons, sockets: Sockets, narrow: int
) -> None:
    lab, inner = daemons.lab, 1280
    eventually("the inner MTU is IPv6's least", lambda: tunnel_mtu(daemons, "wifi") == inner)
    with Capture(lab.namespace("nat0"), "out") as up, Capture(lab.namespace("an"), "eth0") as down:
        for address in (CORRESPONDENT, "2001:db8:86::1"):
            assert exchange(sockets, address, 9003, up_bytes=200_000, down_bytes=200_000).whole
        fragments = [packet for packet in (*up.read(0.1), *down.read(0.1)) if packet[6] & 0x20]
    assert fragments, "what is larger than the path goes in pieces"
    assert not any(packet[6] & 0x40 for packet in fragments)
    _assert_applications_learn(sockets, inner)


def _assert_applications_learn(sockets: Sockets, inner: int) -> None:
    """Send what fits the device and not the path: the kernel learns the path's MTU, and says so."""
    server, client = sockets.at("ch", port=9004), sockets.at("mh")
    client.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_DO)
    client.connect((CORRESPONDENT, 9004))

    def told() -> bool:
        try:
            client.send(bytes(inner - 28 + 1))
        except OSError as error:
            return error.errno == errno.EMSGSIZE
        return False

    eventually("too large, says the kernel", told)
    assert client.getsockopt(socket.IPPROTO_IP, IP_MTU) == inner

    def fits() -> bool:
        try:
            return client.send(bytes(inner - 28)) > 0
        except OSError:  # what was told of the datagrams before it
            return False

    eventually("what fits is taken", fits)
    assert len(server.recv(2000)) == inner - 28


def test_tcp_survives_a_path_that_becomes_narrow_under_it(daemons: Daemons, sockets: Sockets) -> None:
    start(daemons)
    lab = daemons.lab
    eventually("the path was measured", lambda: tunnel_mtu(daemons, "wifi") == 1428)
    lab.links["wifi"].set_rate(20.0)
    results: list[bool] = []

    def transfer() -> None:
        results.append(exchange(sockets, CORRESPONDENT, 9005, up_bytes=4_000_000, down_bytes=1000).whole)

    thread = threading.Thread(target=transfer)
    thread.start()
    time.sleep(0.7)
    make_narrow(lab, 1400)
    assert thread.is_alive(), "the path changed during the transfer"
    thread.join(120.0)
    assert results == [True]
    assert tunnel_mtu(daemons, "wifi") == 1400 - OVERHEAD


def test_flows_go_on_at_once_when_a_sleeping_host_wakes_up(daemons: Daemons, sockets: Sockets) -> None:
    start(daemons)
    lab = daemons.lab
    server, client = sockets.at("ch", socket.SOCK_STREAM, port=9006), sockets.at("mh", socket.SOCK_STREAM)
    server.listen()
    client.connect((CORRESPONDENT, 9006))
    served, _ = server.accept()
    talking, listening = sockets.at("mh"), sockets.at("ch", port=9007)
    talking.connect((CORRESPONDENT, 9007))
    talking.send(b"call")
    _, caller = listening.recvfrom(100)
    with served:
        served.settimeout(PATIENCE)
        client.sendall(b"before")
        assert served.recv(100) == b"before"
        asleep = processes_of(lab, "mh")
        namespaces.send_signal(asleep, signal.SIGSTOP)
        for link in lab.links.values():
            link.forget_mappings()
        served.sendall(b"for the sleeper")  # and the host's TCP has something to say, too
        client.sendall(b"from the sleeper")
        until = time.monotonic() + SLEEP
        while time.monotonic() < until:
            listening.sendto(b"are you there?", caller)
            time.sleep(0.5)
        assert not select.select([client, served], [], [], 0)[0], "all of the host slept"
        with Standstill() as stood:
            namespaces.send_signal(asleep, signal.SIGCONT)
            woken = time.monotonic()
            assert client.recv(100) == b"for the sleeper"
            assert served.recv(100) == b"from the sleeper"
            taken = stood.without(woken, time.monotonic())
        assert taken < AT_ONCE, "TCP's own timers have grown beyond that"
        while (data := talking.recv(100)) != b"now":  # the newest datagram was kept, and the way is open again
            assert data == b"are you there?"
            listening.sendto(b"now", caller)
        for sock in (client, served, talking):
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
