"""Asks the kernel for the way to one address: rtnetlink's RTM_GETROUTE, without a library (some 20 us)."""

import socket
import struct
from ipaddress import ip_address
from typing import Final, NamedTuple

# <linux/rtnetlink.h>, <linux/netlink.h>
_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_NLM_F_REQUEST: Final = 1
_RTA_DST, _RTA_SRC, _RTA_OIF, _RTA_PREFSRC = 1, 2, 4, 7
_HEADER: Final = struct.Struct("=IHHII")
_ROUTE: Final = struct.Struct("=8BI")
_ATTRIBUTE: Final = struct.Struct("=HH")
_INET, _INET6 = 2, 10


class RouteTo(NamedTuple):
    """Which interface packets leave by, and the source that they get where they have none."""

    interface: int
    source: str


def route_to(destination: str, source: str = "") -> RouteTo | None:
    """Return the way of packets from `source` (any, if empty) to `destination`, or None where there is none."""
    target = ip_address(destination).packed
    attributes = _attribute(_RTA_DST, target)
    if source:
        attributes += _attribute(_RTA_SRC, ip_address(source).packed)
    bits = len(target) * 8
    body = _ROUTE.pack(_INET if bits == 32 else _INET6, bits, bits if source else 0, 0, 0, 0, 0, 0, 0) + attributes
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as ask:
        ask.settimeout(1.0)
        ask.send(_HEADER.pack(_HEADER.size + len(body), _RTM_GETROUTE, _NLM_F_REQUEST, 1, 0) + body)
        answer = ask.recv(4096)
    _size, kind, *_ = _HEADER.unpack_from(answer)
    if kind != _RTM_NEWROUTE:
        return None  # NLMSG_ERROR: no route
    return _read(answer[_HEADER.size + _ROUTE.size :], source)


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value


def _read(data: bytes, source: str) -> RouteTo | None:
    interface = 0
    while len(data) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(data)
        if size < _ATTRIBUTE.size:
            break
        value = data[_ATTRIBUTE.size : size]
        if kind == _RTA_OIF:
            (interface,) = struct.unpack("=I", value)
        elif kind == _RTA_PREFSRC:
            source = source or str(ip_address(value))
        data = data[(size + 3) & ~3 :]
    return RouteTo(interface, source) if interface and source else None
