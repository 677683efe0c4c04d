"""The 10 bytes that a TUN device with IFF_VNET_HDR puts before each packet (struct virtio_net_hdr).

They say how a *super-packet*, one TCP or UDP header over up to 64 KiB, is to be cut into segments, and where
a checksum is still to be completed. Byte order is the machine's own: they never leave it.
"""

from struct import Struct as Layout
from typing import Final

from msgspec import Struct

from sojourn.errors import RemoteProtocolError
from sojourn.packet.checksum import Buffer

NEEDS_CHECKSUM: Final = 1
"""Flag: the field at `checksum_start` + `checksum_offset` holds the pseudo-header's sum, the rest is missing."""
NO_GSO, GSO_TCP4, GSO_TCP6, GSO_UDP = 0, 1, 4, 5
GSO_ECN: Final = 0x80
"""Added to a TCP type whose first segment alone carries CWR."""

LAYOUT: Final = Layout("=BBHHHH")
HEADER_BYTES: Final = 10


class VnetHeader(Struct, frozen=True):
    """One such header; all zero for a packet that is complete as it is."""

    flags: int = 0
    gso_type: int = NO_GSO
    header_bytes: int = 0
    """Of IP and transport together; a hint, the kernel looks for itself."""
    segment_bytes: int = 0
    """Payload of each segment but the last (gso_size)."""
    checksum_start: int = 0
    checksum_offset: int = 0

    def __bytes__(self) -> bytes:
        return LAYOUT.pack(
            self.flags,
            self.gso_type,
            self.header_bytes,
            self.segment_bytes,
            self.checksum_start,
            self.checksum_offset,
        )


def parse(data: Buffer) -> VnetHeader:
    """Read the header at the beginning of `data`."""
    if len(data) < HEADER_BYTES:
        raise RemoteProtocolError("virtio header is cut off", reason="short")
    return VnetHeader(*LAYOUT.unpack_from(data))
