"""UDP sockets of a server that looks at each datagram by itself, many a wake-up: rendezvous nodes.

What comes in one burst from one source, in datagrams of one size, is read by one call (UDP_GRO), and what goes so to
one destination is sent by one (UDP_SEGMENT). A datagram of more than `MAX_DATAGRAM` bytes comes as an empty one: it is
of no use, and is counted as such.
"""

import contextlib
import errno
import socket
import struct
from collections.abc import Sequence
from typing import Final

from sojourn.linux.udp import (
    IP_MTU_DISCOVER,
    IPV6_MTU_DISCOVER,
    MAX_SEGMENTS,
    PMTUDISC_PROBE,
    SO_RCVBUFFORCE,
    SO_SNDBUFFORCE,
    SOL_UDP,
    UDP_GRO,
    UDP_SEGMENT,
)
from sojourn.model import Endpoint

MAX_DATAGRAM: Final = 9000
"""A jumbo frame's."""
BUFFER_BYTES: Final = 4 << 20
MAX_RUN_BYTES: Final = 65000
_MOST_BYTES: Final = 65536
_ANCILLARY_BYTES: Final = 32
_INT, _SHORT = struct.Struct("=i"), struct.Struct("=H")

Address = tuple[str, int]


class DatagramSocket:
    """One bound socket, not blocking."""

    def __init__(self, local: Endpoint) -> None:
        """Bind. OSError as the system says."""
        self.six = ":" in local.address
        family = socket.AF_INET6 if self.six else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            if self.six:
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            for forced, modest in ((SO_SNDBUFFORCE, socket.SO_SNDBUF), (SO_RCVBUFFORCE, socket.SO_RCVBUF)):
                with contextlib.suppress(PermissionError):
                    self.socket.setsockopt(socket.SOL_SOCKET, modest, BUFFER_BYTES)
                    self.socket.setsockopt(socket.SOL_SOCKET, forced, BUFFER_BYTES)
            # As for tunnels: peers measure their path, and what a router claims is not authenticated (RFC 8899).
            if self.six:
                self.socket.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
            else:
                self.socket.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
            with contextlib.suppress(OSError):  # before Linux 5.0 one at a time
                self.socket.setsockopt(SOL_UDP, UDP_GRO, 1)
            self.socket.setblocking(False)
            self.socket.bind((local.address, local.port))
        except BaseException:
            self.socket.close()
            raise
        self._receive, self._send = self.socket.recvmsg, self.socket.sendto
        bound = self.socket.getsockname()
        self.local = Endpoint(bound[0], bound[1])

    def receive(self) -> tuple[Sequence[bytes], Address] | None:
        """Return the next datagrams, all from one source, and that; None when none waits."""
        try:
            data, control, _, source = self._receive(_MOST_BYTES, _ANCILLARY_BYTES)
        except (BlockingIOError, ConnectionError):
            return None
        size = _INT.unpack(control[0][2])[0] if control else len(data)
        datagrams: Sequence[bytes]
        if size > MAX_DATAGRAM:
            datagrams = (b"",) * -(-len(data) // size)
        elif size < len(data):
            datagrams = [data[at : at + size] for at in range(0, len(data), size)]
        else:
            datagrams = (data,)
        return datagrams, source[:2] if self.six else source

    def send(self, data: bytes, destination: Address) -> str | None:
        """Send a datagram; return why it could not be sent, as the system's word for it, or None."""
        try:
            self._send(data, destination)
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, "OSError")
        return None

    def send_run(self, run: Sequence[bytes], destination: Address) -> list[str]:
        """Send datagrams of one size (the last may be shorter), as `runs` gives them; return why some were not sent."""
        if len(run) > 1:
            control = [(SOL_UDP, UDP_SEGMENT, _SHORT.pack(len(run[0])))]
            with contextlib.suppress(OSError):  # too long for one call, or for this path: each by itself
                self.socket.sendmsg(run, control, 0, destination)
                return []
        failures = (self.send(data, destination) for data in run)
        return [why for why in failures if why is not None]

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


def runs(sends: Sequence[tuple[bytes, Address]]) -> list[tuple[list[bytes], Address]]:
    """Put datagrams that follow each other to one destination together, as `send_run` wants them."""
    found: list[tuple[list[bytes], Address]] = []
    run: list[bytes] = []
    size, room, to = 0, 0, None
    for data, destination in sends:
        length = len(data)
        if destination == to and 0 < length <= size and length <= room and len(run) < MAX_SEGMENTS:
            run.append(data)
        else:
            run, size, room, to = [data], length, MAX_RUN_BYTES, destination
            found.append((run, destination))
        room = room - length if length == size else 0
    return found
