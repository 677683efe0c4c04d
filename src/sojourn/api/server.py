"""The daemon's end of the control socket: verbs in, handlers called, answers out.

    server = Server(path, {"role": "host", "config_dir": "/etc/sojourn"})
    server.register("status", handler)             # async (arguments, peer) -> JSON-able value
    server.register_stream("log", handler)         # (arguments, peer) -> async iterator of values
    await server.start()   ...   await server.close()

The verb "about" answers by itself with `role`, `version`, `pid` and what the daemon gave.
Nothing is ever executed for a client (DESIGN §2).
"""

import asyncio
import contextlib
import grp
import logging
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from sojourn import __version__
from sojourn.api.messages import (
    MAX_REQUEST_BYTES,
    SOCKET_GROUP,
    Answer,
    ApiError,
    ErrorKind,
    Failure,
    Request,
    decode_request,
    encode,
)
from sojourn.errors import ConfigError, NotSupported, RemoteProtocolError, SojournError

MAX_CONNECTIONS = 64
"""Keeps a runaway script from eating the daemon's descriptors. Root, who has to mend things, gets in all the same."""
MAX_CONNECTIONS_EACH = 32
"""One user's: more than any person opens."""

_log = logging.getLogger(__name__)


class Peer(Struct, frozen=True):
    """Who is asking, as the kernel says (SO_PEERCRED)."""

    pid: int
    uid: int
    gid: int


Arguments = dict[str, Any]
Handler = Callable[[Arguments, Peer], Awaitable[Any]]
StreamHandler = Callable[[Arguments, Peer], AsyncIterator[Any]]


class Server:
    """One control socket."""

    def __init__(self, path: str, about: Mapping[str, Any]) -> None:
        self.path = path
        self._about = {"version": 1, "program": __version__, "pid": os.getpid(), **about}
        self._handlers: dict[str, Handler] = {"about": self._answer_about}
        self._streams: dict[str, StreamHandler] = {}
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], int] = {}
        """With the user of each."""
        self._inode: tuple[int, int] | None = None

    def register(self, verb: str, handler: Handler) -> None:
        """Let `handler` answer `verb`."""
        self._handlers[verb] = handler

    def register_stream(self, verb: str, handler: StreamHandler) -> None:
        """Let `handler` answer `verb` item by item."""
        self._streams[verb] = handler

    async def start(self) -> None:
        """Listen. Raises ConfigError if another daemon answers there or the path cannot be used."""
        try:
            listener = _listen(self.path)
        except OSError as error:
            fix = "Choose another one with --socket, or run as root."
            raise ConfigError(self.path, f"cannot be the control socket ({error.strerror or error})", fix) from error
        status = os.stat(self.path)
        self._inode = (status.st_dev, status.st_ino)
        self._server = await asyncio.start_unix_server(self._connected, sock=listener, limit=MAX_REQUEST_BYTES)

    async def close(self) -> None:
        """Stop listening, hang up on everybody, remove the socket if it is still ours."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await asyncio.sleep(0)  # what was aborted is closed in the next turn of the loop
        with contextlib.suppress(OSError):
            status = os.stat(self.path)
            if (status.st_dev, status.st_ino) == self._inode:
                os.unlink(self.path)

    async def _answer_about(self, _arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        return self._about

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            peer = _peer(writer)
            self._connections[task] = peer.uid
            if self._has_room(peer.uid):
                await self._converse(reader, writer, peer)
            else:
                await _send(writer, Answer(0, error=Failure(ErrorKind.FAILED, "too many clients", "Try again.")))
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()  # The client has gone, or we are closing: nobody is left to be told.
        finally:
            self._connections.pop(task, None)
            writer.close()

    def _has_room(self, user: int) -> bool:
        """Say whether a user's newest connection, which counts already, may stay."""
        own = sum(other == user for other in self._connections.values())
        return own <= MAX_CONNECTIONS_EACH and (user == 0 or len(self._connections) <= MAX_CONNECTIONS)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer) -> None:
        while True:
            try:
                line = await reader.readline()
                request = decode_request(line) if line else None
            except (RemoteProtocolError, ValueError) as error:  # ValueError: the line is too long
                await _send(writer, Answer(0, error=Failure(ErrorKind.USAGE, f"bad request: {error}")))
                return
            if request is None:
                return
            if request.verb in self._streams:
                await self._stream(request, reader, writer, peer)
                return
            await _send(writer, await self._answer(request, peer))

    async def _answer(self, request: Request, peer: Peer) -> Answer:
        handler = self._handlers.get(request.verb)
        if handler is None:
            remedy = f"It knows: {', '.join(sorted({*self._handlers, *self._streams}))}."
            message = f"this daemon has no verb {request.verb[:64]!r}"
            return Answer(request.id, error=Failure(ErrorKind.UNKNOWN_VERB, message, remedy))
        try:
            return Answer(request.id, result=await handler(request.arguments, peer))
        except Exception as error:
            return Answer(request.id, error=_failure(request.verb, error))

    async def _stream(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer
    ) -> None:
        """Send items until the source ends or the client hangs up (or says anything more)."""
        async with asyncio.TaskGroup() as group:
            pump = group.create_task(self._pump(request, writer, peer))
            watch = group.create_task(_hung_up(reader))
            await asyncio.wait((pump, watch), return_when=asyncio.FIRST_COMPLETED)
            pump.cancel()
            watch.cancel()

    async def _pump(self, request: Request, writer: asyncio.StreamWriter, peer: Peer) -> None:
        source = self._streams[request.verb](request.arguments, peer)
        try:
            async for item in source:
                await _send(writer, Answer(request.id, item=item))
            await _send(writer, Answer(request.id, end=True))
        except OSError:
            return  # the client has gone
        except Exception as error:
            with contextlib.suppress(OSError):
                await _send(writer, Answer(request.id, error=_failure(request.verb, error)))
        finally:
            close = getattr(source, "aclose", None)
            if close is not None:
                await close()


def _failure(verb: str, error: Exception) -> Failure:
    match error:
        case ApiError():
            return Failure(error.kind, error.message, error.remedy)
        case ConfigError():
            return Failure(ErrorKind.USAGE, f"{error.where}: {error.why}", error.fix)
        case NotSupported():
            return Failure(ErrorKind.FAILED, str(error))
        case RemoteProtocolError() | SojournError():
            return Failure(ErrorKind.USAGE, str(error))
        case _:
            _log.exception("verb %s failed", verb, exc_info=error)
            message = f"{verb} failed inside the daemon: {type(error).__name__}: {error}"
            return Failure(ErrorKind.FAILED, message, "The daemon's log has the details; please report it.")


async def _send(writer: asyncio.StreamWriter, answer: Answer) -> None:
    writer.write(encode(answer))
    await writer.drain()


async def _hung_up(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        await reader.read(1)


def _peer(writer: asyncio.StreamWriter) -> Peer:
    connection: socket.socket = writer.get_extra_info("socket")
    return Peer(*struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)))


def _listen(path: str) -> socket.socket:
    """Bind, 0660 and the group's; a dead daemon's socket is replaced, a living one's is not."""
    Path(path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old = os.umask(0o117)  # bind() makes the file: never, not for a moment, open to others
    try:
        listener.bind(path)
        with contextlib.suppress(KeyError, PermissionError):
            os.chown(path, -1, grp.getgrnam(SOCKET_GROUP).gr_gid)
        listener.listen(MAX_CONNECTIONS)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(old)
    listener.setblocking(False)
    return listener


def _remove_stale(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise ConfigError(path, "exists and is no socket", "Choose another path with --socket.")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except OSError:
            os.unlink(path)
            return
    raise ConfigError(path, "another Sojourn daemon answers there", "Stop it first, or choose another --socket.")
