r"""What a correspondent sees of a spliced session whose client moves: the packets themselves.

mh (client) --- nat0 --- core --- an (sojourn anchor --only socks, spliced by its kernel)
                              \-- ch (correspondent; what passes here is looked at)
"""

import itertools
import socket
from collections.abc import Iterator

import msgspec
import pytest

from sojourn.lab import namespaces
from sojourn.lab.topology import WIFI, Topology
from sojourn.linux import tcp_state
from sojourn.msocks.frames import Status
from sojourn.msocks.socks5 import Address, Command, Request
from sojourn.packet.ip import complete_checksum
from tests.net import wire
from tests.net.capture import Capture, compute_checksums
from tests.net.socks_lab import PROXY_PORT, SocksLab, exactly
from tests.net.standing import PATIENCE, eventually, own_prefix, standing
from tests.net.test_socks_clients import account, answered, set_up

pytestmark = pytest.mark.net
PORT = 9400
MSS = 1000
FIN, SYN, RST = 1, 2, 4
_MSS, _TIMESTAMPS = 2, 8
"""Kinds of options (RFC 9293, RFC 7323)."""


@pytest.fixture(scope="module")
def place() -> Iterator[SocksLab]:
    wifi = msgspec.structs.replace(WIFI, ipv6=True)
    with standing(Topology(prefix=own_prefix(), access=(wifi,), ipv6=True)) as lab:
        socks = SocksLab(lab)
        socks.set_up("hold = 600.0\nsplice = true")
        socks.start_proxy()
        assert socks.proxy_status()["mode"] == "splice", socks.proxy_status()["why"]
        compute_checksums(lab.namespace("ch"), "eth0")
        yield socks


class Packets:
    """What passes between proxy and correspondent; each packet is (from the proxy, flags, options, whole)."""

    def __init__(self, place: SocksLab, capture: Capture, six: bool) -> None:
        sites = place.lab.topology.anchor, place.lab.topology.correspondent
        self.proxy, self.correspondent = (site.address6 if six else site.address for site in sites)
        self._namespace, self._capture, self._six = place.lab.namespace("ch"), capture, six

    def read(self, seconds: float) -> list[tuple[bool, int, dict[int, bytes], bytes]]:
        """Return what has passed since the last call."""
        found = []
        for packet in self._capture.read(seconds):
            if wire.protocol_of(packet) == wire.TCP and {wire.address_of(packet, source=True),
                                                         wire.address_of(packet, source=False)} == {
                                                             self.proxy, self.correspondent}:  # fmt: skip
                segment = wire.payload_of(packet)
                mine = wire.address_of(packet, source=True) == self.proxy
                found.append((mine, segment[13], options(segment[20 : (segment[12] >> 4) * 4]), packet))
        return found

    def send_again(self, packet: bytes) -> None:
        """Let the correspondent's machine send a whole packet, as a network that doubles it would."""

        def send() -> None:
            with socket.socket(
                socket.AF_INET6 if self._six else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW
            ) as raw:
                raw.sendto(packet, (self.proxy, 0))

        namespaces.inside(self._namespace, send)


def options(data: bytes) -> dict[int, bytes]:
    """Return a segment's options by their kinds."""
    found = {}
    while data and data[0]:
        if data[0] == 1:
            data = data[1:]
            continue
        found[data[0]] = data[2 : data[1]]
        data = data[data[1] :]
    return found


def dialled(place: SocksLab, proxy: str) -> socket.socket:
    def dial() -> socket.socket:
        sock = socket.socket(socket.AF_INET6 if ":" in proxy else socket.AF_INET)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, MSS)
        sock.settimeout(PATIENCE)
        sock.connect((proxy, PROXY_PORT))
        return sock

    return namespaces.inside(place.lab.namespace("mh"), dial)


def reset_at(packet: bytes, offset: int) -> bytes:
    """Make an RST of a correspondent's packet, `offset` bytes behind its place in the stream, with right checksums."""
    start = len(packet) - len(wire.payload_of(packet))
    reset = bytearray(packet[: start + (packet[start + 12] >> 4) * 4])
    seq = int.from_bytes(packet[start + 4 : start + 8], "big") + offset
    reset[start + 4 : start + 8] = (seq & 0xFFFFFFFF).to_bytes(4, "big")
    reset[start + 13] = RST
    at = 4 if packet[0] >> 4 == 6 else 2
    reset[at : at + 2] = (len(reset) - (40 if at == 4 else 0)).to_bytes(2, "big")
    complete_checksum(reset)
    return bytes(reset)


@pytest.fixture(params=[False, True], ids=["ipv4", "ipv6"])
def packets(place: SocksLab, request: pytest.FixtureRequest) -> Iterator[Packets]:
    with Capture(place.lab.namespace("ch"), "eth0") as capture:
        yield Packets(place, capture, request.param)


def begun(place: SocksLab, packets: Packets) -> tuple[socket.socket, socket.socket, bytes, bytes]:
    """Open a session; return both ends, its name and its key."""
    family = socket.AF_INET6 if ":" in packets.proxy else socket.AF_INET
    with namespaces.inside(
        place.lab.namespace("ch"), lambda: socket.create_server(("", PORT), family=family)
    ) as server:
        leg = dialled(place, packets.proxy)
        machine, replied = set_up(leg, account(place), Request(Command.CONNECT, Address(packets.correspondent, PORT)))
        far, _ = server.accept()
    far.settimeout(PATIENCE)
    return leg, far, replied.session, machine.key


def talk(place: SocksLab, leg: socket.socket, far: socket.socket) -> None:
    for one, other in ((leg, far), (far, leg)):
        one.sendall(bytes(5000))
        assert exactly(other, 5000) == bytes(5000)
    assert place.proxy_status()["splice"]["sessions"] == 1


def test_a_reset_that_somebody_guessed_ends_nothing_and_one_at_the_exact_place_does(
    place: SocksLab, packets: Packets
) -> None:
    leg, far, _, _ = begun(place, packets)
    with leg, far:
        talk(place, leg, far)
        last = [packet for mine, _, _, packet in packets.read(0.2) if not mine][-1]
        next_byte = len(wire.payload_of(last)) - (wire.payload_of(last)[12] >> 4) * 4
        doubted = place.proxy_status()["splice"]["packets"]["doubted"]
        for offset in (next_byte - 1, next_byte + 1, next_byte + 1000, next_byte + (1 << 31)):
            packets.send_again(reset_at(last, offset))
        talk(place, leg, far)
        assert place.proxy_status()["splice"]["packets"]["doubted"] > doubted
        last = [packet for mine, _, _, packet in packets.read(0.2) if not mine][-1]
        next_byte = len(wire.payload_of(last)) - (wire.payload_of(last)[12] >> 4) * 4
        packets.send_again(reset_at(last, next_byte))
        with pytest.raises(ConnectionResetError):
            leg.recv(1)
        tcp_state.reset(far)  # it has said nothing of that itself, and would repeat its FIN
    eventually("the session is over", lambda: not place.proxy_status()["sessions"])


def test_clocks_go_on_sizes_fit_and_no_stray_packet_is_answered_by_a_reset(place: SocksLab, packets: Packets) -> None:
    leg, far, session, key = begun(place, packets)
    port = far.getpeername()[1]
    with far:
        for generation in range(1, 4):
            talk(place, leg, far)
            tcp_state.reset(leg)
            far.sendall(b"repeated" * 10)
            leg = dialled(place, packets.proxy)
            resumed = answered(leg, key, session, generation, 5080 * generation - 80).resumed
            assert (resumed.status, resumed.received) == (Status.RESUMED, 5000 * generation)
            leg.settimeout(PATIENCE)
            assert exactly(leg, 80) == b"repeated" * 10
        seen = packets.read(0.2)
        old = [packet for mine, flags, _, packet in seen if not mine and not flags & SYN]
        for packet in old:
            packets.send_again(packet)
        leg.sendall(b"goes on")
        assert exactly(far, 7) == b"goes on"
        leg.shutdown(socket.SHUT_WR)
        assert far.recv(1) == b""
    with leg:
        assert leg.recv(1) == b""
    eventually("the session is over", lambda: not place.proxy_status()["sessions"])
    seen += packets.read(0.1)
    for packet in old:
        packets.send_again(packet)
    seen += packets.read(0.3)
    assert len(old) > 10
    ours = [
        (flags, options) for mine, flags, options, packet in seen
        if mine and wire.payload_of(packet)[:2] == port.to_bytes(2, "big")
    ]  # fmt: skip
    assert 900 < int.from_bytes(ours[0][1][_MSS], "big") <= MSS, "no more than the client takes"
    stamps = [int.from_bytes(options[_TIMESTAMPS][:4], "big") for _, options in ours]
    ticks = [(after - before) & 0xFFFFFFFF for before, after in itertools.pairwise(stamps)]
    assert max(ticks) < 20_000, "the client's clock never goes back, whichever leg it comes by"
    assert not any(mine and flags & RST for mine, flags, _, _ in seen)
    assert any(flags & FIN for flags, _ in ours)
