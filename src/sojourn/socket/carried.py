"""Where a host daemon runs: its control socket says which network carries a socket's flow, and moves it."""

import socket
import threading
from collections.abc import Callable
from typing import Any, Final

from sojourn.api.client import Client
from sojourn.api.messages import ApiError, ErrorKind
from sojourn.errors import SojournError
from sojourn.linux.clock import now

LOOK: Final = 5.0
"""Seconds for which the answer to "is one there?" holds."""
DECISIONS: Final = ("handover", "moved", "confirmed", "order")
RETRY: Final = 2.0


def host_daemon_carries(path: str) -> bool:
    """Ask a host daemon whether it is there and associated. One that may not be asked is taken at its presence."""
    client = Client(path, LOOK)
    try:
        return bool(client.call("about")["role"] == "host" and client.call("status")["state"] == "associated")
    except ApiError as error:
        return error.kind is ErrorKind.NO_PERMISSION
    except (SojournError, OSError, KeyError):
        return False


class Carried:
    """A host daemon, as a program sees it that uses its tunnels."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._looked = -LOOK
        self._there = False
        self._watched: dict[int, tuple[socket.socket, str | None, Callable[[str, str], None]]] = {}
        self._lock = threading.Lock()
        self._following: threading.Thread | None = None

    def there(self) -> bool:
        """Say whether it carries this machine's traffic."""
        if now() >= self._looked + LOOK:
            self._there = host_daemon_carries(self.path)
            self._looked = now()
        return self._there

    def networks(self) -> list[dict[str, Any]]:
        """Return what it says of its networks. Raises ApiError."""
        rows: list[dict[str, Any]] = Client(self.path).call("networks")
        return rows

    def row(self, sock: socket.socket) -> dict[str, Any] | None:
        """Return the flow of a connected socket, None while nothing of it has passed. Raises ApiError."""
        local, remote = _text(sock.getsockname()), _text(sock.getpeername())
        rows = Client(self.path).call("flows")
        return next((row for row in rows if row["local"] == local and row["remote"] == remote), None)

    def move(self, sock: socket.socket, name: str) -> None:
        """Order a socket's flow to another network. Raises ApiError."""
        row = self.row(sock)
        if row is None:
            raise ApiError("nothing of this connection has passed yet", "Move it after its first byte.")
        Client(self.path).call("handover", flow=row["id"], to=name)

    def watch(self, sock: socket.socket, callback: Callable[[str, str], None]) -> None:
        """Call `callback` with the networks before and after each move of a socket's flow."""
        row = self.row(sock)
        with self._lock:
            self._watched[sock.fileno()] = (sock, row["network"] if row else None, callback)
            if self._following is None:
                self._following = threading.Thread(target=self._follow, name="sojourn-log", daemon=True)
                self._following.start()

    def _follow(self) -> None:
        """Look at the sockets after each decision that the daemon's log tells; ends with the last of them."""
        wait = threading.Event()
        while self._watched:
            try:
                for entry in Client(self.path).stream("log", follow=True, limit=0):
                    if entry["event"] in DECISIONS:
                        self._look()
                    if not self._watched:
                        break
            except (SojournError, OSError):
                wait.wait(RETRY)
        self._following = None

    def _look(self) -> None:
        for number, (sock, before, callback) in list(self._watched.items()):
            try:
                row = self.row(sock)
            except OSError:  # closed
                self._watched.pop(number, None)
                continue
            after = row["network"] if row else None
            if after is not None and after != before:
                self._watched[number] = (sock, after, callback)
                if before is not None:
                    callback(before, after)


def _text(address: Any) -> str:
    host, port = str(address[0]).partition("%")[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
