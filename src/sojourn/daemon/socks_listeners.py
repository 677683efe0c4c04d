"""Ports that clients of our method listen at (BIND): one kernel listener a user and port, however many wait there.

A client takes its calls one BIND after the other, and moves between networks meanwhile. So the port stays for LINGER
seconds after the last one that waited, and the calls that come then wait in the kernel's queue. Ports below
FIRST_PORT are never given: this process may be root.
"""

import asyncio
import contextlib
import socket
from collections import deque
from typing import Any, Final

from sojourn.daemon.socks_open import NotOpened
from sojourn.msocks.socks5 import Code

FIRST_PORT: Final = 1024
LINGER: Final = 60.0
PER_USER: Final = 32
"""Ports of one user at a time."""
BACKLOG: Final = 64

Caught = tuple[socket.socket, Any]
_Key = tuple[str, str, int]


class Listener:
    """One port."""

    def __init__(self, key: _Key, sock: socket.socket) -> None:
        self.key = key
        self.sock = sock
        self.waiting: deque[asyncio.Future[Caught]] = deque()
        self.users = 0
        self.timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def wait(self) -> "asyncio.Future[Caught]":
        """Return what becomes of the next call that nobody before us gets."""
        future: asyncio.Future[Caught] = self._loop.create_future()
        self.waiting.append(future)
        self._loop.add_reader(self.sock, self._accept)
        return future

    def _accept(self) -> None:
        while self.waiting and self.waiting[0].done():
            self.waiting.popleft()
        if not self.waiting:
            self._loop.remove_reader(self.sock)
            return
        with contextlib.suppress(OSError):
            caught = self.sock.accept()
            caught[0].setblocking(False)
            self.waiting.popleft().set_result(caught)

    def close(self) -> None:
        """Give the port up; calls in the queue are reset."""
        self._loop.remove_reader(self.sock)
        self.sock.close()


class Listeners:
    """All of one proxy."""

    def __init__(self) -> None:
        self._held: dict[_Key, Listener] = {}

    def join(self, user: str, local: str, port: int) -> Listener:
        """Return the listener at a port of `local` (0: any), a new one where the user has none. Raises NotOpened."""
        listener = self._held.get((user, local, port)) or self._make(user, local, port)
        listener.users += 1
        if listener.timer is not None:
            listener.timer.cancel()
            listener.timer = None
        return listener

    def leave(self, listener: Listener) -> None:
        """Note that one fewer waits there."""
        listener.users -= 1
        if not listener.users:
            listener.timer = asyncio.get_running_loop().call_later(LINGER, self._drop, listener)

    def close(self) -> None:
        """Give all ports up."""
        for listener in list(self._held.values()):
            self._drop(listener)

    def __len__(self) -> int:
        return len(self._held)

    def _drop(self, listener: Listener) -> None:
        if listener.timer is not None:
            listener.timer.cancel()
        if self._held.pop(listener.key, None) is not None:
            listener.close()

    def _make(self, user: str, local: str, port: int) -> Listener:
        if sum(key[0] == user for key in self._held) >= PER_USER:
            raise NotOpened(Code.NOT_ALLOWED, "limit")
        if 0 < port < FIRST_PORT:
            raise NotOpened(Code.NOT_ALLOWED, "port")
        sock = socket.socket(socket.AF_INET6 if ":" in local else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((local, port))
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            raise NotOpened(Code.FAILURE, "bind") from error
        listener = Listener((user, local, sock.getsockname()[1]), sock)
        self._held[listener.key] = listener
        return listener
