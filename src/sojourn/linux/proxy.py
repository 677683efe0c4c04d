"""A small HTTP proxy on loopback whose connections leave over one network alone (`sojourn networks open`).

Any program that knows proxies can thereby be put on a network, without root and without a network namespace:
Linux lets everybody bind an unbound socket to an interface (SO_BINDTODEVICE, since 5.7). It serves the user who
started it and nobody else of this machine.
"""

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct

from sojourn.errors import RemoteProtocolError
from sojourn.linux.sip_transport import bound_socket
from sojourn.model import Network

MAX_HEAD = 64 * 1024
HEAD_SECONDS = 30.0
CONNECT_SECONDS = 15.0
CHUNK = 64 * 1024
SOCKETS = Path("/proc/thread-self/net/tcp")
_LINE = re.compile(rb"^([A-Z]{1,20}) ([!-~]{1,8192}) HTTP/1\.[01]\r?$")
_HOP = re.compile(rb"^(?:proxy-[a-z-]+|connection|keep-alive):", re.IGNORECASE)

Resolve = Callable[[str], Awaitable[list[str]]]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Request(Struct, frozen=True):
    """What a client asks of the proxy."""

    host: str
    port: int
    head: bytes
    """What is sent on first; empty for CONNECT."""


def parse(head: bytes) -> Request:
    """Read a request's head (RFC 9112 §3.2: absolute form or authority form). Raises RemoteProtocolError only."""
    lines = head.split(b"\n")
    line = _LINE.match(lines[0])
    if line is None:
        raise RemoteProtocolError("not a request to a proxy")
    method, where = line.group(1), line.group(2).decode("ascii")
    try:
        parts = urlsplit(f"//{where}" if method == b"CONNECT" else where)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise RemoteProtocolError(f"not an address: {error}") from error
    if not host or (method == b"CONNECT" and not port) or (method != b"CONNECT" and parts.scheme != "http"):
        raise RemoteProtocolError("not a request to a proxy")
    if method == b"CONNECT":
        return Request(host, port or 443, b"")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    kept = [line.rstrip(b"\r") for line in lines[1:] if line.strip() and not _HOP.match(line)]
    first = b"%s %s HTTP/1.1" % (method, path.encode("ascii"))
    return Request(host, port or 80, b"\r\n".join([first, *kept, b"Connection: close", b"", b""]))


class Proxy:
    """`async with Proxy(network, resolve) as proxy: ... proxy.port`."""

    def __init__(self, network: Network, resolve: Resolve, user: int | None = None) -> None:
        """`user`: whom it serves beside our own user (root serves who called sudo)."""
        self.port = 0
        self._users = {os.getuid()} | ({user} if user is not None else set())
        self._network = network
        self._resolve = resolve
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=MAX_HEAD)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer), name="proxied connection")
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            try:
                await self._answer(reader, writer)
            finally:
                writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if _user_of(writer.get_extra_info("peername")[1], self.port) not in self._users:
            return
        async with asyncio.timeout(HEAD_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
        try:
            request = parse(head)
            async with asyncio.timeout(CONNECT_SECONDS):
                there = await self._connect(request.host, request.port)
        except RemoteProtocolError as error:
            return await _refuse(writer, "400 Bad Request", str(error))
        except (OSError, TimeoutError) as error:
            why = f"{request.host} over {self._network.name}: {error or 'no answer'}"
            return await _refuse(writer, "502 Bad Gateway", why)
        try:
            if request.head:
                there[1].write(request.head)
            else:
                writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            await asyncio.gather(_pump(reader, there[1]), _pump(there[0], writer))
        finally:
            there[1].close()

    async def _connect(self, host: str, port: int) -> Streams:
        """Connect over the network; of several addresses the first that answers."""
        family, problem = ":" in self._network.address, OSError("it has no address that this network leads to")
        for address in await self._resolve(host):
            if (":" in address) != family:
                continue
            sock = bound_socket(socket.SOCK_STREAM, self._network.address, self._network.interface, None)
            try:
                await asyncio.get_running_loop().sock_connect(sock, (address, port))
                return await asyncio.open_connection(sock=sock)
            except OSError as error:
                sock.close()
                problem = error
            except BaseException:
                sock.close()
                raise
        raise problem


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Carry bytes one way until their end, and pass that on."""
    while data := await source.read(CHUNK):
        sink.write(data)
        await sink.drain()
    if sink.can_write_eof():
        sink.write_eof()


async def _refuse(writer: asyncio.StreamWriter, status: str, why: str) -> None:
    body = f"sojourn: {why}\n".encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
    writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
    await writer.drain()


def _user_of(port: int, ours: int) -> int | None:
    """Return whose socket connects these two ports of loopback (/proc/net/tcp: number, local, remote, ..., uid).

    One port may have many connections, and those in TIME_WAIT are shown as root's.
    """
    wanted = [f"0100007F:{port:04X}", f"0100007F:{ours:04X}"]
    for line in SOCKETS.read_text().splitlines()[1:]:
        words = line.split()
        if words[1:3] == wanted and words[7].isdigit():
            return int(words[7])
    return None
