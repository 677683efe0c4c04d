"""One question to the kernel's rtnetlink and its answer, without a library (some 20 us).

For processes that ask little, and on paths where a library's start would be most of the cost; networks are followed by
linux/netlink.py.
"""

import socket
import struct
from typing import Final

# <linux/netlink.h>, <linux/rtnetlink.h>
REQUEST, ACK, EXCLUSIVE, CREATE = 0x1, 0x4, 0x200, 0x400
ERROR: Final = 2
ATTRIBUTE: Final = struct.Struct("=HH")
_HEADER: Final = struct.Struct("=IHHII")


def attribute(kind: int, value: bytes) -> bytes:
    """Return an attribute, filled up to where the next one begins."""
    size = ATTRIBUTE.size + len(value)
    return ATTRIBUTE.pack(size, kind) + value + bytes(-size % 4)


def ask(kind: int, flags: int, body: bytes, patience: float) -> tuple[int, bytes]:
    """Return the kind of the first message that answers, `ERROR` for a refusal, and its body.

    Raises OSError, of which TimeoutError after `patience` seconds.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(patience)
        sock.send(_HEADER.pack(_HEADER.size + len(body), kind, REQUEST | flags, 1, 0) + body)
        answer = sock.recv(4096)
    _size, said, *_ = _HEADER.unpack_from(answer)
    return said, answer[_HEADER.size :]
