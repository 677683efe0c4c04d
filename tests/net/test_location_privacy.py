"""Where the mobile host is, nobody but its anchor learns (the paper's location privacy).

    mh --- nat0 (wifi: 192.168.100.25 behind 160.80.100.1) ------- core --- an     anchor.lab: 45.0.0.1, 2001:db8:45::1
      \\-- nat1 (cellular: 10.10.10.25 behind 65.0.0.1) ----------/  |  \\---- ch   86.0.0.1, 2001:db8:86::1
       \\- nat2 (ethernet: IPv6 only, 2001:db8:120::25, routed) ----/

Everything that reaches the correspondent's interface is searched: headers, payloads, what ICMP errors quote.
"""

import contextlib
import ipaddress
import select
import socket
import struct
from collections.abc import Callable, Iterator

import pytest
from msgspec.structs import replace

from sojourn.lab import namespaces
from sojourn.lab.daemons import Daemons
from sojourn.lab.stage import Stage
from sojourn.lab.topology import CELLULAR, ETHERNET, WIFI, Lab, Topology
from tests.net import wire
from tests.net.capture import Capture
from tests.net.standing import Sockets, eventually, name_the_anchor, own_prefix, standing

pytestmark = pytest.mark.net

CORRESPONDENT = {False: "86.0.0.1", True: "2001:db8:86::1"}
ANCHOR_NAME = "anchor.lab"
IP_TTL, IP_MTU_DISCOVER, IPV6_UNICAST_HOPS, IPV6_MTU_DISCOVER = 2, 10, 16, 23
PMTUDISC_DO = 2


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    access = (WIFI, CELLULAR, replace(ETHERNET, ipv4=False, ipv6=True))
    with standing(Topology(prefix=own_prefix(), access=access, ipv6=True)) as lab:
        name_the_anchor(lab, ANCHOR_NAME)
        daemons = Daemons(lab)
        daemons.set_up(address=ANCHOR_NAME)
        daemons.configure("mh", order='["wifi", "cellular", "ethernet-6"]')
        daemons.start_anchor()
        daemons.start_host()
        daemons.wait_until("associated", lambda status: _up(status) == {"wifi", "cellular", "ethernet-6"}, 30.0)
        yield Stage(lab, daemons)


def _up(status: dict[str, object]) -> set[str]:
    rows = status["networks"]
    assert isinstance(rows, list)
    return {row["name"] for row in rows if row["state"] == "up"}


@pytest.fixture
def sockets(stage: Stage) -> Iterator[Sockets]:
    made = Sockets(stage.lab)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def tap(stage: Stage) -> Iterator[Capture]:
    with Capture(stage.lab.namespace("ch"), "eth0") as capture:
        yield capture


def secrets_of(stage: Stage) -> dict[str, list[bytes]]:
    """Return every address that would show where the host is, with the bytes by which it could be recognized."""
    lab, status = stage.lab, stage.daemons.status() if stage.daemons is not None else {}
    texts = {str(status["vipa"]), str(status["vipa6"])}
    for network in lab.topology.access:
        texts |= {network.public, network.public6, network.address6}
    texts |= {link.address for link in lab.links.values()}
    for role in ("mh", "nat0", "nat1", "nat2"):
        for line in lab.run(role, "ip", "-o", "addr").splitlines():
            address = ipaddress.ip_interface(line.split()[3]).ip
            if not address.is_loopback:
                texts.add(str(address))
    found = {}
    for text in texts:
        packed = ipaddress.ip_address(text).packed
        found[text] = [packed, packed[::-1], text.encode(), packed.hex().encode()]
    for line in lab.run("mh", "ip", "-o", "link").splitlines():
        if "link/ether" in line:
            hardware = line.split("link/ether ")[1].split()[0]
            found[hardware] = [bytes.fromhex(hardware.replace(":", "")), hardware.encode()]
    return found


def assert_none_is_shown(packets: list[bytes], hidden: dict[str, list[bytes]]) -> None:
    for packet in packets:
        for text, forms in hidden.items():
            assert not any(form in packet for form in forms), f"{text} in {packet.hex()}"


def received(tap: Capture) -> list[bytes]:
    """Return what came to the correspondent: nothing that it sent itself."""
    mine = set(CORRESPONDENT.values())
    return [packet for packet in tap.read(0.1) if wire.address_of(packet, source=True) not in mine]


EVENTS: list[tuple[str, Callable[[Stage], object]]] = [
    ("nothing yet", lambda stage: None),
    ("a move by order", lambda stage: stage.move("cellular")),
    ("a move to IPv6", lambda stage: stage.move("ethernet-6")),
    ("the cable is pulled", lambda stage: stage.pull("ethernet")),
    ("the cable is back", lambda stage: stage.plug("ethernet")),
    ("another address", lambda stage: stage.readdress("wifi")),
    ("another gateway", lambda stage: stage.regateway("wifi")),
    ("other ports and address at the NAT", lambda stage: stage.rebind("wifi", public=True)),
    ("silence", lambda stage: stage.silence("wifi")),
    ("no silence any more", lambda stage: stage.heal("wifi")),
    ("no network", lambda stage: stage.leave()),
    ("one network again", lambda stage: stage.arrive("cellular")),
    ("the others, too", lambda stage: stage.arrive("wifi", "ethernet")),
]  # fmt: skip


def test_through_every_move_no_packet_shows_where_the_host_is(stage: Stage, sockets: Sockets, tap: Capture) -> None:
    """Addresses that the host has only for a while count, too: they are collected before and after each event."""
    server, client = sockets.at("ch", socket.SOCK_STREAM, port=7001), sockets.at("mh", socket.SOCK_STREAM)
    server.listen()
    client.connect((CORRESPONDENT[False], 7001))
    served, _ = server.accept()
    answering = {six: sockets.at("ch", six=six, port=7002) for six in (False, True)}
    asking = {six: sockets.at("mh", six=six) for six in (False, True)}
    hidden, packets = secrets_of(stage), []
    with served:
        for number, (what, event) in enumerate(EVENTS):
            event(stage)
            hidden |= secrets_of(stage)
            if what == "no network":
                continue
            client.sendall(b"%03d" % number)
            assert _read(served, 3) == b"%03d" % number, what
            served.sendall(b"back")
            assert _read(client, 4) == b"back", what
            for six in (False, True):
                _insist(asking[six], answering[six], (CORRESPONDENT[six], 7002), what)
            came = received(tap)
            assert {wire.protocol_of(packet) for packet in came} >= {wire.TCP, wire.UDP}, what
            packets += came
    hidden |= secrets_of(stage)
    assert_none_is_shown(packets, hidden)


def _read(connection: socket.socket, size: int) -> bytes:
    connection.settimeout(60.0)
    data = b""
    while len(data) < size:
        data += connection.recv(size - len(data))
    return data


def _insist(client: socket.socket, server: socket.socket, at: tuple[str, int], what: str) -> None:
    """Send until something comes back: UDP loses what is under way when a network goes."""

    def exchanged() -> bool:
        client.sendto(b"question", at)
        if select.select([server], [], [], 0.2)[0]:
            data, peer = server.recvfrom(100)
            assert data == b"question"
            server.sendto(b"answer", peer)
        return bool(select.select([client], [], [], 0.2)[0]) and client.recv(100) == b"answer"

    eventually(f"an answer after: {what}", exchanged)


def test_icmp_of_every_kind_shows_nothing_either(stage: Stage, sockets: Sockets, tap: Capture) -> None:
    hidden, lab = secrets_of(stage), stage.lab
    for six in (False, True):
        lab.run("mh", "ping", "-c", "2", "-i", "0.1", "-W", "10", "-s", "900", CORRESPONDENT[six])
        # The application has gone: what still comes for it makes the host's kernel answer "port unreachable".
        server, client = sockets.at("ch", six=six, port=7003), sockets.at("mh", six=six)
        client.sendto(b"call me", (CORRESPONDENT[six], 7003))
        _, caller = server.recvfrom(100)
        client.close()
        server.connect(caller[:2])
        server.send(b"too late")
        with pytest.raises(ConnectionRefusedError):
            server.recv(100)
        # Larger than the tunnel carries: "fragmentation needed" or "packet too big", from the anchor.
        client = sockets.at("mh", six=six)
        server = sockets.at("ch", six=six, port=7004)
        client.sendto(b"send me something large", (CORRESPONDENT[six], 7004))
        _, caller = server.recvfrom(100)
        level = socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP
        server.setsockopt(level, IPV6_MTU_DISCOVER if six else IP_MTU_DISCOVER, PMTUDISC_DO)
        server.connect(caller[:2])
        server.send(bytes(1452 if six else 1472))

        def refused(server: socket.socket = server) -> bool:
            with contextlib.suppress(OSError):
                server.send(bytes(1400))
                return False
            return True

        eventually("the correspondent is told", refused)
        # And one whose hops are used up just before the tunnel.
        server.setsockopt(level, IPV6_UNICAST_HOPS if six else IP_TTL, 2)
        with contextlib.suppress(OSError):
            server.send(b"not far enough")
    kinds: set[tuple[int, int]] = set()
    packets: list[bytes] = []

    def all_kinds() -> bool:
        came = received(tap)
        packets.extend(came)
        kinds.update((wire.protocol_of(p), wire.payload_of(p)[0]) for p in came if wire.protocol_of(p) in (1, 58))
        return kinds >= {(1, 8), (1, 3), (58, 128), (58, 1), (58, 2)}

    eventually("echo, unreachable and too big were seen", all_kinds)
    assert_none_is_shown(packets, hidden)


def test_what_belongs_to_no_connection_never_leaves_the_anchor(stage: Stage, sockets: Sockets, tap: Capture) -> None:
    """The NAT translates connections: without one, a packet would go out under the Vipa."""
    assert stage.daemons is not None
    hidden, vipa = secrets_of(stage), stage.daemons.status()["vipa"]
    raw = sockets.at("mh", socket.SOCK_RAW, protocol=wire.ICMP)
    quoted = wire.udp4((CORRESPONDENT[False], 9), (vipa, 9), b"of a flow that never was")
    raw.sendto(wire.icmp_error(3, 3, quoted), (CORRESPONDENT[False], 0))
    lone = sockets.at("mh", socket.SOCK_RAW, protocol=wire.TCP)
    head = struct.pack("!HHIIBBHHH", 4711, 80, 1, 1, 0x50, 0x14, 0, 0, 0)  # an RST of no connection
    ends = ipaddress.ip_address(vipa).packed + ipaddress.ip_address(CORRESPONDENT[False]).packed
    value = 0xFFFF - wire.sum_of(ends + struct.pack("!HH", wire.TCP, len(head)) + head)
    lone.sendto(head[:16] + struct.pack("!H", value) + head[18:], (CORRESPONDENT[False], 0))
    stage.lab.run("mh", "ping", "-c", "1", "-W", "10", CORRESPONDENT[False])
    packets = received(tap)
    assert any(wire.protocol_of(packet) == wire.ICMP for packet in packets), "the ping came after them"
    assert_none_is_shown(packets, hidden)


def test_while_no_network_is_there_nothing_leaves_beside_the_tunnel(stage: Stage, sockets: Sockets) -> None:
    lab: Lab = stage.lab
    with contextlib.ExitStack() as stack:
        taps = {
            name: stack.enter_context(Capture(lab.namespace("mh"), name)) for name in ("wifi", "cellular", "ethernet")
        }
        for name in lab.links:
            stage.silence(name)
        client = sockets.at("mh")
        for _ in range(20):
            with contextlib.suppress(OSError):
                client.sendto(b"a secret in the clear", (CORRESPONDENT[False], 7005))
            namespaces.run(lab.namespace("mh"), "sleep", "0.05")
        for name in lab.links:
            stage.heal(name)
        for name, capture in taps.items():
            for packet in capture.read(0.1):
                assert b"a secret in the clear" not in packet
                ends = {wire.address_of(packet, source=source) for source in (True, False)}
                assert not ends & set(CORRESPONDENT.values()), f"{name}: {packet.hex()}"
