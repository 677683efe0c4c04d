"""DNS answers that come in by an interface, read beside their receiver: for rules by destination name.

A packet socket with a filter in the kernel: nothing but UDP from port 53 is ever copied to us, no packet is held up,
and the data path knows nothing of it. (An answer may be read here a moment after its application has acted on it.)
"""

import asyncio
import ctypes
import itertools
import socket
import struct
from collections.abc import AsyncIterator

from sojourn.errors import RemoteProtocolError
from sojourn.model import UDP
from sojourn.packet import ip

ETH_P_ALL = 3
SO_ATTACH_FILTER = 26
PACKET_HOST = 0
MAX_BYTES = 4096
DNS = 53
PER_PAUSE, PAUSE = 32, 0.02
"""So many packets are read, then nothing for so long: a socket that is never empty must not keep us from all else."""

# Classic BPF (Linux, networking/filter.rst): code, jump if true, jump if false, operand. Byte 0 is the IP header's.
_FILTER = (
    (0x30, 0, 0, 0),  # 0  ldb [0]
    (0x54, 0, 0, 0xF0),  # 1  and #0xf0
    (0x15, 0, 7, 0x40),  # 2  IPv4? else 10
    (0x30, 0, 0, 9),  # 3  ldb [9]
    (0x15, 0, 10, 17),  # 4  UDP? else drop (15)
    (0x28, 0, 0, 6),  # 5  ldh [6]
    (0x45, 8, 0, 0x1FFF),  # 6  a later fragment? drop
    (0xB1, 0, 0, 0),  # 7  ldxb 4*([0]&0xf)
    (0x48, 0, 0, 0),  # 8  ldh [x + 0]
    (0x15, 4, 5, DNS),  # 9  from port 53: accept (14), else drop
    (0x30, 0, 0, 6),  # 10 ldb [6]: IPv6's next header
    (0x15, 0, 3, 17),  # 11 UDP? else drop
    (0x28, 0, 0, 40),  # 12 ldh [40]
    (0x15, 0, 1, DNS),  # 13 from port 53? else drop
    (0x06, 0, 0, MAX_BYTES),  # 14 accept
    (0x06, 0, 0, 0),  # 15 drop
)


async def answers(interface: str) -> AsyncIterator[tuple[str, bytes]]:
    """Yield (server's address, DNS message) of each answer that arrives. OSError when the interface is gone."""
    loop = asyncio.get_running_loop()
    with _tap(interface) as tap:
        for count in itertools.count(1):
            if count % PER_PAUSE == 0:
                await asyncio.sleep(PAUSE)
            packet, address = await loop.sock_recvfrom(tap, MAX_BYTES)
            if address[2] != PACKET_HOST:
                continue
            try:
                yield _parts(packet)
            except RemoteProtocolError:
                continue


def _parts(packet: bytes) -> tuple[str, bytes]:
    """Take a UDP packet apart. Its checksum may be partial still: the kernel checks it for the receiver."""
    view = ip.parse(packet)
    at = view.header_bytes
    if view.protocol != UDP or view.total_bytes - at < 8:
        raise RemoteProtocolError("not a UDP datagram", reason="dns")
    return ip.text(view.source), packet[at + 8 : view.total_bytes]


def _tap(interface: str) -> socket.socket:
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 0)
    try:
        program = b"".join(struct.pack("HBBI", *instruction) for instruction in _FILTER)
        buffer = ctypes.create_string_buffer(program)
        tap.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(_FILTER), ctypes.addressof(buffer)))
        tap.bind((interface, ETH_P_ALL))
    except OSError:
        tap.close()
        raise
    return tap
