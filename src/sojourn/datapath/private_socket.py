"""The private Unix socket of a data-path process: one owner a path, and one user who may connect.

A lock file beside it says whether its owner lives: the kernel lets the lock go with the process, so
that a socket file without a locked lock is a dead process's and is replaced.
"""

import contextlib
import os
import socket
import struct
import time
from pathlib import Path
from typing import Final

from sojourn.errors import SojournError
from sojourn.linux import lock as locks

LOCK_PATIENCE: Final = 2.0
"""Seconds to wait for a process that is just ending."""
BUFFER_BYTES: Final = 1 << 20
_BACKLOG: Final = 4


class PrivateListener:
    """A listening socket (0600) and the lock that makes it the only one of its path."""

    def __init__(self, path: Path, patience: float = LOCK_PATIENCE) -> None:
        """Take the path over from a dead owner; raise SojournError when a living one has it."""
        self.path = path
        self._lock_path = path.with_name(path.name + ".lock")
        self._lock = self._take_lock(patience)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        path.unlink(missing_ok=True)
        previous = os.umask(0o177)
        try:
            self.socket.bind(str(path))
        finally:
            os.umask(previous)
        self.socket.listen(_BACKLOG)

    def close(self) -> None:
        """Stop to listen and remove both files."""
        self.socket.close()
        self.path.unlink(missing_ok=True)
        locks.release(self._lock_path, self._lock)

    def _take_lock(self, patience: float) -> int:
        until = time.monotonic() + patience
        while (lock := locks.take(self._lock_path)) is None:
            if time.monotonic() > until:
                raise SojournError(f"{self.path}: another data path is running here")
            time.sleep(0.01)
        return lock


def remove_stale(path: Path) -> None:
    """Remove what a dead owner has left; a living one keeps its own."""
    if path.exists() or path.with_name(path.name + ".lock").exists():
        with contextlib.suppress(SojournError):
            PrivateListener(path, patience=0.0).close()


def peer(connection: socket.socket) -> tuple[int, int]:
    """Return (process id, user id) of whoever is at the other end (SO_PEERCRED)."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", credentials)
    return pid, uid


def may_connect(connection: socket.socket) -> bool:
    """Say whether the other end is root or our own user."""
    return peer(connection)[1] in {0, os.geteuid()}


def widen(connection: socket.socket) -> None:
    """Give a connection room for a burst of events."""
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        connection.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
