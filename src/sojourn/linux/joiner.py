"""Two interfaces in which the kernel joins the TCP packets that the kernel path has unwrapped, before they go on.

    arrive ─► DEVICE-j0 ═ veth ═► DEVICE-j1 (GRO) ─► DEVICE

A network card's GRO has passed when a tunnel's packet is unwrapped, and it does not know our header. So each packet
would go through routing, NAT and TCP alone; behind this pair up to 64 KiB go as one. OSError is the kernel's refusal.
"""

import contextlib
import socket
import struct
from typing import Final

from sojourn.linux import ethtool
from sojourn.linux.rtnetlink import ACK, CREATE, ERROR, EXCLUSIVE, ask, attribute

_NAME_BYTES: Final = 15
_MTU: Final = 65535
"""A veth's largest: what comes in whole goes through whole."""

# <linux/rtnetlink.h>, <linux/if_link.h>, <linux/veth.h>, <linux/if.h>
_RTM_NEWLINK, _RTM_DELLINK = 16, 17
_IFLA_MTU, _IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_AF_SPEC = 4, 3, 18, 26
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFLA_INET6_ADDR_GEN_MODE, _MODE_NONE = 8, 1
_IFF_UP, _IFF_NOARP = 0x1, 0x80
_LINK: Final = struct.Struct("=BxHiII")


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
    # A veth joins nothing that comes from one which takes super-packets (veth_skb_is_eligible_for_gro).
    ethtool.ask(into, ethtool.SET_TSO, 0)
    ethtool.ask(out, ethtool.SET_GRO, 1)
    return *found, ethtool.hardware(out).address[:6]


def remove(device: str) -> bool:
    """Remove the pair, and say whether it was there."""
    try:
        index = socket.if_nametoindex(names(device)[0])
    except OSError:
        return False
    _order(_RTM_DELLINK, 0, _LINK.pack(0, 0, index, 0, 0))
    return True


def _make(into: str, out: str) -> None:
    peer = _LINK.pack(0, 0, 0, 0, 0) + attribute(_IFLA_IFNAME, out.encode() + b"\0")
    data = attribute(_IFLA_INFO_DATA, attribute(_VETH_INFO_PEER, peer))
    about = attribute(_IFLA_LINKINFO, attribute(_IFLA_INFO_KIND, b"veth") + data)
    name = attribute(_IFLA_IFNAME, into.encode() + b"\0")
    _order(_RTM_NEWLINK, CREATE | EXCLUSIVE, _LINK.pack(0, 0, 0, 0, 0) + name + about)


def _set_up(index: int) -> None:
    """Bring one up. It has no neighbours, and says nothing of its own: its mode is set before it is up."""
    mute = attribute(socket.AF_INET6, attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes((_MODE_NONE,))))
    attributes = attribute(_IFLA_MTU, struct.pack("=I", _MTU)) + attribute(_IFLA_AF_SPEC, mute)
    _order(_RTM_NEWLINK, 0, _LINK.pack(0, 0, index, 0, 0) + attributes)
    flags = _IFF_UP | _IFF_NOARP
    _order(_RTM_NEWLINK, 0, _LINK.pack(0, 0, index, flags, flags))


def _order(kind: int, flags: int, body: bytes) -> None:
    said, answer = ask(kind, ACK | flags, body, patience=5.0)
    (error,) = struct.unpack_from("=i", answer)
    if said == ERROR and error:
        raise OSError(-error, "the pair of interfaces that joins packets was refused")
