"""A captive portal: an HTTP server that sends everybody to its login page until `opened` exists, and a DNS server.

Run as a program (`python -m tests.harness.portal ADDRESS OPENED LOG`) it is put into an access network's gateway.
"""

import asyncio
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

LOGIN = b"<h1>Welcome to the hotel. Please log in.</h1>"


class Portal:
    """`async with Portal(...)`: HTTP on port 80 and DNS on port 53 of one address."""

    def __init__(
        self, address: str, is_open: Callable[[], bool], log: Callable[[str], None] = lambda _line: None
    ) -> None:
        self.address = address
        self._is_open = is_open
        self._log = log
        self._server: asyncio.Server | None = None
        self._dns: asyncio.DatagramTransport | None = None

    async def __aenter__(self) -> "Portal":
        self._server = await asyncio.start_server(self._serve, self.address, 80)
        loop = asyncio.get_running_loop()
        self._dns, _ = await loop.create_datagram_endpoint(lambda: _Dns(self), local_addr=(self.address, 53))
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._server is not None
        assert self._dns is not None
        self._server.close()
        self._dns.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self._log(head.splitlines()[0])
            path = head.split()[1]
            if path.startswith("/login"):
                answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + LOGIN
            elif self._is_open():
                answer = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
            else:
                where = f"http://{self.address}/login?for={path}"
                answer = f"HTTP/1.1 302 Found\r\nLocation: {where}\r\nConnection: close\r\n\r\n".encode()
            writer.write(answer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


class _Dns(asyncio.DatagramProtocol):
    """Says of every name that it is here."""

    def __init__(self, portal: Portal) -> None:
        self._portal = portal

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # before Python 3.12 no subclass of it

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self._portal._log(f"DNS from {address[0]}")
        here = bytes(int(part) for part in self._portal.address.split("."))
        record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 5, 4) + here
        answer = data[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + data[12:] + record
        self._transport.sendto(answer, address)


def main(address: str, opened: str, log: str) -> None:
    """Serve until killed."""
    with Path(log).open("a") as file:

        def note(line: str) -> None:
            file.write(line + "\n")
            file.flush()

        async def serve() -> None:
            async with Portal(address, Path(opened).exists, note):
                print("ready", flush=True)  # noqa: T201
                await asyncio.Event().wait()

        asyncio.run(serve())


if __name__ == "__main__":
    main(*sys.argv[1:4])
