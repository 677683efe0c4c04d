"""One connection to the window's server: uvicorn's own, and the door that it comes through (door.py)."""

import asyncio
import os
import pwd
import socket
from collections.abc import Iterable
from typing import Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from sojourn.linux.sock_diag import SocketTable
from sojourn.model import TCP
from sojourn.window.door import MOST_VISITORS, Door
from sojourn.window.unprivileged import NOBODY

Client = tuple[str, int]
"""Address and port of a connection's other end: its name as long as it lives."""

PROVED: Final = 128
"""Connections that have shown the token."""
PATIENCE: Final = 10.0
"""Seconds that one has to show the token; a browser shows it with its first question after the page's files."""
KEEP_ALIVE: Final = 30
END_PATIENCE: Final = 1
AT_ONCE: Final = 16
"""Connections taken in between two turns of the loop: a crowd at the door does not hold up what goes on inside."""
QUEUE: Final = 256
"""Connections that the kernel keeps for us. Who comes after a crowd waits for all of it, so that more is not better."""
LONGEST_HEAD: Final = 16 << 10


def own_users() -> set[int]:
    """Return the users whose window it is: root, and whom this process runs as, unless that is nobody."""
    try:
        nobody = pwd.getpwnam(NOBODY).pw_uid
    except KeyError:
        return {0, os.getuid()}
    return {0, os.getuid()} - {nobody}


class Visitors:
    """All connections that have not shown the token yet."""

    def __init__(self, own: Iterable[int]) -> None:
        self._door: Door[Client] = Door(frozenset(own))
        self._table = SocketTable()
        self._connections: dict[Client, Connection] = {}

    def proved(self, client: Client) -> None:
        """Take a connection in for good: it has shown the token."""
        self._connections.pop(client, None)
        self._door.leave(client)

    def enter(self, connection: "Connection", client: Client, here: Client) -> None:
        """Let a connection in, and turn out the one whose place it takes."""
        self._connections[client] = connection
        out = self._door.enter(client, self._user(client, here))
        if out is not None:
            self.turn_out(out)

    def turn_out(self, client: Client) -> None:
        """End a connection that is still a visitor."""
        connection = self._connections.pop(client, None)
        self._door.leave(client)
        if connection is not None:
            connection.transport.abort()

    def left(self, client: Client) -> None:
        """Forget a connection that has ended."""
        self.proved(client)

    def close(self) -> None:
        """Close the socket by which the kernel is asked."""
        self._table.close()

    def _user(self, client: Client, here: Client) -> int | None:
        """Return whose the other end of a connection is; None where the kernel knows no such socket (any more)."""
        (address, port), (own, own_port) = client, here
        ports = port.to_bytes(2, "big") + own_port.to_bytes(2, "big")
        holder = self._table.holder(bytes([TCP]) + socket.inet_aton(address) + socket.inet_aton(own) + ports)
        return holder.uid if holder is not None else None


class Settings(uvicorn.Config):
    """How the server is run: without logs, without a word of what it is, and never waiting long for anybody."""

    def __init__(self, app: ASGIApp, visitors: Visitors) -> None:
        self.visitors = visitors
        super().__init__(
            app, log_config=None, access_log=False, server_header=False, lifespan="off", ws="none", http=Connection,
            proxy_headers=False, limit_concurrency=MOST_VISITORS + PROVED, timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=END_PATIENCE, h11_max_incomplete_event_size=LONGEST_HEAD, backlog=AT_ONCE,
        )  # fmt: skip


class Connection(H11Protocol):
    """One."""

    config: Settings
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Come in, and have a while to show the token."""
        super().connection_made(transport)
        here = transport.get_extra_info("sockname")
        if self.client is None or here is None:  # it has ended already
            transport.abort()
            return
        self.config.visitors.enter(self, self.client, here[:2])
        self._late = self.loop.call_later(PATIENCE, self.config.visitors.turn_out, self.client)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave."""
        super().connection_lost(exc)
        if self._late is not None:
            self._late.cancel()
        if self.client is not None:
            self.config.visitors.left(self.client)
