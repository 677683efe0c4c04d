"""Section VI of the UPMT paper, "Example of tunneling/NAT operations", with its addresses and ports (Fig. 6 and 7).

    MH  vif0 = vipa0 1.2.3.4
        if0 192.168.100.25 --- gw0 160.80.100.1 --- core --- an0 45.0.0.1      t0: 1500 -> (33000 ->) 1800
        if1  10.10.10.25   --- gw1 65.0.0.1     --/  |                         t1: 1600 -> (34000 ->) 1800
                                                     \\--- ch0 86.0.0.1:3000

A legacy application at the mobile host sends PCK1 from port 2000; the correspondent answers with PCK2.
The port that the anchor's NAT chooses (40000 in the paper) is the kernel's choice here: the test follows it.
"""

import select
import socket
import struct
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from sojourn.lab import namespaces
from sojourn.lab.daemons import Daemons
from sojourn.lab.links import firewall
from sojourn.lab.topology import CELLULAR, WIFI, Lab, Topology
from sojourn.model import Endpoint
from sojourn.packet import ip
from sojourn.packet.seal import OVERHEAD_BYTES
from tests.net.capture import Capture, compute_checksums
from tests.net.conftest import MakeLab

pytestmark = pytest.mark.net

IF0, IF1 = Endpoint("192.168.100.25", 1500), Endpoint("10.10.10.25", 1600)
GW0, GW1 = Endpoint("160.80.100.1", 33000), Endpoint("65.0.0.1", 34000)
AN = Endpoint("45.0.0.1", 1800)
CH = Endpoint("86.0.0.1", 3000)
VIPA = Endpoint("1.2.3.4", 2000)
IP_AND_UDP = 28
"""Bytes of both headers."""
PCK1, PCK2 = b"PCK1 from a legacy application", b"PCK2 from a legacy server"


@pytest.fixture
def scenario(make_lab: MakeLab, prefix: str) -> Daemons:
    """Return Fig. 6: an associated host with two tunnels that are set up."""
    access = (replace(WIFI, name="if0"), replace(CELLULAR, name="if1"))
    lab = make_lab(Topology(prefix=prefix, access=access))
    for nat, gateway in (("nat0", GW0), ("nat1", GW1)):
        rules = firewall(f"meta l4proto udp masquerade to :{gateway.port}")
        namespaces.run(lab.namespace(nat), "nft", "-f", "-", stdin=rules)
    daemons = Daemons(lab)
    daemons.set_up("--pool", "1.2.3.0/29")
    daemons.configure("mh", order='["if0", "if1"]')
    daemons.append("mh", f"[network.if0]\nport = {IF0.port}\n[network.if1]\nport = {IF1.port}\n")
    (daemons.host_folder / "host.state").write_text(f'{{"vipa": "{VIPA.address}"}}')  # the one it had before
    daemons.start()
    return daemons


class Peers:
    """The two legacy ends: a client whose port is 2000, and the server."""

    def __init__(self, lab: Lab) -> None:
        self.client = namespaces.inside(lab.namespace("mh"), lambda: self._bound(Endpoint("", VIPA.port)))
        self.server = namespaces.inside(lab.namespace("ch"), lambda: self._bound(CH))
        self.client.connect((CH.address, CH.port))

    @staticmethod
    def _bound(at: Endpoint) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.settimeout(5.0)
        made.bind((at.address, at.port))
        return made

    def exchange(self) -> Endpoint:
        """Send PCK1 and answer it with PCK2; return whom the server saw."""
        self.client.send(PCK1)
        return self.answer()

    def answer(self) -> Endpoint:
        """Wait for PCK1 and answer it."""
        data, seen = self.server.recvfrom(2048)
        assert data == PCK1
        self.server.sendto(PCK2, seen)
        assert self.client.recv(2048) == PCK2
        return Endpoint(*seen)

    def insist(self) -> None:
        """Send PCK1 until it arrives (UDP may lose some when a network goes), and answer."""
        for _ in range(100):
            self.client.send(PCK1)
            if select.select([self.server], [], [], 0.05)[0]:
                break
        self.answer()


@pytest.fixture
def peers(scenario: Daemons) -> Iterator[Peers]:
    peers = Peers(scenario.lab)
    try:
        yield peers
    finally:
        peers.client.close()
        peers.server.close()


def udp(packets: list[bytes]) -> set[tuple[Endpoint, Endpoint]]:
    """Return who sent UDP to whom. Checksums may still be open here: the virtual cables leave them to the end."""
    found = set()
    for packet in packets:
        view = ip.parse(packet)
        if view.protocol == socket.IPPROTO_UDP:
            ports = struct.unpack_from("!HH", packet, view.header_bytes)
            source, destination = ip.text(view.source), ip.text(view.destination)
            found.add((Endpoint(source, ports[0]), Endpoint(destination, ports[1])))
    return found


def checksum_is_right(packet: bytes) -> bool:
    """Sum up pseudo-header and UDP datagram: all ones, if nothing changed on the way (RFC 768)."""
    datagram = packet[ip.parse(packet).header_bytes :]
    pseudo = packet[12:20] + struct.pack("!HH", socket.IPPROTO_UDP, len(datagram))
    data = pseudo + datagram + b"\0" * (len(datagram) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total == 0xFFFF


def test_pck1_and_pck2_pass_tunnel_t0_and_the_anchors_nat(scenario: Daemons, peers: Peers) -> None:
    lab = scenario.lab
    with (
        Capture(lab.namespace("mh"), "sojourn0", framed=False) as vif0, Capture(lab.namespace("mh"), "if0") as if0,
        Capture(lab.namespace("nat0"), "out") as gw0, Capture(lab.namespace("ch"), "eth0") as ch0,
    ):  # fmt: skip
        for role, interface in (("core", "ch"), ("ch", "eth0")):
            compute_checksums(lab.namespace(role), interface)
        public = peers.exchange()
        assert public.address == AN.address
        inner, outer, translated, seen = vif0.read(), if0.read(0.05), gw0.read(0.05), ch0.read(0.05)
    assert {(VIPA, CH), (CH, VIPA)} <= udp(inner)
    assert {(IF0, AN), (AN, IF0)} <= udp(outer)
    assert {(GW0, AN), (AN, GW0)} <= udp(translated)
    assert udp(seen) == {(public, CH), (CH, public)}
    (first,) = [packet for packet in seen if packet.endswith(PCK1)]
    assert ip.parse(first).ttl == 64 - 2, "the anchor and the core are routers; the tunnel is one hop"
    for payload in (PCK1, PCK2):
        (packet,) = [packet for packet in seen if packet.endswith(payload)]
        assert checksum_is_right(packet)


def test_the_paft_of_the_host_has_the_row(scenario: Daemons, peers: Peers) -> None:
    peers.exchange()
    (flow,) = [flow for flow in scenario.call("flows") if flow["remote"] == "86.0.0.1:3000"]
    assert (flow["protocol"], flow["local"], flow["network"]) == ("udp", "1.2.3.4:2000", "if0")


def test_after_a_handover_both_packets_pass_t1_and_the_correspondent_sees_no_difference(
    scenario: Daemons, peers: Peers
) -> None:
    lab = scenario.lab
    before = peers.exchange()
    scenario.hand_over("if1")
    with (
        Capture(lab.namespace("mh"), "if0") as if0, Capture(lab.namespace("mh"), "if1") as if1,
        Capture(lab.namespace("nat1"), "out") as gw1,
    ):  # fmt: skip
        assert peers.exchange() == before
        old, new, translated = if0.read(), if1.read(0.05), gw1.read(0.05)
    assert {(IF1, AN), (AN, IF1)} <= udp(new)
    assert {(GW1, AN), (AN, GW1)} <= udp(translated)
    assert not any(PCK1 in packet for packet in old)
    both = {len(payload) + IP_AND_UDP + OVERHEAD_BYTES + IP_AND_UDP for payload in (PCK1, PCK2)}
    assert both <= {len(packet) for packet in new}
    assert not both & {len(packet) for packet in old}


def test_nothing_that_the_correspondent_receives_names_the_host_s_networks(scenario: Daemons, peers: Peers) -> None:
    lab = scenario.lab
    with Capture(lab.namespace("ch"), "eth0") as ch0:
        peers.exchange()
        scenario.hand_over("if1")
        peers.exchange()
        lab.links["if1"].leave()
        peers.insist()
        lab.run("mh", "ping", "-c", "2", "-i", "0.1", "-W", "1", CH.address)
        lab.run("mh", "ping", "-c", "1", "-W", "1", "-t", "1", CH.address, check=False)
        received = [packet for packet in ch0.read() if ip.parse(packet).destination == ip.packed(CH.address)]
    assert len(received) >= 5
    for address in (IF0, IF1, GW0, GW1, VIPA):
        hidden = [packet for packet in received if ip.packed(address.address) in packet]
        assert not hidden, f"{address.address} in {hidden[0].hex()}"
