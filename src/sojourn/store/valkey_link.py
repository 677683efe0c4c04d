"""One connection to one Redis or Valkey server: many commands under way at once, and word of what has changed.

The server remembers what this connection has read and tells when that changes (RESP3, CLIENT TRACKING). Answers come
in the order of the questions; a question that is not answered in `PATIENCE` seconds ends the connection, because all
behind it would wait, too.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from valkey.asyncio.connection import AbstractConnection, Connection, parse_url
from valkey.exceptions import NoScriptError, ResponseError, ValkeyError

from sojourn.errors import ConfigError
from sojourn.store import valkey_answers as answers
from sojourn.store.triggers import StoreUnavailable

PATIENCE: Final = 0.5
CONNECT_PATIENCE: Final = 1.0

Answer = Any
"""Bytes, numbers and lists of these, as the server sends them."""
_NO_SERVER: Final = (
    ValkeyError, OSError, EOFError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, MemoryError,
    AttributeError,
)  # fmt: skip
"""What the client library raises at bytes of its own kind, and (from ValueError on) at any others: it checks few."""


def options_of(url: str) -> dict[str, Any]:
    """Read "redis://user:password@host:port" (rediss: TLS; unix: a socket) into what `Link` wants; ConfigError."""
    try:
        options = dict(parse_url(url))
    except ValueError as error:
        fix = "Write it like redis://HOST:6379, or rediss://USER:PASSWORD@HOST:6379 with TLS."
        raise ConfigError("store", f"{url.split('@')[-1]!r} is no address of a store ({error})", fix) from error
    return {"connection_class": Connection, "host": "localhost", "port": 6379, **options}


class Link:
    """One connection. Not to be used again once it is lost."""

    def __init__(self, options: dict[str, Any], changed: Callable[[Any], None]) -> None:
        """Prepare it. `changed`: takes the server's word of what has changed, as it came (valkey_answers.changed)."""
        kind = options["connection_class"]
        rest = {name: value for name, value in options.items() if name != "connection_class"}
        self._connection: AbstractConnection = kind(
            **rest, protocol=3, socket_timeout=None, socket_connect_timeout=CONNECT_PATIENCE, lib_name=None,
            lib_version=None,
        )  # fmt: skip
        self._changed = changed
        self._asked: deque[asyncio.Future[Any]] = deque()
        self._reader: asyncio.Task[None] | None = None
        self.lost: str | None = None
        """Why it is of no use any more."""
        self._loaded: dict[str, bytes] = {}

    async def open(self) -> None:
        """Connect and ask to be told of changes. StoreUnavailable."""
        try:
            async with asyncio.timeout(CONNECT_PATIENCE):
                await self._connection.connect()  # type: ignore[no-untyped-call]
                parser: Any = self._connection._parser
                parser.set_invalidation_push_handler(self._changed)
                await self._connection.send_command("CLIENT", "TRACKING", "ON", "NOLOOP")
                await self._connection.read_response()
        except (*_NO_SERVER, TimeoutError) as error:
            await self._give_up(str(error) or "no answer")
            raise StoreUnavailable(str(error) or "no answer") from error
        self._reader = asyncio.get_running_loop().create_task(self._read())

    async def call(self, *command: object) -> Answer:
        """Return the answer to a command. StoreUnavailable; ResponseError for what the server refuses."""
        if self.lost is not None or self._reader is None:
            raise StoreUnavailable(self.lost or "not connected")
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        try:
            async with asyncio.timeout(PATIENCE):
                await self._connection.send_command(*command, check_health=False)
                return await answer
        except TimeoutError as error:
            await self._give_up(f"no answer in {PATIENCE} s")
            raise StoreUnavailable(f"no answer in {PATIENCE} s") from error
        except (OSError, ValkeyError) as error:
            if isinstance(error, ResponseError):
                raise
            await self._give_up(str(error))
            raise StoreUnavailable(str(error)) from error

    async def script(self, text: str, keys: tuple[bytes, ...], *arguments: object) -> Answer:
        """Run a script, sending its text only where the server hasn't got it. RemoteProtocolError as well."""
        digest = self._loaded.get(text)
        try:
            if digest is None:
                digest = self._loaded[text] = answers.digest(await self.call("SCRIPT LOAD", text))
            return await self.call("EVALSHA", digest, len(keys), *keys, *arguments)
        except NoScriptError:
            self._loaded.pop(text, None)
            return await self.call("EVAL", text, len(keys), *keys, *arguments)

    async def close(self) -> None:
        """End the connection."""
        await self._give_up("closed")

    async def _read(self) -> None:
        why = "the server has closed the connection"
        try:
            while True:
                try:
                    answer: Any = await self._connection.read_response(disconnect_on_error=False)
                except ResponseError as error:
                    answer = error
                if not self._asked:
                    why = "an answer that nobody asked for: those behind it would be others'"
                    return
                waiting = self._asked.popleft()
                if waiting.done():
                    continue
                if isinstance(answer, ResponseError):
                    waiting.set_exception(answer)
                else:
                    waiting.set_result(answer)
        except _NO_SERVER as error:
            why = str(error) or why
        finally:
            self._fail(why)

    async def _give_up(self, why: str) -> None:
        self._fail(why)
        if self._reader is not None and self._reader is not asyncio.current_task():
            self._reader.cancel()
            await asyncio.wait([self._reader])  # whoever waits here may be cancelled, too
        with contextlib.suppress(ValkeyError, OSError):
            await self._connection.disconnect(nowait=True)

    def _fail(self, why: str) -> None:
        if self.lost is None:
            self.lost = why
        while self._asked:
            waiting = self._asked.popleft()
            if not waiting.done():
                waiting.set_exception(StoreUnavailable(self.lost))
