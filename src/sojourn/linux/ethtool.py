"""Single settings of an interface by ioctl: what `ethtool -k` shows and -K sets, and its hardware address."""

import array
import fcntl
import socket
import struct
from typing import NamedTuple

# <linux/sockios.h>, <linux/ethtool.h>
_SIOCETHTOOL, _SIOCGIFHWADDR = 0x8946, 0x8927
GET_LINK, GET_TSO, SET_TX_CHECKSUM, SET_TSO, SET_GRO = 0x0A, 0x1E, 0x17, 0x1F, 0x2C


class Hardware(NamedTuple):
    """Of an interface: its type (ARPHRD_*), and its address, filled up to 14 bytes."""

    kind: int
    address: bytes


def ask(interface: str, command: int, value: int = 0) -> int:
    """Get what `command` (ETHTOOL_*) names, or set it to `value`; return what it is then. Raises OSError."""
    data = array.array("I", [command, value])
    where, _ = data.buffer_info()
    _call(_SIOCETHTOOL, struct.pack("@16sP16x", interface.encode(), where))
    return data[1]


def hardware(interface: str) -> Hardware:
    """Return type and address of an interface. OSError when it is not there."""
    answer = _call(_SIOCGIFHWADDR, struct.pack("=16s24x", interface.encode()))
    return Hardware(*struct.unpack_from("=H14s", answer, 16))


def _call(what: int, request: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as any_socket:
        return fcntl.ioctl(any_socket, what, request)
