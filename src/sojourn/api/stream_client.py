"""The other end of the control socket for programs with an event loop: what the window uses.

Every call is a connection of its own, made by `connect`: the window may have given away the right to make one
(window/unprivileged.py).
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from msgspec import UNSET

from sojourn.api.messages import MAX_ANSWER_BYTES, Answer, ApiError, ErrorKind, Request, decode_answer, encode
from sojourn.errors import RemoteProtocolError

CALL_TIMEOUT = 30.0
CHUNK = 1 << 16
"""Bytes that are read ahead."""

Connect = Callable[[], Awaitable[socket.socket]]


class StreamClient:
    """A daemon's control socket."""

    def __init__(self, path: str, connect: Connect | None = None) -> None:
        """`connect` returns a connected socket, or raises OSError."""
        self.path = path
        self._connect = connect or (lambda: connected(path))

    async def call(self, verb: str, arguments: dict[str, Any] | None = None) -> Any:  # noqa: ANN401 - JSON
        """Ask, and return the answer. Raises ApiError, also where no daemon answers."""
        try:
            async with asyncio.timeout(CALL_TIMEOUT), self._asked(verb, arguments or {}) as reader:
                return (await self._answer(reader, bytearray())).result
        except TimeoutError as error:
            raise ApiError(f"the daemon at {self.path} does not answer", "Look at its log.") from error

    async def stream(self, verb: str, arguments: dict[str, Any] | None = None) -> AsyncIterator[Any]:
        """Ask, and yield items as they come."""
        async with self._asked(verb, arguments or {}) as reader:
            buffer = bytearray()
            while not (answer := await self._answer(reader, buffer)).end:
                yield answer.item

    @contextlib.asynccontextmanager
    async def _asked(self, verb: str, arguments: dict[str, Any]) -> AsyncIterator[asyncio.StreamReader]:
        try:
            connection = await self._connect()
        except PermissionError as error:
            remedy = "Run it as root, or join the group: adduser $USER sojourn."
            raise ApiError(f"no permission for {self.path}", remedy, ErrorKind.NO_PERMISSION) from error
        except OSError as error:
            why = os.strerror(error.errno or 0).lower()
            remedy = "Start `sojourn host` (or `sojourn anchor`), or name its socket with --socket."
            raise ApiError(f"no daemon answers at {self.path} ({why})", remedy, ErrorKind.NOT_RUNNING) from error
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=CHUNK)
        try:
            writer.write(encode(Request(verb, arguments, 1)))
            await writer.drain()
            yield reader
        except ConnectionError as error:
            raise self._cut_off() from error
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, buffer: bytearray) -> Answer:
        """Return the next answer. No more is read than that needs: a source that nobody reads from stands still."""
        searched = 0
        while (end := buffer.find(b"\n", searched)) < 0:
            searched = len(buffer)
            chunk = await reader.read(CHUNK)
            buffer += chunk
            if not chunk or len(buffer) > MAX_ANSWER_BYTES:
                raise self._cut_off()
        line = bytes(buffer[:end])
        del buffer[: end + 1]
        try:
            answer = decode_answer(line)
        except RemoteProtocolError as error:
            raise ApiError(f"what answers at {self.path} is {error}", "Is it a Sojourn daemon?") from error
        if answer.error is not UNSET:
            raise ApiError(answer.error.message, answer.error.remedy, answer.error.kind)
        return answer

    def _cut_off(self) -> ApiError:
        remedy = "It may have stopped: look at its log."
        return ApiError(f"the daemon at {self.path} hung up", remedy, ErrorKind.NOT_RUNNING)


async def connected(path: str) -> socket.socket:
    """Connect to a Unix socket; no daemon of ours lets one wait for that. Raises OSError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection
