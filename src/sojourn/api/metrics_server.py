"""The port that Prometheus reads: GET /metrics, and nothing else, over HTTP/1.1.

It is hardened for what it is, a port beside a program that must not be held up: one request a connection, few
connections at once and 200 a second, little time for each, no body is ever read, and the text is made once a second
at most. A Host header that names neither an address nor a name that the owner has listed is refused: a
page in somebody's browser can make a name of its own lead here (DNS rebinding), but not change the name it asks by.
"""

import asyncio
import contextlib
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Collection
from typing import Final

import structlog

from sojourn.api.metrics import CONTENT_TYPE
from sojourn.errors import RemoteProtocolError
from sojourn.model import Endpoint

MOST_CONNECTIONS: Final = 8
PATIENCE: Final = 5.0
"""Seconds for the whole of a request, and again for its answer."""
HEAD_BYTES: Final = 8192
FRESH: Final = 1.0
"""Seconds for which a text is given again."""
BETWEEN: Final = 0.005
"""Seconds between two connections: however many are made, control has its time."""
AGAIN: Final = 10.0
"""Seconds until a port that could not be had is tried again."""

_log = structlog.get_logger(__name__)
_REASONS: Final = {
    200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
}  # fmt: skip


class Request:
    """The head of a request, as far as it matters here."""

    def __init__(self, method: str, path: str, host: str) -> None:
        self.method = method
        self.path = path
        self.host = host


def parse(head: bytes) -> Request:
    """Read a request's head (RFC 9112 §3, §5), or raise RemoteProtocolError."""
    try:
        lines = head.decode("ascii").split("\r\n")
    except UnicodeDecodeError as error:
        raise RemoteProtocolError("a head that is not ASCII", reason="http") from error
    start = re.fullmatch(r"([A-Z]{1,16}) (/[!-~]*) HTTP/1\.[01]", lines[0])
    if start is None:
        raise RemoteProtocolError("no request line", reason="http")
    hosts = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if line and (not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name)):
            raise RemoteProtocolError("a header without a name", reason="http")
        if name.lower() == "host":
            hosts.append(value.strip(" \t"))
    if len(hosts) != 1:  # RFC 9112 §3.2: neither none nor two
        raise RemoteProtocolError("no Host, or two", reason="http")
    return Request(start[1], start[2].partition("?")[0], hosts[0])


def is_known(host: str, names: Collection[str]) -> bool:
    """Say whether a Host header is an address, "localhost", or one of these names, with any port."""
    found = re.fullmatch(r"(?:\[([^\]]*)\]|([^:]*))(?::[0-9]{1,5})?", host)
    if found is None:
        return False
    word = (found[1] or found[2] or "").lower().rstrip(".")
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(word))
    return word == "localhost" or word in {name.lower().rstrip(".") for name in names}


class MetricsServer:
    """One port. `run` is a task; it ends when it is cancelled."""

    def __init__(self, where: Endpoint, names: Collection[str], text: Callable[[], Awaitable[bytes]]) -> None:
        self.where = where
        self._names = names
        self._make = text
        self._text: asyncio.Future[bytes] | None = None
        self._made_at = float("-inf")

    async def run(self) -> None:
        """Listen and answer. A port that cannot be had is told once, and tried again: figures are no reason to end."""
        told = False
        while (listening := self._listen(told)) is None:
            told = True
            await asyncio.sleep(AGAIN)
        loop, room = asyncio.get_running_loop(), asyncio.Semaphore(MOST_CONNECTIONS)
        with listening:
            async with asyncio.TaskGroup() as group:
                while True:
                    await room.acquire()  # who comes meanwhile waits in the kernel, or is dropped there
                    try:
                        connection, _ = await loop.sock_accept(listening)
                    except OSError:  # gone already, or no descriptor is left
                        room.release()
                    else:
                        group.create_task(self._serve(connection)).add_done_callback(lambda _task: room.release())
                    await asyncio.sleep(BETWEEN)

    def _listen(self, told: bool) -> socket.socket | None:
        where = self.where
        sock = socket.socket(socket.AF_INET6 if ":" in where.address else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((where.address, where.port))
            sock.listen(MOST_CONNECTIONS)
        except OSError as error:
            sock.close()
            if not told:
                _log.warning("no metrics: the port cannot be had", port=where.port, why=error.strerror, again_in=AGAIN)
            return None
        return sock

    async def _serve(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection, limit=HEAD_BYTES)
        try:
            async with asyncio.timeout(PATIENCE):
                writer.write(await self._answer(reader))
            async with asyncio.timeout(PATIENCE):
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # too slow, too long, or gone: it gets nothing
        finally:
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        try:
            request = parse((await reader.readuntil(b"\r\n\r\n"))[:-4])
        except RemoteProtocolError as error:
            return _answer(400, f"{error}\n".encode())
        if not is_known(request.host, self._names):
            return _answer(403, b"this name is not listed in [metrics] names\n")
        if request.method != "GET":
            return _answer(405, b"GET only\n", "Allow: GET\r\n")
        if request.path != "/metrics":
            return _answer(404, b"the figures are at /metrics\n")
        return _answer(200, await self._fresh())

    async def _fresh(self) -> bytes:
        """Return the text, made anew when the last one is old; whoever asks meanwhile gets the same."""
        now = asyncio.get_running_loop().time()
        if self._text is None or now - self._made_at > FRESH or self._text.cancelled():
            self._text, self._made_at = asyncio.ensure_future(self._make()), now
        return await asyncio.shield(self._text)


def _answer(status: int, body: bytes, more: str = "") -> bytes:
    kind = CONTENT_TYPE if status == 200 else "text/plain; charset=utf-8"
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}"
        "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
