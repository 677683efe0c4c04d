"""Holds descriptors, each with a note, over the death of the process that uses them. `python -m sojourn.linux.keeper`.

One process on a private Unix socket (SEQPACKET, 0600). Whoever connects is told all that is held, and
from then on says what to hold and what to let go; the newest to connect is the one that counts. It
ends when it is told to, or ORPHANED seconds after its user has died without a successor (EMPTY, when it
holds nothing): then every connection closes.
"""

import array
import contextlib
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from sojourn.errors import SojournError

ORPHANED: Final = 60.0
EMPTY: Final = 5.0
"""The same when there is nothing to hold."""
MAX_MESSAGE_BYTES: Final = 65536
MAX_DESCRIPTORS: Final = 32
"""Of one note."""
SEND_TIMEOUT: Final = 2.0
START_TIMEOUT: Final = 10.0
POLL: Final = 0.01


class Note(Struct, array_like=True, frozen=True):
    """One message. An empty name from the keeper: that was all. From its user: end."""

    name: bytes
    text: bytes = b""
    hold: bool = True


def send(sock: socket.socket, note: Note, fds: Sequence[int] = ()) -> None:
    """Send one note with its descriptors. OSError when the other side is gone or does not read."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([msgspec.msgpack.encode(note)], rights)


def receive(sock: socket.socket) -> tuple[Note, list[int]] | None:
    """Read one note with its descriptors, which are the caller's from now on; None at the end."""
    space = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)
    data, ancillary, flags, _ = sock.recvmsg(MAX_MESSAGE_BYTES, space, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    if not data:
        return None
    try:
        if flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC):
            raise SojournError("a note that was cut")
        return msgspec.msgpack.decode(data, type=Note), list(fds)
    except (msgspec.DecodeError, SojournError) as error:
        close(fds)
        raise OSError(f"no note: {error}") from error


def close(fds: Sequence[int]) -> None:
    """Close descriptors."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


class Keeper:
    """The process's state."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self._user: socket.socket | None = None
        self._held: dict[bytes, tuple[bytes, list[int]]] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(listening, selectors.EVENT_READ)
        self._alone_since: float | None = time.monotonic()

    def run(self) -> None:
        """Serve until it is time to end."""
        while True:
            wait = ORPHANED if self._held else EMPTY
            left = None if self._alone_since is None else self._alone_since + wait - time.monotonic()
            if left is not None and left <= 0:
                return
            for key, _ in self._selector.select(left):
                if key.fileobj is self._listening:
                    goes_on = self._welcome(self._listening.accept()[0])
                else:
                    goes_on = self._listen()
                if not goes_on:
                    return

    def _welcome(self, sock: socket.socket) -> bool:
        """Let a user take over, once all that its predecessor has said is heard; False: end."""
        if not self._hear_out():
            sock.close()
            return False
        sock.settimeout(SEND_TIMEOUT)
        self._user, self._alone_since = sock, None
        self._selector.register(sock, selectors.EVENT_READ)
        try:
            for name, (text, fds) in self._held.items():
                send(sock, Note(name, text), fds)
            send(sock, Note(b""))
        except OSError:  # gone already; what it said before counts
            return self._hear_out()
        return True

    def _hear_out(self) -> bool:
        """Take every note that has come, then part; False: end."""
        while self._user is not None and select.select([self._user], [], [], 0)[0]:
            if not self._listen():
                return False
        self._part()
        return True

    def _part(self) -> None:
        if self._user is not None:
            self._selector.unregister(self._user)
            self._user.close()
            self._user = None
        self._alone_since = time.monotonic()

    def _listen(self) -> bool:
        """Take one note; False: end."""
        if self._user is None:
            return True
        try:
            received = _receive_last(self._user)
        except OSError:
            received = None
        if received is None:
            self._part()
            return True
        note, fds = received
        if not note.name:
            return False
        close(self._held.pop(note.name, (b"", []))[1])
        if note.hold:
            self._held[note.name] = note.text, fds
        else:
            close(fds)
        return True


_started: list[subprocess.Popen[bytes]] = []
"""Kept so that nobody complains that they still run."""


def _receive_last(sock: socket.socket) -> tuple[Note, list[int]] | None:
    """Read one note, also of a user that closed without reading all: the kernel tells that first, once."""
    try:
        return receive(sock)
    except ConnectionResetError:
        return receive(sock)


def connect(path: Path) -> socket.socket:
    """Return a connection to the keeper at `path`, which is started if none is there. Raises OSError."""
    with contextlib.suppress(OSError):
        return _connect(path)
    argv = [sys.executable, "-m", "sojourn.linux.keeper", str(path)]
    process = subprocess.Popen(  # it outlives us: nobody waits for it
        argv, stdin=subprocess.DEVNULL, start_new_session=True
    )
    _started.append(process)
    until = time.monotonic() + START_TIMEOUT
    while True:
        try:
            return _connect(path)
        except OSError:
            if time.monotonic() > until or process.poll() is not None:
                raise
            time.sleep(POLL)


def _connect(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.settimeout(SEND_TIMEOUT)
        sock.connect(str(path))
    except OSError:
        sock.close()
        raise
    return sock


def main(path: str) -> None:
    """Be the keeper. Signals that stop a daemon are not for it: it ends by itself."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise_descriptors()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    before = os.umask(0o177)
    listening.bind(path)
    os.umask(before)
    listening.listen(4)
    try:
        Keeper(listening).run()
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def raise_descriptors() -> None:
    """Allow this process as many descriptors as it may have."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    main(sys.argv[1])
