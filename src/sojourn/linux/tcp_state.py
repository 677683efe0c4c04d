"""What the kernel knows of a TCP connection's bytes, and how one is made deaf or cut.

Positions here count the application's bytes on one connection. They come from the kernel's own counters
(TCP_INFO since Linux 4.1, SIOCINQ, SIOCOUTQ), so that they are right also for whoever takes the
descriptor over from a process that died between two system calls.
"""

import ctypes
import fcntl
import socket
import struct
from typing import Final

from msgspec import Struct

SIOCINQ: Final = 0x541B
SIOCOUTQ: Final = 0x5411
TCP_INQ: Final = 36
SO_ATTACH_FILTER: Final = 26
IP_MINTTL: Final = 21
IPV6_MINHOPCOUNT: Final = 73
BPF_RET_NOTHING: Final = struct.pack("HBBI", 0x06, 0, 0, 0)
"""One classic BPF instruction: drop the packet."""
_INFO_BYTES: Final = 136
_ACKED_AND_RECEIVED = struct.Struct("QQ")
_AT: Final = 120
"""tcpi_bytes_acked and tcpi_bytes_received in struct tcp_info (linux/tcp.h)."""

_PATH_BYTES: Final = 220
_PATH: Final = (("II", 68), ("I", 100), ("I", 156), ("I", 216))
"""tcpi_rtt and tcpi_rttvar (us), tcpi_total_retrans, tcpi_data_segs_out (Linux 4.6), tcpi_dsack_dups (4.19)."""

ESTABLISHED, FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSE, CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING = 1, 4, 5, 6, 7, 8, 9, 10, 11
PEER_FINISHED: Final = frozenset({TIME_WAIT, CLOSE_WAIT, LAST_ACK, CLOSING})
WE_FINISHED: Final = frozenset({FIN_WAIT1, FIN_WAIT2, TIME_WAIT, LAST_ACK, CLOSING})


class Progress(Struct, frozen=True):
    """How far a connection has come."""

    state: int
    consumed: int
    """Bytes that were read from it."""
    given: int
    """Bytes that were written to it. One more on the end that connected: the kernel counts its SYN; and in state CLOSE
    one more if our FIN was sent."""
    unacknowledged: int
    ended: bool
    """The peer's FIN was received, whatever came after it."""


def progress(sock: socket.socket) -> Progress:
    """Read the counters, as of one moment. Takes the error away that a reset has left (see `heard_end`)."""
    while True:
        data = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        waiting, unread = _ioctl(sock, SIOCOUTQ), _ioctl(sock, SIOCINQ)
        again = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        if data[0] == again[0] and data[_AT:] == again[_AT:]:
            break
    acked, received = _ACKED_AND_RECEIVED.unpack_from(data, _AT)
    state = data[0]
    ended = state in PEER_FINISHED or (state == CLOSE and heard_end(sock))
    return Progress(state, received - unread - ended, acked + waiting - (state in WE_FINISHED), waiting, ended)


def heard_end(sock: socket.socket) -> bool:
    """Say of a connection in state CLOSE whether its peer had finished; else it was reset, or has timed out.

    TCP_INFO does not tell, and counts a FIN as a byte. But TCP_INQ (Linux 4.18) counts it, too, and SIOCINQ does not.
    Where nothing is left to read, the error is taken away by looking: the next recv() finds an end in both cases.
    """
    try:
        sock.setsockopt(socket.IPPROTO_TCP, TCP_INQ, 1)
        ancillary = sock.recvmsg(1, socket.CMSG_SPACE(4), socket.MSG_PEEK | socket.MSG_DONTWAIT)[1]
        sock.setsockopt(socket.IPPROTO_TCP, TCP_INQ, 0)
    except OSError:  # nothing to read, and no FIN: then this would have been an end, whatever followed
        return False
    counted = [content for level, kind, content in ancillary if (level, kind) == (socket.IPPROTO_TCP, TCP_INQ)]
    return bool(counted) and struct.unpack("i", counted[0])[0] != unread(sock)


class PathSeen(Struct, frozen=True):
    """What a connection has seen of its way; segments are those with data."""

    rtt: float
    """Seconds, smoothed (RFC 6298); what was sent twice is no measure of it. 0: nothing was measured yet."""
    rttvar: float
    sent: int
    lost: int
    """Sent again, but for those that the peer says it had already."""


def path_seen(sock: socket.socket) -> PathSeen:
    """Read what the kernel knows of the way to the peer. Raises OSError."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _PATH_BYTES)
    (rtt, rttvar), (again,), (sent,), (twice,) = (struct.unpack_from(shape, info, at) for shape, at in _PATH)
    return PathSeen(rtt / 1e6, rttvar / 1e6, sent, max(again - twice, 0))


def unread(sock: socket.socket) -> int:
    """Return how many bytes wait in the receive queue: they are acknowledged, and stay readable after a reset."""
    return _ioctl(sock, SIOCINQ)


def unacknowledged(sock: socket.socket) -> int:
    """Return how many bytes were written and are not acknowledged; a FIN that is not counts as one."""
    return _ioctl(sock, SIOCOUTQ)


def deafen(sock: socket.socket) -> None:
    """Let the kernel drop whatever arrives from now on, so that nothing more is acknowledged. Raises OSError.

    By a filter; where only those may have one who have a right over BPF, by the TTL that anybody may ask for: nothing
    that a router has passed on has 255 left, nor what Linux has sent (RFC 5082).
    """
    instruction = ctypes.create_string_buffer(BPF_RET_NOTHING)
    program = struct.pack("HP", 1, ctypes.addressof(instruction))
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
    except PermissionError:
        deafen_by_ttl(sock)


def deafen_by_ttl(sock: socket.socket) -> None:
    """Do it without any right. Raises OSError."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MINHOPCOUNT, 255)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_MINTTL, 255)


def reset(sock: socket.socket) -> None:
    """Close with RST: what is unsent is dropped, and the peer is told."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    finally:
        sock.close()


def prepare(sock: socket.socket, *, idle_s: int = 60, lost_s: int = 0) -> None:
    """Set what every relayed connection has: no waiting for more bytes, and probes when it is silent.

    An urgent byte is a byte of the stream like any other: taken out of it, no position behind it would be right.
    `lost_s`: seconds without an acknowledgement after which it is lost; 0: as the kernel says, some 15 minutes.
    """
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle_s)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, lost_s * 1000)


def _ioctl(sock: socket.socket, number: int) -> int:
    (value,) = struct.unpack("i", fcntl.ioctl(sock, number, b"\0\0\0\0"))
    return int(value)
