"""TCP_REPAIR: a connection's numbers read, and its socket kept as a mere reservation of the addresses and ports.

A *parked* socket is established as far as the kernel's tables go, but has no timers, sends nothing and drops
whatever arrives: a spliced connection's packets never reach it, and a stray one is not answered with RST. Its
descriptor stays the same one. All here needs CAP_NET_ADMIN; errors are OSErrors.
"""

import contextlib
import ctypes
import errno
import os
import socket
import struct
from typing import Final

from msgspec import Struct

from sojourn.linux import tcp_state

# <linux/tcp.h>
TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ, TCP_REPAIR_OPTIONS, TCP_TIMESTAMP = 19, 20, 21, 22, 24
TCP_REPAIR_WINDOW: Final = 29
_ON, _OFF_SILENTLY = 1, -1
_NO_QUEUE, _RECEIVE, _SEND = 0, 1, 2
_MSS, _WINDOW, _SACK, _TIMESTAMPS = 2, 3, 4, 8
OPTION_TIMESTAMPS, OPTION_SACK, OPTION_WINDOW, OPTION_ECN = 1, 2, 4, 8
"""Bits of tcpi_options."""
_INFO_BYTES: Final = 152
_WINDOW_AT: Final = 228
_WINDOWS: Final = struct.Struct("=IIIII")
"""struct tcp_repair_window."""
FIRST_WINDOW: Final = 16384
"""Bytes that a revived connection may send before its peer has said anything."""
_SO_DETACH_FILTER: Final = 27
_TCP: Final = socket.IPPROTO_TCP

_libc = ctypes.CDLL(None, use_errno=True)


class Terms(Struct, frozen=True):
    """What the two ends of a connection have agreed on."""

    options: int
    send_scale: int
    """By how many bits the windows that the peer tells are shifted."""
    receive_scale: int
    """The same of those that we tell."""
    send_mss: int
    """Bytes of payload and options that the peer takes in one segment."""
    advertised_mss: int

    def has(self, option: int) -> bool:
        """Say whether an option is in use."""
        return bool(self.options & option)


class Numbers(Struct, frozen=True):
    """Where a connection stands."""

    sends: int
    """Sequence number of the next byte that is written to it."""
    expects: int
    """Of the next byte that the peer sends."""


def terms(sock: socket.socket) -> Terms:
    """Read what was agreed on."""
    info = sock.getsockopt(_TCP, socket.TCP_INFO, _INFO_BYTES)
    options, scales = info[5], info[6]
    mss, (advertised,) = struct.unpack_from("=I", info, 16)[0], struct.unpack_from("=I", info, 84)
    if options & OPTION_TIMESTAMPS:
        mss += 12  # the kernel gives what is left of it
    scaled = options & OPTION_WINDOW
    return Terms(options, scales & 15 if scaled else 0, scales >> 4 if scaled else 0, mss, advertised)


def is_sent(sock: socket.socket) -> bool:
    """Say whether all that was written has left at least once."""
    (left,) = struct.unpack_from("=I", sock.getsockopt(_TCP, socket.TCP_INFO, _INFO_BYTES), 144)
    return not left


def window_edge(sock: socket.socket, at: int) -> int:
    """Return the end of what the peer lets us send, where the next byte that is written has the number `at`.

    tcpi_snd_wnd: Linux 5.4.
    """
    window: int = struct.unpack_from("=I", sock.getsockopt(_TCP, socket.TCP_INFO, _WINDOW_AT + 4), _WINDOW_AT)[0]
    return (at + window - tcp_state.unacknowledged(sock)) & 0xFFFFFFFF


def can_repair(sock: socket.socket) -> None:
    """Raise OSError where this process may not do any of this."""
    sock.setsockopt(_TCP, TCP_REPAIR, _ON)
    sock.setsockopt(_TCP, TCP_REPAIR, _OFF_SILENTLY)


def numbers(sock: socket.socket) -> Numbers:
    """Read where a connection stands. Nothing is sent.

    The kernel takes SO_REUSEADDR away with the repair; without it, nobody could listen at the port anew after a crash.
    """
    shared = sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    sock.setsockopt(_TCP, TCP_REPAIR, _ON)
    try:
        return Numbers(_queue_seq(sock, _SEND), _queue_seq(sock, _RECEIVE))
    finally:
        sock.setsockopt(_TCP, TCP_REPAIR, _OFF_SILENTLY)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, shared)


def clock(sock: socket.socket) -> int:
    """Return the TSval that a segment sent now would have."""
    return int(sock.getsockopt(_TCP, TCP_TIMESTAMP)) & 0xFFFFFFFF


def acknowledge(sock: socket.socket) -> None:
    """Let an acknowledgement that the kernel was about to send leave now."""
    sock.setsockopt(_TCP, socket.TCP_QUICKACK, 1)


def park(sock: socket.socket, at: Numbers) -> None:
    """Make a connection's socket a reservation. What was in its queues is dropped; the peer is told nothing."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0)
    tcp_state.deafen(sock)
    _set_up_again(sock, at)


def revive(sock: socket.socket, at: Numbers, agreed: Terms, said: int | None = None) -> None:
    """Make a parked socket a connection again, which goes on at these numbers.

    `said`: the highest TSval that the peer has seen, if that was not the socket's own: an older one it would drop
    (RFC 7323 §5).
    """
    _set_up_again(sock, at)
    offered = [(_MSS, agreed.send_mss)]
    if agreed.has(OPTION_WINDOW):
        offered.append((_WINDOW, agreed.send_scale | agreed.receive_scale << 16))
    if agreed.has(OPTION_SACK):
        offered.append((_SACK, 0))
    if agreed.has(OPTION_TIMESTAMPS):
        offered.append((_TIMESTAMPS, 0))
    if agreed.has(OPTION_TIMESTAMPS) and said is not None:
        # The lowest bit chooses microseconds (Linux 6.7).
        sock.setsockopt(_TCP, TCP_TIMESTAMP, struct.pack("=I", (said + 2) & 0xFFFFFFFE))
    sock.setsockopt(_TCP, TCP_REPAIR_OPTIONS, b"".join(struct.pack("=II", *one) for one in offered))
    # What the kernel has by itself would make it ignore the peer's window, and send nothing.
    *_, receives, told = _WINDOWS.unpack(sock.getsockopt(_TCP, TCP_REPAIR_WINDOW, _WINDOWS.size))
    window = _WINDOWS.pack((at.expects - 1) & 0xFFFFFFFF, FIRST_WINDOW, FIRST_WINDOW, receives, told)
    sock.setsockopt(_TCP, TCP_REPAIR_WINDOW, window)
    sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
    sock.setsockopt(_TCP, TCP_REPAIR, _OFF_SILENTLY)


def counted(sock: socket.socket) -> tuple[bytes, Numbers]:
    """Read all that waits in a connection, and where it stands then."""
    data = b""
    while True:
        while waiting := tcp_state.unread(sock):
            data += sock.recv(waiting)
        at = numbers(sock)
        if not tcp_state.unread(sock):
            return data, at


def forget(sock: socket.socket) -> None:
    """Close a socket without a word to its peer."""
    try:
        sock.setsockopt(_TCP, TCP_REPAIR, _ON)
    finally:
        sock.close()


def _queue_seq(sock: socket.socket, queue: int) -> int:
    sock.setsockopt(_TCP, TCP_REPAIR_QUEUE, queue)
    return int(sock.getsockopt(_TCP, TCP_QUEUE_SEQ)) & 0xFFFFFFFF


def _set_up_again(sock: socket.socket, at: Numbers) -> None:
    """Disconnect in silence and connect in silence, with other numbers."""
    local, remote = sock.getsockname(), sock.getpeername()
    sock.setsockopt(_TCP, TCP_REPAIR, _ON)
    _disconnect(sock)
    with contextlib.suppress(OSError):  # EINVAL: it has kept its port
        sock.bind(local)
    for queue, number in ((_SEND, at.sends), (_RECEIVE, at.expects)):
        sock.setsockopt(_TCP, TCP_REPAIR_QUEUE, queue)
        sock.setsockopt(_TCP, TCP_QUEUE_SEQ, struct.pack("=I", number))
    sock.setsockopt(_TCP, TCP_REPAIR_QUEUE, _NO_QUEUE)
    sock.connect(remote)
    if sock.getsockname() != local:
        raise OSError(errno.EADDRINUSE, f"{local[0]} port {local[1]} cannot be kept")


def _disconnect(sock: socket.socket) -> None:
    nobody = ctypes.create_string_buffer(16)  # AF_UNSPEC
    if _libc.connect(sock.fileno(), nobody, len(nobody)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"disconnecting: {os.strerror(number)}")
