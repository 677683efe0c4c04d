"""UDP ASSOCIATE (RFC 1928 §7): one socket for the client, one for each address family towards correspondents.

An association lives as long as its TCP connection. It takes datagrams from the client's address only,
and from the first port that it sends from; names are resolved here and the rules asked for each.
"""

import asyncio
import contextlib
import socket
from typing import Final

from sojourn.daemon.socks_open import NotOpened, Opener
from sojourn.errors import RemoteProtocolError
from sojourn.msocks import socks5
from sojourn.msocks.socks5 import Address, Datagram

BUFFER_BYTES: Final = 65536
NAMES: Final = 64
"""Names of one association that are remembered, and may be looked up at a time."""


class UdpRelay:
    """One association."""

    def __init__(self, opener: Opener, user: str, local: str, client: str) -> None:
        """`local` is the proxy's address as the client sees it. Raises OSError."""
        self._opener, self._user, self._client = opener, user, client
        self._loop = asyncio.get_running_loop()
        self._port: int | None = None
        self._names: dict[Address, Address] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self.refused = 0
        self._inside = _bound(":" in local, local)
        self._outside: dict[bool, socket.socket] = {}
        self._loop.add_reader(self._inside, self._from_client)

    @property
    def address(self) -> Address:
        """Where the client sends its datagrams."""
        host, port = self._inside.getsockname()[:2]
        return Address(host, port)

    def close(self) -> None:
        """End it."""
        for task in self._asking:
            task.cancel()
        for sock in (self._inside, *self._outside.values()):
            self._loop.remove_reader(sock)
            sock.close()

    def _from_client(self) -> None:
        with contextlib.suppress(OSError):
            data, source = self._inside.recvfrom(BUFFER_BYTES)
            if source[0].partition("%")[0] != self._client or self._port not in (None, source[1]):
                self.refused += 1
                return
            try:
                datagram = socks5.parse_datagram(data)
            except RemoteProtocolError:
                self.refused += 1
                return
            self._port = source[1]
            self._send(datagram)

    def _send(self, datagram: Datagram) -> None:
        to = self._names.get(datagram.address)
        if to is not None:
            self._pass(to, datagram.payload)
        elif len(self._asking) < NAMES:
            task = asyncio.ensure_future(self._look_up(datagram))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        else:
            self.refused += 1

    async def _look_up(self, datagram: Datagram) -> None:
        try:
            to = (await self._opener.addresses(self._user, datagram.address, socket.SOCK_DGRAM))[0]
        except NotOpened:
            self.refused += 1
            return
        if len(self._names) >= NAMES:
            self._names.pop(next(iter(self._names)))
        self._names[datagram.address] = to
        self._pass(to, datagram.payload)

    def _pass(self, to: Address, payload: bytes) -> None:
        six = ":" in to.host
        with contextlib.suppress(OSError):
            sock = self._outside.get(six)
            if sock is None:
                sock = self._outside[six] = _bound(six, "::" if six else "0.0.0.0")
                self._loop.add_reader(sock, self._from_outside, sock)
            sock.sendto(payload, (to.host, to.port))

    def _from_outside(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            payload, source = sock.recvfrom(BUFFER_BYTES)
            if self._port is not None:
                datagram = Datagram(Address(source[0].partition("%")[0], source[1]), payload)
                self._inside.sendto(socks5.datagram(datagram), (self._client, self._port))


def _bound(six: bool, address: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.bind((address, 0))
    except OSError:
        sock.close()
        raise
    return sock
