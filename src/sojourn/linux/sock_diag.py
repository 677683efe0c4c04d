"""Whose socket a flow is by the kernel's own table (NETLINK_SOCK_DIAG): inode and user, no program.

For sockets that no BPF program has seen: those older than the daemon, and all where BPF is not allowed. Which
program holds an inode is read from /proc afterwards (linux/socket_holders.py), and that is a guess by nature.
"""

import socket
import struct
from typing import Final

from msgspec import Struct

from sojourn.errors import RemoteProtocolError
from sojourn.model import TCP, UDP

NETLINK_SOCK_DIAG: Final = 4
SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 1
_NLMSG_ERROR: Final = 2
_HEADER: Final = struct.Struct("=IHHII")
_REQUEST: Final = struct.Struct("=BBBBI")
_NO_COOKIE: Final = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
_ANSWER: Final = struct.Struct("=BBBB48xIIIII")
"""struct inet_diag_msg: family, state, timer, retrans, id (48 bytes), expires, rqueue, wqueue, uid, inode."""
_ALL_STATES: Final = 0xFFFFFFFF
_BUFFER: Final = 1 << 17
_PATIENCE: Final = 0.5


class Holder(Struct, frozen=True):
    """What the kernel says of one socket."""

    inode: int
    uid: int


def request(key: bytes, number: int = 1) -> bytes | None:
    """Return the question for the socket of a flow key; None for what has none (packet/ip.py has the layout).

    The answer to it has the same `number`.
    """
    size = (len(key) - 5) // 2
    protocol = key[0] if key else 0
    if protocol not in (TCP, UDP) or size not in (4, 16) or len(key) != 5 + 2 * size:
        return None
    local, remote = key[1 : 1 + size], key[1 + size : 1 + 2 * size]
    near, far = key[-4:-2], key[-2:]
    if protocol == UDP:
        # udp_dump_one() takes them the other way round, "for historical reasons".
        local, remote, near, far = remote, local, far, near
    identity = near + far + local.ljust(16, b"\0") + remote.ljust(16, b"\0") + _NO_COOKIE
    family = socket.AF_INET if size == 4 else socket.AF_INET6
    body = _REQUEST.pack(family, protocol, 0, 0, _ALL_STATES) + identity
    return _HEADER.pack(_HEADER.size + len(body), SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, number, 0) + body


def parse(answer: bytes, number: int = 1) -> Holder | None:
    """Read the answer to one `request`; None when there is no such socket, RemoteProtocolError for nonsense."""
    if len(answer) < _HEADER.size:
        raise RemoteProtocolError("a netlink message that is cut off", reason="sock_diag")
    length, kind, _, answered, _ = _HEADER.unpack_from(answer)
    if answered != number:
        raise RemoteProtocolError("the answer to another question", reason="sock_diag")
    body = answer[_HEADER.size : length]
    if kind == _NLMSG_ERROR:
        if len(body) < 4:
            raise RemoteProtocolError("a netlink error that is cut off", reason="sock_diag")
        return None
    if kind != SOCK_DIAG_BY_FAMILY or len(body) < _ANSWER.size:
        raise RemoteProtocolError("not an answer of sock_diag", reason="sock_diag")
    *_, uid, inode = _ANSWER.unpack_from(body)
    return Holder(inode, uid) if inode else None


class SocketTable:
    """Asks the kernel. One netlink socket, opened when it is first needed."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._number = 0

    def holder(self, key: bytes) -> Holder | None:
        """Return inode and user of the socket that a flow belongs to, None when there is none (any more)."""
        self._number = self._number % 0xFFFFFFFF + 1
        question = request(key, self._number)
        if question is None:
            return None
        try:
            if self._socket is None:
                self._socket = socket.socket(
                    socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG
                )
                self._socket.settimeout(_PATIENCE)
            self._socket.send(question)
            return parse(self._socket.recv(_BUFFER), self._number)
        except (OSError, RemoteProtocolError):
            self.close()  # an answer that comes late would be taken for the next one's
            return None

    def close(self) -> None:
        """Close the netlink socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
