"""The host's SIP over UDP, the paper's own form: one socket, from one address and interface, for one anchor.

Has the callbacks of a connection (linux/sip_transport.py), so that its owner need not know the difference. It is
open as soon as it is bound: only an answer tells whether the anchor is there.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from sojourn.linux.sip_transport import bound_socket, endpoint
from sojourn.model import Endpoint


class UdpClient(asyncio.DatagramProtocol):
    """One socket. `run` opens it and returns when it is over; `on_close` is called once, with the reason."""

    def __init__(
        self,
        anchor: Endpoint,
        *,
        source: str,
        interface: str | None,
        on_open: Callable[[Endpoint], None],
        on_message: Callable[[bytes], None],
        on_close: Callable[[str], None],
        mark: int | None = None,
    ) -> None:
        """`anchor.address` may be a name; `on_message` gets one whole datagram at a time."""
        self.anchor = anchor
        self._source = source
        self._interface = interface
        self._on_open = on_open
        self._on_message = on_message
        self._on_close = on_close
        self._mark = mark
        self._transport: asyncio.DatagramTransport | None = None
        self._over = asyncio.Event()
        self._why = "closed here"

    async def run(self) -> None:
        """Open the socket, and wait for its end."""
        try:
            await self._open()
            await self._over.wait()
        except OSError as error:
            self._why = f"cannot send to {self._where()}: {error.strerror or error}"
        finally:
            if self._transport is not None:
                self._transport.close()
        self._on_close(self._why)

    def send(self, data: bytes) -> None:
        """Send one message."""
        if self._transport is not None and not self._over.is_set():
            self._transport.sendto(data)

    def close(self) -> None:
        """Give the socket up. `run` ends soon after."""
        self._over.set()

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        sock = bound_socket(socket.SOCK_DGRAM, self._source, self._interface, self._mark)
        try:
            found = await loop.getaddrinfo(self.anchor.address, self.anchor.port, family=sock.family, type=sock.type)
            await loop.sock_connect(sock, found[0][4])  # the kernel lets nobody else answer
            if self._over.is_set():
                sock.close()
            else:
                await loop.create_datagram_endpoint(lambda: self, sock=sock)
        except BaseException:
            sock.close()
            raise

    def _where(self) -> str:
        return f"{self.anchor.address} port {self.anchor.port}"

    # asyncio.DatagramProtocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Tell that messages can be sent."""
        self._transport = cast(asyncio.DatagramTransport, transport)  # before Python 3.12 no subclass of it
        self._on_open(endpoint(transport.get_extra_info("sockname")))

    def datagram_received(self, data: bytes, address: object) -> None:
        """Hand on what came."""
        if not self._over.is_set():
            self._on_message(data)

    def error_received(self, error: Exception) -> None:
        """Take the system's word that nobody is there, or that the network has gone."""
        self._why = f"no way to {self._where()}: {error}"
        if isinstance(error, ConnectionRefusedError):
            self._why = f"{self._where()} refuses datagrams: is `sojourn anchor` running there, with sip_plain = true?"
        self._over.set()
