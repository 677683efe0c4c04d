"""Two interfaces in which the kernel joins the TCP packets that the kernel path has unwrapped, before they go on.

    arrive ─► DEVICE-j0 ═ veth ═► DEVICE-j1 (GRO) ─► DEVICE

A network card's GRO has passed when a tunnel's packet is unwrapped, and it does not know our header. So each packet
would go through routing, NAT and TCP alone; behind this pair up to 64 KiB go as one. Plain rtnetlink, because the
process that needs it has no other use for a library of it; OSError is the kernel's refusal.
"""

import contextlib
import ctypes
import fcntl
import socket
import struct
from typing import Final

_NAME_BYTES: Final = 15
_MTU: Final = 65535
"""A veth's largest: what comes in whole goes through whole."""

# <linux/rtnetlink.h>, <linux/netlink.h>, <linux/if_link.h>, <linux/veth.h>, <linux/if.h>
_RTM_NEWLINK, _RTM_DELLINK = 16, 17
_REQUEST, _ACK, _EXCLUSIVE, _CREATE = 0x1, 0x4, 0x200, 0x400
_NLMSG_ERROR: Final = 2
_IFLA_MTU, _IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_AF_SPEC = 4, 3, 18, 26
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFLA_INET6_ADDR_GEN_MODE, _MODE_NONE = 8, 1
_IFF_UP, _IFF_NOARP = 0x1, 0x80
_HEADER: Final = struct.Struct("=IHHII")
_LINK: Final = struct.Struct("=BxHiII")
_ATTRIBUTE: Final = struct.Struct("=HH")
# <linux/sockios.h>, <linux/ethtool.h>
_SIOCETHTOOL, _SIOCGIFHWADDR = 0x8946, 0x8927
_ETHTOOL_STSO, _ETHTOOL_SGRO = 0x1F, 0x2C
"""A veth joins nothing that comes from one which takes super-packets (veth_skb_is_eligible_for_gro)."""


def names(device: str) -> tuple[str, str]:
    """Return what the two interfaces of a device are called."""
    return f"{device[: _NAME_BYTES - 3]}-j0", f"{device[: _NAME_BYTES - 3]}-j1"


def create(device: str) -> tuple[int, int, bytes]:
    """Make the pair, or find it; return both indices, and the hardware address of the second."""
    into, out = names(device)
    with contextlib.suppress(FileExistsError):  # a predecessor's
        _make(into, out)
    found = socket.if_nametoindex(into), socket.if_nametoindex(out)
    for index in found:
        _set_up(index)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for name, what, wanted in ((into, _ETHTOOL_STSO, 0), (out, _ETHTOOL_SGRO, 1)):
            value = bytearray(struct.pack("=II", what, wanted))
            fcntl.ioctl(any_socket.fileno(), _SIOCETHTOOL, _request(name, value))
        address = fcntl.ioctl(any_socket.fileno(), _SIOCGIFHWADDR, struct.pack("=16s24x", out.encode()))
    return *found, address[18:24]


def remove(device: str) -> bool:
    """Remove the pair, and say whether it was there."""
    try:
        index = socket.if_nametoindex(names(device)[0])
    except OSError:
        return False
    _ask(_RTM_DELLINK, 0, _LINK.pack(0, 0, index, 0, 0))
    return True


def _make(into: str, out: str) -> None:
    peer = _LINK.pack(0, 0, 0, 0, 0) + _attribute(_IFLA_IFNAME, out.encode() + b"\0")
    data = _attribute(_IFLA_INFO_DATA, _attribute(_VETH_INFO_PEER, peer))
    about = _attribute(_IFLA_LINKINFO, _attribute(_IFLA_INFO_KIND, b"veth") + data)
    name = _attribute(_IFLA_IFNAME, into.encode() + b"\0")
    _ask(_RTM_NEWLINK, _CREATE | _EXCLUSIVE, _LINK.pack(0, 0, 0, 0, 0) + name + about)


def _set_up(index: int) -> None:
    """Bring one up. It has no neighbours, and says nothing of its own: its mode is set before it is up."""
    mute = _attribute(socket.AF_INET6, _attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes((_MODE_NONE,))))
    attributes = _attribute(_IFLA_MTU, struct.pack("=I", _MTU)) + _attribute(_IFLA_AF_SPEC, mute)
    _ask(_RTM_NEWLINK, 0, _LINK.pack(0, 0, index, 0, 0) + attributes)
    flags = _IFF_UP | _IFF_NOARP
    _ask(_RTM_NEWLINK, 0, _LINK.pack(0, 0, index, flags, flags))


def _attribute(kind: int, value: bytes) -> bytes:
    size = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(size, kind) + value + bytes(-size % 4)


def _ask(kind: int, flags: int, body: bytes) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as ask:
        ask.settimeout(5.0)
        ask.send(_HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | _ACK | flags, 1, 0) + body)
        answer = ask.recv(4096)
    _size, said, *_ = _HEADER.unpack_from(answer)
    (error,) = struct.unpack_from("=i", answer, _HEADER.size)
    if said == _NLMSG_ERROR and error:
        raise OSError(-error, "the pair of interfaces that joins packets was refused")


def _request(name: str, data: bytearray) -> bytes:
    """Return a struct ifreq that points at `data`, which has to live as long as the call."""
    where = ctypes.addressof(ctypes.c_char.from_buffer(data))
    return struct.pack("=16sQ16x", name.encode(), where)
