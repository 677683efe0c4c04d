"""Asks the kernel for the way to one address: rtnetlink's RTM_GETROUTE."""

import struct
from ipaddress import ip_address
from typing import Final, NamedTuple

from sojourn.linux.rtnetlink import ATTRIBUTE, ask, attribute

# <linux/rtnetlink.h>
_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_RTA_DST, _RTA_SRC, _RTA_OIF, _RTA_PREFSRC = 1, 2, 4, 7
_ROUTE: Final = struct.Struct("=8BI")
_INET, _INET6 = 2, 10


class RouteTo(NamedTuple):
    """Which interface packets leave by, and the source that they get where they have none."""

    interface: int
    source: str


def route_to(destination: str, source: str = "") -> RouteTo | None:
    """Return the way of packets from `source` (any, if empty) to `destination`, or None where there is none."""
    target = ip_address(destination).packed
    attributes = attribute(_RTA_DST, target)
    if source:
        attributes += attribute(_RTA_SRC, ip_address(source).packed)
    bits = len(target) * 8
    body = _ROUTE.pack(_INET if bits == 32 else _INET6, bits, bits if source else 0, 0, 0, 0, 0, 0, 0) + attributes
    said, answer = ask(_RTM_GETROUTE, 0, body, patience=1.0)
    if said != _RTM_NEWROUTE:
        return None  # an error: no route
    return _read(answer[_ROUTE.size :], source)


def _read(data: bytes, source: str) -> RouteTo | None:
    interface = 0
    while len(data) >= ATTRIBUTE.size:
        size, kind = ATTRIBUTE.unpack_from(data)
        if size < ATTRIBUTE.size:
            break
        value = data[ATTRIBUTE.size : size]
        if kind == _RTA_OIF:
            (interface,) = struct.unpack("=I", value)
        elif kind == _RTA_PREFSRC:
            source = source or str(ip_address(value))
        data = data[(size + 3) & ~3 :]
    return RouteTo(interface, source) if interface and source else None
