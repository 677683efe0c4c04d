"""UDP sockets for tunnels: batches by UDP_SEGMENT and UDP_GRO, ECN both ways, no path-MTU memory of the kernel's.

A host has one socket a network, bound to its interface and address; an anchor one for each address
that it listens on. One bound to a wildcard answers from the address that it was asked at (`via`).
"""

import errno
import socket
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from sojourn.model import Endpoint
from sojourn.packet.checksum import Buffer

# linux/udp.h, linux/in.h, linux/in6.h, asm-generic/socket.h
SOL_UDP: Final = 17
UDP_SEGMENT: Final = 103
UDP_GRO: Final = 104
IP_TOS, IP_PKTINFO, IP_MTU_DISCOVER, IP_RECVTOS = 1, 8, 10, 13
IPV6_MTU_DISCOVER, IPV6_RECVPKTINFO, IPV6_PKTINFO, IPV6_RECVTCLASS, IPV6_TCLASS = 23, 49, 50, 66, 67
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
PMTUDISC_DONT, PMTUDISC_PROBE = 0, 3

BUFFER_BYTES: Final = 8 << 20
MAX_SEGMENTS: Final = 64
"""UDP_MAX_SEGMENTS before Linux 6.9 (128 since)."""
MAX_DATAGRAM: Final = 65535 - 48
"""What one call may carry, all segments together, so that it is one super-packet with IPv6 headers, too."""
ANCILLARY_BYTES: Final = 128
NOT_SENT_FULL: Final = frozenset((errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM))
"""The queue is full: the packet is lost, as a router would lose it."""
NOT_SENT_GONE: Final = frozenset((errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENODEV, errno.ENXIO,
                                  errno.EADDRNOTAVAIL))  # fmt: skip
"""The network under the socket has gone."""

Address = tuple[str, int] | tuple[str, int, int, int]
Ancillary = tuple[int, int, bytes]

_INT = struct.Struct("=i")
_SEGMENT = struct.Struct("=H")


class Received(NamedTuple):
    """One call's worth of datagrams, all from one source."""

    size: int
    """Bytes in all."""
    segment: int
    """Bytes of each datagram; the last may be shorter."""
    ecn: int
    source: Address
    via: Ancillary | None
    """What makes an answer leave from the address that these came to; None when the socket is bound to one."""


class UdpSocket:
    """One bound socket, not blocking."""

    def __init__(self, sock: socket.socket, *, gso: bool = True, gro: bool = True) -> None:
        """Take over a bound socket and set everything on it that a tunnel needs."""
        self.socket = sock
        self.fd = sock.fileno()
        self.six = sock.family == socket.AF_INET6
        bound = sock.getsockname()
        self.local = Endpoint(bound[0].partition("%")[0], bound[1])
        self.wildcard = self.local.address in ("0.0.0.0", "::")
        self.gso = gso
        sock.setblocking(False)
        self._set_buffers()
        sock.setsockopt(SOL_UDP, UDP_GRO, int(gro))
        self.fragment(False)
        if self.six:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVTCLASS, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, int(self.wildcard))
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_RECVTOS, 1)
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, int(self.wildcard))

    @classmethod
    def open(cls, local: Endpoint, interface: str = "", *, gso: bool = True, gro: bool = True) -> "UdpSocket":
        """Open a socket on `local`; its packets leave and arrive by `interface` only, if one is named."""
        six = ":" in local.address
        sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            if six:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if interface:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
            sock.bind(_scoped(local, interface))
            return cls(sock, gso=gso, gro=gro)
        except BaseException:
            sock.close()
            raise

    @classmethod
    def adopt(cls, fd: int, *, gso: bool = True, gro: bool = True) -> "UdpSocket":
        """Take over the descriptor of a socket that another process has opened and bound."""
        return cls(socket.socket(fileno=fd), gso=gso, gro=gro)

    def _set_buffers(self) -> None:
        for forced, modest in ((SO_SNDBUFFORCE, socket.SO_SNDBUF), (SO_RCVBUFFORCE, socket.SO_RCVBUF)):
            try:
                self.socket.setsockopt(socket.SOL_SOCKET, forced, BUFFER_BYTES)
            except PermissionError:
                self.socket.setsockopt(socket.SOL_SOCKET, modest, BUFFER_BYTES)

    def fragment(self, allowed: bool) -> None:
        """Let packets be fragmented on their way (`allowed`), or set DF and let no ICMP message lower the size.

        The tunnel measures its path MTU by itself (RFC 8899): what a router claims is not authenticated.
        """
        mode = PMTUDISC_DONT if allowed else PMTUDISC_PROBE
        if self.six:
            self.socket.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, mode)
        else:
            self.socket.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, mode)

    def ecn_control(self, ecn: int) -> list[Ancillary]:
        """Return what makes a message leave with this ECN field."""
        if not ecn:
            return []
        return [
            (socket.IPPROTO_IPV6, IPV6_TCLASS, _INT.pack(ecn))
            if self.six
            else (socket.IPPROTO_IP, IP_TOS, _INT.pack(ecn))
        ]

    def send(self, data: Buffer, destination: Address, *, ecn: int = 0, via: Ancillary | None = None) -> None:
        """Send one datagram. OSError as the system says (NOT_SENT_FULL, NOT_SENT_GONE, EMSGSIZE)."""
        control = self.ecn_control(ecn)
        if via is not None:
            control.append(via)
        self.socket.sendmsg((data,), control, 0, destination)

    def receive(self, buffers: Sequence[bytearray | memoryview]) -> Received | None:
        """Read the next datagrams into `buffers`, or return None when none waits."""
        try:
            size, control, _flags, source = self.socket.recvmsg_into(buffers, ANCILLARY_BYTES)
        except (BlockingIOError, ConnectionError):
            return None
        segment, ecn, via = size, 0, None
        for level, kind, data in control:
            if kind == UDP_GRO and level == SOL_UDP:
                segment = _INT.unpack_from(data)[0]
            elif kind in (IP_TOS, IPV6_TCLASS):
                ecn = (data[0] if len(data) == 1 else _INT.unpack_from(data)[0]) & 3
            elif kind in (IP_PKTINFO, IPV6_PKTINFO):
                via = _answer_from(level, kind, data)
        return Received(size, segment, ecn, source, via)

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


def segment_control(size: int) -> Ancillary:
    """Return what makes a message leave as datagrams of `size` bytes."""
    return SOL_UDP, UDP_SEGMENT, _SEGMENT.pack(size)


def _answer_from(level: int, kind: int, data: bytes) -> Ancillary:
    """Turn the address that a packet came to into the one that the answer leaves from.

    struct in_pktinfo is (index, local address, header's destination), in6_pktinfo (address, index); the
    index is taken out, so that routing alone picks the interface, as it does for any server.
    """
    if kind == IP_PKTINFO:
        return level, kind, bytes(4) + data[8:12] + bytes(4)
    return level, kind, data[:16] + (data[16:20] if data[0] == 0xFE and data[1] & 0xC0 == 0x80 else bytes(4))


def _scoped(local: Endpoint, interface: str) -> Address:
    if local.address.startswith("fe80:") and interface:
        return local.address, local.port, 0, socket.if_nametoindex(interface)
    return local.address, local.port
