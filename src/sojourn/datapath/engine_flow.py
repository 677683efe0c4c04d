"""What both hot loops ask of a packet: whether it is ordinary, which flow it is of, and by what it travels."""

from collections.abc import Callable
from typing import Final

from sojourn.datapath.outlets import Outlet
from sojourn.i3.handshake import Session
from sojourn.model import Endpoint
from sojourn.upmt.peer_commands import HOME
from sojourn.upmt.tunnel import Tunnel

TCP: Final = 6
UDP: Final = 17
UNUSUAL_FLAGS: Final = 0x80 | 4 | 2 | 1
"""CWR, RST, SYN, FIN: they are rare, and the slow path has something to do about each."""
PSH: Final = 8

Note = Callable[[float, int, int], None]
"""(now, packets, bytes of UDP payload)."""


class Lane:
    """The direct path to one peer: what the hot loops need of it is what they need of a tunnel."""

    fast = True
    may_fragment = False
    association = HOME

    def __init__(
        self, session: Session, home: bytes, outer: Endpoint, inner_mtu: int, outlet: Outlet, sent: Note, heard: Note
    ) -> None:
        """`home`: the peer's home address, of which alone flows may come; `sent`, `heard`: as a tunnel's."""
        self.id, self.sealer, self.opener = session.index, session.sealer, session.opener
        self.home, self.outer, self.inner_mtu, self.outlet = home, outer, inner_mtu, outlet
        self.sent, self.heard = sent, heard


Way = Tunnel | Lane


def ordinary(data: bytearray, o: int, length: int, inbound: bool) -> tuple[int, int, bytes] | None:
    """Return (bytes of IP header, protocol, flow key) of the packet of `length` bytes at `o`.

    None unless it is whole, has TCP or UDP right after an IP header without options, and is no fragment.
    The key is that of packet/ip.py, and so is the meaning of `inbound`.
    """
    if length < 28:
        return None
    if data[o] == 0x45:
        at, protocol = 20, data[o + 9]
        if data[o + 6] & 0x3F or data[o + 7] or data[o + 2] << 8 | data[o + 3] != length:
            return None
        if inbound:
            # protocol, destination, source, destination port, source port
            key = b"".join((data[o + 9 : o + 10], data[o + 16 : o + 20], data[o + 12 : o + 16],
                            data[o + 22 : o + 24], data[o + 20 : o + 22]))  # fmt: skip
        else:
            key = bytes(data[o + 9 : o + 10] + data[o + 12 : o + 24])
    elif data[o] >> 4 == 6 and length >= 48:
        at, protocol = 40, data[o + 6]
        if data[o + 4] << 8 | data[o + 5] != length - 40:
            return None
        if inbound:
            key = b"".join((data[o + 6 : o + 7], data[o + 24 : o + 40], data[o + 8 : o + 24],
                            data[o + 42 : o + 44], data[o + 40 : o + 42]))  # fmt: skip
        else:
            key = bytes(data[o + 6 : o + 7] + data[o + 8 : o + 44])
    else:
        return None
    if protocol == TCP:
        return None if length < at + 20 or data[o + at + 13] & UNUSUAL_FLAGS else (at, protocol, key)
    return (at, protocol, key) if protocol == UDP else None
