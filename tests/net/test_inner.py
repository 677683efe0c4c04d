"""What goes through a sealed tunnel: both IP versions, every protocol, errors on their way back, and what is refused.

    mh (laptop) ---- nat0 (wifi, IPv4 only) ---- core ---- an      anchor: 45.0.0.1, 2001:db8:45::1
                                                  | \\----- ch      correspondent: 86.0.0.1, 2001:db8:86::1
    ch2 (tablet, the second mobile host) -- natc -/

TTL: the tunnel is one hop of the host's own; anchor and core are routers.
"""

import contextlib
import errno
import random
import select
import socket
import struct
from collections.abc import Iterator

import pytest

from sojourn.api.client import Client
from sojourn.lab.daemons import Daemons
from sojourn.lab.topology import WIFI, Lab, Topology
from tests.net import wire
from tests.net.capture import Capture, compute_checksums
from tests.net.exchange import exchange
from tests.net.standing import Sockets, Terminal, eventually, own_prefix, sojourn_at, standing

pytestmark = pytest.mark.net

CORRESPONDENT = {False: "86.0.0.1", True: "2001:db8:86::1"}
ANCHOR = {False: "45.0.0.1", True: "2001:db8:45::1"}
CORE = {False: "45.0.0.254", True: "2001:db8:45::fe"}
ROUTERS = 2
FAMILIES = pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])

IP_TTL, IP_RECVERR, IPV6_UNICAST_HOPS, IPV6_RECVERR = 2, 11, 16, 25
EXPERIMENT = 253
"""RFC 3692's protocol number for experiments."""


@pytest.fixture(scope="module")
def daemons() -> Iterator[Daemons]:
    with standing(Topology(prefix=own_prefix(), access=(WIFI,), ipv6=True)) as lab:
        for role, interface in (("core", "ch"), ("ch", "eth0")):
            compute_checksums(lab.namespace(role), interface)
        daemons = Daemons(lab)
        daemons.set_up()
        daemons.start()
        yield daemons


@pytest.fixture(scope="module")
def lab(daemons: Daemons) -> Lab:
    return daemons.lab


@pytest.fixture(scope="module")
def tablet(daemons: Daemons) -> Terminal:
    """Return a second mobile host of the same anchor."""
    made = sojourn_at(daemons.lab, "an", "anchor", "token", "--name", "tablet", "--socket", str(daemons.anchor_socket),
                      "--config-dir", str(daemons.anchor_folder))  # fmt: skip
    terminal = Terminal(daemons.lab, "tablet", "ch2")
    assert terminal.join(made.stdout.strip()).returncode == 0
    terminal.start()
    terminal.until_associated()
    return terminal


@pytest.fixture
def sockets(lab: Lab) -> Iterator[Sockets]:
    made = Sockets(lab)
    try:
        yield made
    finally:
        made.close()


def vipa(daemons: Daemons, *, six: bool = False) -> str:
    return str(daemons.status()["vipa6" if six else "vipa"])


def refused(daemons: Daemons) -> dict[str, int]:
    """Return what the anchor has refused, by reason."""
    answer = Client(str(daemons.anchor_socket)).call("status")
    return dict(answer["refused"])


def drops(lab: Lab) -> int:
    """Return how many packets the anchor's own firewall table has dropped."""
    text = lab.run("an", "nft", "list", "table", "inet", "sojourn_anchor")
    return sum(int(line.split("packets ")[1].split()[0]) for line in text.splitlines() if "counter packets" in line)


def received_by(capture: Capture, address: str, protocol: int) -> list[bytes]:
    """Return the captured packets that went to an address."""
    return [
        packet
        for packet in capture.read(0.1)
        if wire.protocol_of(packet) == protocol and wire.address_of(packet, source=False) == address
    ]


@FAMILIES
def test_tcp_carries_megabytes_both_ways_and_every_checksum_is_right(lab: Lab, sockets: Sockets, six: bool) -> None:
    with Capture(lab.namespace("ch"), "eth0") as tap:
        done = exchange(sockets, CORRESPONDENT[six], 5001)
        segments = received_by(tap, CORRESPONDENT[six], wire.TCP)
    assert done == (ANCHOR[six], True)
    assert len(segments) > 100
    assert all(wire.is_right(segment) for segment in segments)
    assert {wire.ttl_of(segment) for segment in segments} == {64 - ROUTERS}


@FAMILIES
def test_udp_datagrams_of_every_size_come_and_go_unchanged(lab: Lab, sockets: Sockets, six: bool) -> None:
    sizes = (0, 1, 7, 508, 1200, 1201, 1372, 1399)
    server, client = sockets.at("ch", six=six, port=5002), sockets.at("mh", six=six)
    client.connect((CORRESPONDENT[six], 5002))
    with Capture(lab.namespace("ch"), "eth0") as tap:
        for size in sizes:
            payload = random.Random(size).randbytes(size)
            client.send(payload)
            data, peer = server.recvfrom(4096)
            assert (data, peer[0]) == (payload, ANCHOR[six])
            server.sendto(data[::-1], peer)
            assert client.recv(4096) == payload[::-1]
        seen = received_by(tap, CORRESPONDENT[six], wire.UDP)
    assert len(seen) == len(sizes)
    assert all(wire.is_right(datagram) for datagram in seen)
    assert {wire.ttl_of(datagram) for datagram in seen} == {64 - ROUTERS}


@FAMILIES
def test_a_datagram_larger_than_any_packet_arrives_in_fragments(sockets: Sockets, six: bool) -> None:
    server, client = sockets.at("ch", six=six, port=5003), sockets.at("mh", six=six)
    payload = random.Random(3).randbytes(8000)
    client.sendto(payload, (CORRESPONDENT[six], 5003))
    data, peer = server.recvfrom(1 << 16)
    assert data == payload
    for _ in range(20):
        server.sendto(payload[::-1], peer)
        if select.select([client], [], [], 1.0)[0]:
            break  # An IPv6 router does not fragment: the first ones made it say "packet too big".
    assert client.recv(1 << 16) == payload[::-1]


@FAMILIES
def test_echo_requests_are_answered(lab: Lab, six: bool) -> None:
    said = lab.run("mh", "ping", "-c", "3", "-i", "0.1", "-W", "10", "-s", "1000", CORRESPONDENT[six])
    assert "3 received" in said
    assert f"ttl={64 - ROUTERS}" in said


@FAMILIES
def test_a_closed_udp_port_is_told_to_the_application(sockets: Sockets, six: bool) -> None:
    client = sockets.at("mh", six=six)
    client.connect((CORRESPONDENT[six], 5999))
    client.send(b"anybody there?")
    with pytest.raises(ConnectionRefusedError):
        client.recv(100)


@FAMILIES
def test_a_closed_tcp_port_refuses(sockets: Sockets, six: bool) -> None:
    client = sockets.at("mh", socket.SOCK_STREAM, six=six)
    with pytest.raises(ConnectionRefusedError):
        client.connect((CORRESPONDENT[six], 5999))


@FAMILIES
@pytest.mark.parametrize("hops", [1, 2], ids=["at the anchor", "at the router behind it"])
def test_a_packet_whose_time_is_over_is_reported_by_the_router_where_it_was(
    daemons: Daemons, sockets: Sockets, six: bool, hops: int
) -> None:
    client = sockets.at("mh", six=six)
    if six:
        client.setsockopt(socket.IPPROTO_IPV6, IPV6_UNICAST_HOPS, hops)
        client.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
    else:
        client.setsockopt(socket.IPPROTO_IP, IP_TTL, hops)
        client.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    client.connect((CORRESPONDENT[six], 5004))
    client.send(b"how far?")
    with pytest.raises(OSError) as told:
        client.recv(100)
    assert told.value.errno == errno.EHOSTUNREACH
    _, ancillary, _, _ = client.recvmsg(100, 512, socket.MSG_ERRQUEUE)
    report = ancillary[0][2]
    at = 16 + 8 if six else 16 + 4  # struct sock_extended_err, then the address of who reports
    router = socket.inet_ntop(client.family, report[at : at + (16 if six else 4)])
    pool = daemons.anchor_folder.joinpath("anchor.toml").read_text().partition("pool6 = ")[2].split('"')[1]
    inner = pool.replace("/64", "1") if six else "10.201.0.1"
    assert router == (inner if hops == 1 else CORE[six])


@FAMILIES
def test_a_protocol_that_nobody_knows_passes(lab: Lab, sockets: Sockets, six: bool) -> None:
    host = sockets.at("mh", socket.SOCK_RAW, six=six, protocol=EXPERIMENT)
    correspondent = sockets.at("ch", socket.SOCK_RAW, six=six, protocol=EXPERIMENT)
    host.sendto(b"an experiment", (CORRESPONDENT[six], 0))
    packet, peer = correspondent.recvfrom(4096)
    assert packet if six else wire.payload_of(packet) == b"an experiment"
    assert peer[0] == ANCHOR[six]
    correspondent.sendto(b"its result", (peer[0], 0))
    answer = host.recv(4096)
    assert (answer if six else wire.payload_of(answer)) == b"its result"


def test_sctp_finds_its_way_through_the_nat_and_back(sockets: Sockets) -> None:
    host = sockets.at("mh", socket.SOCK_RAW, protocol=wire.SCTP)
    correspondent = sockets.at("ch", socket.SOCK_RAW, protocol=wire.SCTP)
    init = struct.pack("!BBHIIHHI", 1, 0, 20, 0x1234, 1500, 1, 1, 1)
    host.sendto(wire.sctp(40000, 5005, 0, init), (CORRESPONDENT[False], 0))
    packet, peer = correspondent.recvfrom(4096)
    assert wire.is_right(packet)
    assert wire.payload_of(packet)[12:] == init
    assert peer[0] == ANCHOR[False]
    source, _ = struct.unpack_from("!HH", wire.payload_of(packet))
    answer = struct.pack("!BBHIIHHIHH", 2, 0, 28, 0x5678, 1500, 1, 1, 1, 7, 8) + b"cook"
    correspondent.sendto(wire.sctp(5005, source, 0x1234, answer), (peer[0], 0))
    back = host.recv(4096)
    assert wire.is_right(back)
    assert wire.payload_of(back)[12:] == answer


@pytest.mark.parametrize(
    "destination", ["10.99.0.1", "172.16.5.5", "192.168.7.2", "100.64.1.1", "127.0.0.9", "240.0.0.1", ANCHOR[False]]
)
def test_destinations_that_are_nobodys_business_are_refused_and_counted(
    daemons: Daemons, sockets: Sockets, destination: str
) -> None:
    before = refused(daemons).get("inner-destination", 0)
    _send_through_the_tunnel(sockets, destination, six=False, count=3)
    eventually("counted", lambda: refused(daemons).get("inner-destination", 0) >= before + 3)


@pytest.mark.parametrize("destination", ["fd00::1", "2001:db8:45::1", "64:ff9b::7f00:1"])
def test_ipv6_destinations_are_refused_and_counted_likewise(
    daemons: Daemons, sockets: Sockets, destination: str
) -> None:
    before = refused(daemons).get("inner-destination", 0)
    _send_through_the_tunnel(sockets, destination, six=True, count=3)
    eventually("counted", lambda: refused(daemons).get("inner-destination", 0) >= before + 3)


def _send_through_the_tunnel(sockets: Sockets, destination: str, *, six: bool, count: int) -> None:
    """Send datagrams into the device itself, past the host's own rules and routes."""
    client = sockets.at("mh", six=six)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"sojourn0\0")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_DONTROUTE, 0)
    for _ in range(count):
        client.sendto(b"let me in", (destination, 5006))


def test_the_anchor_s_inner_address_answers_echo_and_has_no_other_open_port(
    daemons: Daemons, lab: Lab, sockets: Sockets
) -> None:
    assert "2 received" in lab.run("mh", "ping", "-c", "2", "-i", "0.1", "-W", "10", "10.201.0.1")
    listener = sockets.at("an", socket.SOCK_STREAM, port=5007)
    listener.listen()
    before = refused(daemons).get("inner-port", 0)
    client = sockets.at("mh", socket.SOCK_STREAM)
    client.settimeout(1.5)
    with pytest.raises(TimeoutError):
        client.connect(("10.201.0.1", 5007))
    assert refused(daemons).get("inner-port", 0) > before


def test_an_icmp_error_that_quotes_an_allowed_flow_does_not_reach_a_refused_destination(
    daemons: Daemons, lab: Lab, sockets: Sockets
) -> None:
    quoted = wire.udp4((CORRESPONDENT[False], 5008), (vipa(daemons), 5008), b"quoted")
    error = wire.icmp_error(3, 1, quoted)
    raw = sockets.at("mh", socket.SOCK_RAW, protocol=wire.ICMP)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"sojourn0\0")
    with Capture(lab.namespace("an"), "sojourn-a0", framed=False) as tap:
        raw.sendto(error, ("10.99.0.1", 0))
        raw.sendto(error, (CORRESPONDENT[False], 0))
        seen: list[str] = []

        def arrived() -> bool:
            seen.extend(wire.address_of(p, source=False) for p in tap.read(0.1) if wire.protocol_of(p) == wire.ICMP)
            return CORRESPONDENT[False] in seen

        eventually("the error to the flow's own end passes", arrived)
    assert "10.99.0.1" not in seen


@FAMILIES
def test_mobile_hosts_are_isolated_from_each_other(
    daemons: Daemons, tablet: Terminal, sockets: Sockets, six: bool
) -> None:
    there = tablet.status()["vipa6" if six else "vipa"]
    server = sockets.at("ch2", six=six, port=5009)
    client = sockets.at("mh", six=six)
    before = refused(daemons).get("inner-destination", 0)
    client.sendto(b"hello, neighbour", (there, 5009))
    eventually("counted", lambda: refused(daemons).get("inner-destination", 0) > before)
    assert not select.select([server], [], [], 0.2)[0]
    # Not even to each other's ports by the anchor's public address: nothing is exposed.
    other = sockets.at("ch2", six=six)
    other.settimeout(1.0)
    other.connect((ANCHOR[six], 5009))
    other.send(b"hello")
    with contextlib.suppress(ConnectionRefusedError), pytest.raises(TimeoutError):
        other.recv(100)


def test_both_hosts_reach_the_correspondent_at_once_with_the_same_ports(tablet: Terminal, sockets: Sockets) -> None:
    server = sockets.at("ch", port=5010)
    sources = set()
    for role in ("mh", "ch2"):
        client = sockets.at(role, port=5010)
        client.connect((CORRESPONDENT[False], 5010))
        client.send(role.encode())
        data, peer = server.recvfrom(100)
        assert data == role.encode()
        assert peer[0] == ANCHOR[False]
        sources.add(peer)
        server.sendto(data, peer)
        assert client.recv(100) == role.encode()
    assert len(sources) == 2, "the NAT keeps them apart"


def test_a_neighbour_of_the_anchor_cannot_send_to_a_vipa(daemons: Daemons, lab: Lab, sockets: Sockets) -> None:
    lab.run("core", "ip", "route", "add", "10.201.0.0/16", "via", ANCHOR[False])
    server = sockets.at("mh", port=5011)
    stranger = sockets.at("ch")
    before = drops(lab)
    stranger.sendto(b"are you there?", (vipa(daemons), 5011))
    eventually("dropped by the anchor", lambda: drops(lab) > before)
    assert not select.select([server], [], [], 0.2)[0]
