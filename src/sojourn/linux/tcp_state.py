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
SO_ATTACH_FILTER: Final = 26
IP_MINTTL: Final = 21
IPV6_MINHOPCOUNT: Final = 73
BPF_RET_NOTHING: Final = struct.pack("HBBI", 0x06, 0, 0, 0)
"""One classic BPF instruction: drop the packet."""
_INFO_BYTES: Final = 136
_ACKED_AND_RECEIVED = struct.Struct("QQ")
_AT: Final = 120
"""tcpi_bytes_acked and tcpi_bytes_received in struct tcp_info (linux/tcp.h)."""

ESTABLISHED, FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSE, CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING = 1, 4, 5, 6, 7, 8, 9, 10, 11
PEER_FINISHED: Final = frozenset({TIME_WAIT, CLOSE_WAIT, LAST_ACK, CLOSING})
WE_FINISHED: Final = frozenset({FIN_WAIT1, FIN_WAIT2, TIME_WAIT, LAST_ACK, CLOSING})


class Progress(Struct, frozen=True):
    """How far a connection has come."""

    state: int
    consumed: int
    """Bytes that were read from it. In state CLOSE one too many if the peer had finished."""
    given: int
    """Bytes that were written to it. One more on the end that connected: the kernel counts its SYN."""
    unacknowledged: int


def progress(sock: socket.socket) -> Progress:
    """Read the counters, as of one moment."""
    while True:
        data = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        waiting, unread = _ioctl(sock, SIOCOUTQ), _ioctl(sock, SIOCINQ)
        again = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        if data[0] == again[0] and data[_AT:] == again[_AT:]:
            break
    acked, received = _ACKED_AND_RECEIVED.unpack_from(data, _AT)
    state = data[0]
    finished = state in PEER_FINISHED
    return Progress(state, received - unread - finished, acked + waiting - (state in WE_FINISHED), waiting)


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

    `lost_s`: seconds without an acknowledgement after which it is lost; 0: as the kernel says, some 15 minutes.
    """
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle_s)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, lost_s * 1000)


def _ioctl(sock: socket.socket, number: int) -> int:
    (value,) = struct.unpack("i", fcntl.ioctl(sock, number, b"\0\0\0\0"))
    return int(value)
