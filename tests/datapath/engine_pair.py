"""A host and an anchor in memory, tunnel proved and measured, flows known: where the hot loops may take over."""

from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.packet import gso, vnet
from sojourn.packet.ip import udp_packet
from sojourn.packet.vnet import VnetHeader
from sojourn.upmt.commands import AddAssociation
from sojourn.upmt.tunnel import Tunnel
from tests.harness.fakenet import Pair, Wire
from tests.packet.build import HOST4, HOST6, ends, tcp_packet

TUNNEL = TunnelId(0x10)
ME = AssociationId(1)
MTU = 1448
ACK, PSH, FIN, SYN, CWR = 0x10, 8, 1, 2, 0x80


def ready_pair() -> Pair:
    """The same pair each time, down to its keys and counters."""
    pair = Pair(Wire("wifi", delay=0.001), mtu=MTU)
    added = AddAssociation(ME, HOST4, HOST6, (TUNNEL,))
    pair.host.submit([added])
    pair.anchor.submit([added])
    pair.open()
    pair.run(2)
    for six in (False, True):
        pair.host.forwarder.from_inner(udp_packet(*ends(six), b"first"), pair.now)
        pair.host.forwarder.from_inner(tcp_packet(*ends(six), b"first"), pair.now)
    pair.run(0.1)
    for node in (pair.host, pair.anchor):
        tunnel = node.forwarder.tunnels[TUNNEL]
        assert tunnel.fast
        assert not tunnel.may_fragment
    pair.to_host.clear()
    pair.to_correspondent.clear()
    return pair


def source_at_host(tunnel: Tunnel) -> Endpoint:
    """Return where the tunnel's packets come from."""
    assert tunnel.outer is not None
    return tunnel.outer


def from_kernel(
    packet: bytes, size: int | None = None, *, six: bool = False, tcp: bool = True, flags: int = 0
) -> tuple[VnetHeader, bytes]:
    """Return a packet as a TUN with offloads hands it over: checksum open, `size` bytes of payload in each segment."""
    at, field = (40 if six else 20), (16 if tcp else 6)
    head = at + (32 if tcp else 8)
    if size is None or size >= len(packet) - head:
        kind = vnet.NO_GSO
    elif tcp:
        kind = (vnet.GSO_TCP6 if six else vnet.GSO_TCP4) | (vnet.GSO_ECN if flags & CWR else 0)
    else:
        kind = vnet.GSO_UDP
    header = VnetHeader(vnet.NEEDS_CHECKSUM, kind, head, size or 0 if kind else 0, at, field)
    whole = bytearray(packet)
    addresses = whole[8:40] if six else whole[12:20]
    pseudo = int.from_bytes(addresses) + (6 if tcp else 17) + len(whole) - at
    whole[at + field : at + field + 2] = (pseudo % 0xFFFF or 0xFFFF).to_bytes(2)
    return header, bytes(whole)


def completed(parts: list[bytes]) -> list[bytes]:
    """Return the packets that writes to a TUN stand for."""
    packets: list[bytes] = []
    for whole in parts:
        packets += gso.finish(whole[vnet.HEADER_BYTES :], vnet.parse(whole))
    return packets
