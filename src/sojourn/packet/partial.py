"""Packets that a peer's kernel has put into a plain tunnel unfinished, because the wire between us is no wire.

Between virtual machines, containers and namespaces Linux hands super-packets and open checksums on as they are. A
kernel path at both ends never notices; where an engine gets such a packet as bytes, it has to finish it.
"""

from sojourn.errors import RemoteProtocolError
from sojourn.model import TCP
from sojourn.packet import vnet
from sojourn.packet.checksum import pseudo_header
from sojourn.packet.gso import CHECKSUM_OFFSET, finish, headers_of
from sojourn.packet.ip import IpView, parse
from sojourn.packet.vnet import VnetHeader


def finished(packet: bytes, mtu: int) -> list[bytes]:
    """Return what a plain tunnel's inner packet stands for: itself, with its checksum, or the segments of `mtu` bytes.

    An open checksum is one whose field holds the pseudo-header's sum alone (CHECKSUM_PARTIAL); a complete one that
    happens to look like that is computed anew, to the same. Raises RemoteProtocolError as `ip.parse` does.
    """
    view = parse(packet)
    at, field = view.header_bytes, CHECKSUM_OFFSET.get(view.protocol)
    if field is None or view.is_fragment or view.total_bytes != len(packet) or len(packet) < at + field + 2:
        return [packet]
    size = len(packet) - at
    is_open = int.from_bytes(packet[at + field : at + field + 2]) == pseudo_header(
        view.source, view.destination, view.protocol, size
    )
    if not is_open:
        return [packet]
    return finish(packet, VnetHeader(vnet.NEEDS_CHECKSUM, *_cut(packet, view, mtu), at, field))


def _cut(packet: bytes, view: IpView, mtu: int) -> tuple[int, int, int]:
    """Return type, header bytes and segment bytes of a super-packet; of a datagram the sizes are not known."""
    if view.protocol != TCP or len(packet) <= mtu:
        return vnet.NO_GSO, 0, 0
    head = headers_of(packet, view)
    if mtu <= head:
        raise RemoteProtocolError("headers that fill a packet", reason="length")
    return vnet.GSO_TCP4 if view.version == 4 else vnet.GSO_TCP6, head, mtu - head
