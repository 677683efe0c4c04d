"""A window that root starts: what serves web pages has no rights, not even to the control socket.

    parent (root)   only connects to the one control socket, and hands the connection over
    child           whoever called sudo, else nobody, with no groups: serves

They talk over a socket pair: a byte asks for a connection; the answer is the descriptor, or an error number.
Started by anybody else there is one process, which is as weak as its user.
"""

import asyncio
import contextlib
import os
import pwd
import signal
import socket
import struct
from typing import Final, NoReturn

from sojourn.errors import ConfigError
from sojourn.linux import confine

ASKED: Final = b"?"
ERROR_NUMBER: Final = struct.Struct("=i")
NOBODY: Final = "nobody"


class Broker:
    """The child's end: connections to the control socket, made by the parent."""

    def __init__(self, pair: socket.socket) -> None:
        self._pair = pair
        self._pair.setblocking(False)
        self._turn = asyncio.Lock()
        self._owed = 0  # answers that are still to come: more than one where somebody did not wait for his

    async def connect(self) -> socket.socket:
        """Return a connection. Raises OSError as the parent met it."""
        async with self._turn:
            await asyncio.get_running_loop().sock_sendall(self._pair, ASKED)
            self._owed += 1
            while self._owed > 1:
                given_up, _ = await self._answer()
                if given_up is not None:
                    given_up.close()
            connection, number = await self._answer()
        if connection is None:
            raise OSError(number, os.strerror(number))
        connection.setblocking(False)
        return connection

    async def _answer(self) -> tuple[socket.socket | None, int]:
        """Return the next answer: a connection, or the number of the error. Raises ConnectionResetError."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._pair, lambda: None if answered.done() else answered.set_result(None))
        try:
            await answered
        finally:
            loop.remove_reader(self._pair)
        data, descriptors, _, _ = socket.recv_fds(self._pair, ERROR_NUMBER.size, 1)
        self._owed -= 1
        if len(data) < ERROR_NUMBER.size:
            raise ConnectionResetError("the window's other half has ended")
        (number,) = ERROR_NUMBER.unpack(data)
        return (socket.socket(fileno=descriptors[0]) if descriptors else None), number


def caller() -> tuple[int, int]:
    """Return the user and group that serve: whoever called sudo, else nobody."""
    user, group = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    if user.isdigit() and group.isdigit() and int(user):
        return int(user), int(group)
    try:
        entry = pwd.getpwnam(NOBODY)
    except KeyError as error:
        fix = "Make one, or run `sojourn window` as a member of the group sojourn."
        raise ConfigError("/etc/passwd", f"has no user {NOBODY}", fix) from error
    return entry.pw_uid, entry.pw_gid


def drop_rights(user: int, group: int) -> None:
    """Become somebody else for good. No new privileges: later, once the browser was started, which may need some."""
    os.setgroups([])
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)
    entry = None
    with contextlib.suppress(KeyError):
        entry = pwd.getpwuid(user)
    os.environ["HOME"] = entry.pw_dir if entry is not None else "/"
    os.environ["USER"] = os.environ["LOGNAME"] = entry.pw_name if entry is not None else str(user)


def split(path: str) -> Broker | None:
    """In a process of root's: fork; return in the child, without rights, with its broker. The parent never returns.

    In any other process: return None.
    """
    if os.geteuid() != 0:
        return None
    user, group = caller()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    parent, child = os.getpid(), os.fork()
    if child:
        theirs.close()
        _serve(path, ours, child)
    ours.close()
    drop_rights(user, group)
    confine.end_with_parent(parent)
    return Broker(theirs)


def _serve(path: str, pair: socket.socket, child: int) -> NoReturn:
    """Connect for the child until it ends, and end as it did."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda caught, _frame: os.kill(child, caught))
    while True:
        try:
            if pair.recv(1) != ASKED:
                break
            _hand_over(path, pair)
        except OSError:
            break
    _, status = os.waitpid(child, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0x7F)


def _hand_over(path: str, pair: socket.socket) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.settimeout(5.0)
            connection.connect(path)
        except OSError as error:
            pair.sendall(ERROR_NUMBER.pack(error.errno or 5))
            return
        socket.send_fds(pair, [ERROR_NUMBER.pack(0)], [connection.fileno()])
