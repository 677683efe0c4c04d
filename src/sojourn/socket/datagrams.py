"""UDP ASSOCIATE for a local client: its datagrams go through the proxy over whichever network policies say.

What moves is the association: over another network it is another one, so the correspondent sees another port of the
proxy from then on. Datagrams that are under way meanwhile are lost, as datagrams may be.
"""

import asyncio
import contextlib
import socket
from typing import Final

from sojourn.model import Flow
from sojourn.msocks.socks5 import NOWHERE, Address, Command, Request
from sojourn.socket.line import Line, Opened, bind_to
from sojourn.socket.mobile import Mobile

BUFFER_BYTES: Final = 65536
PAUSE: Final = 0.1
LOOK: Final = 30.0


class Datagrams:
    """One association of a client on this machine, for as long as `run` runs."""

    def __init__(self, mobile: Mobile, flow: Flow, local: str, client: str) -> None:
        """`local`: where the client reaches us; `flow` is placed already. Raises OSError."""
        self._mobile, self._flow, self._client = mobile, flow, client
        self._loop = asyncio.get_running_loop()
        self._port: int | None = None
        self._inside = socket.socket(socket.AF_INET6 if ":" in local else socket.AF_INET, socket.SOCK_DGRAM)
        self._outside: socket.socket | None = None
        self._inside.setblocking(False)
        self._inside.bind((local, 0))
        self._loop.add_reader(self._inside, self._from_client)

    @property
    def address(self) -> Address:
        """Where the client sends its datagrams."""
        host, port = self._inside.getsockname()[:2]
        return Address(host, port)

    async def run(self) -> None:
        """Keep an association with the proxy, for ever. Raises Unreachable where it lets us have none."""
        while True:
            opened, line = await self._mobile.open(self._flow, Request(Command.UDP_ASSOCIATE, NOWHERE))
            try:
                with contextlib.suppress(OSError):
                    self._use(opened, line)
                    await self._until_lost(opened, line)
            finally:
                opened.sock.close()
                self._drop()
            await asyncio.sleep(PAUSE)

    def close(self) -> None:
        """End it."""
        self._loop.remove_reader(self._inside)
        self._inside.close()
        self._drop()
        self._mobile.forget(self._flow)

    def _use(self, opened: Opened, line: Line) -> None:
        six = ":" in self._mobile.proxy.address
        sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            bind_to(sock, line.network, six=six)
            sock.connect((self._mobile.proxy.address, opened.reply.address.port))
        except OSError:
            sock.close()
            raise
        self._outside = sock
        self._loop.add_reader(sock, self._from_proxy)

    def _drop(self) -> None:
        sock, self._outside = self._outside, None
        if sock is not None:
            self._loop.remove_reader(sock)
            sock.close()

    async def _until_lost(self, opened: Opened, line: Line) -> None:
        """Return when the network fails, policies place the flow elsewhere, or the proxy ends the association."""
        gone = asyncio.ensure_future(self._loop.sock_recv(opened.sock, 4096))
        try:
            while not gone.done() and line.up and self._mobile.line_of(self._flow) in (line, None):
                news = asyncio.ensure_future(self._mobile.something_new(LOOK))
                await asyncio.wait({gone, news}, return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
        finally:
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)

    def _from_client(self) -> None:
        with contextlib.suppress(OSError):
            data, source = self._inside.recvfrom(BUFFER_BYTES)
            if source[0] == self._client and self._port in (None, source[1]):
                self._port = source[1]
                if self._outside is not None:
                    self._outside.send(data)

    def _from_proxy(self) -> None:
        with contextlib.suppress(OSError):
            if self._outside is not None and self._port is not None:
                self._inside.sendto(self._outside.recv(BUFFER_BYTES), (self._client, self._port))
