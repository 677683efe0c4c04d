"""UDP sockets of a server that answers one datagram at a time, many a wake-up: rendezvous nodes.

Nothing is read from a socket but what its node is to see: no control messages, no batches. A datagram of more than
`MAX_DATAGRAM` bytes comes as an empty one: it is of no use, and is counted as such.
"""

import contextlib
import errno
import socket
from typing import Final

from sojourn.linux.udp import (
    IP_MTU_DISCOVER,
    IPV6_MTU_DISCOVER,
    PMTUDISC_PROBE,
    SO_RCVBUFFORCE,
    SO_SNDBUFFORCE,
)
from sojourn.model import Endpoint

MAX_DATAGRAM: Final = 9000
"""A jumbo frame's."""
BUFFER_BYTES: Final = 4 << 20

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
            self.socket.setblocking(False)
            self.socket.bind((local.address, local.port))
        except BaseException:
            self.socket.close()
            raise
        self._receive, self._send = self.socket.recvfrom, self.socket.sendto
        bound = self.socket.getsockname()
        self.local = Endpoint(bound[0], bound[1])

    def receive(self) -> tuple[bytes, Address] | None:
        """Return the next datagram and its source, or None when none waits."""
        try:
            data, source = self._receive(MAX_DATAGRAM + 1)
        except (BlockingIOError, ConnectionError):
            return None
        if len(data) > MAX_DATAGRAM:
            data = b""
        return data, source[:2] if self.six else source

    def send(self, data: bytes, destination: Address) -> str | None:
        """Send a datagram; return why it could not be sent, as the system's word for it, or None."""
        try:
            self._send(data, destination)
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, "OSError")
        return None

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()
