"""Connections that somebody else keeps alive, opened plainly: where a host daemon runs, or by `via = "direct"`.

A host daemon knows programs, not user names of a proxy. So for each application that has said its name there is a
process of its own (daemon/socks_named.py), which the daemon is told to call so: its rows, policies and orders are
then the application's. Those who have said no name are carried by the entrance's own process.
"""

import asyncio
import contextlib
import socket
import subprocess
import sys
from typing import Final

import msgspec
import structlog
from msgspec import Struct

from sojourn.control.socks_access import Access
from sojourn.control.socks_config import SocksConfig
from sojourn.daemon.socks_open import NotOpened, Opener
from sojourn.daemon.socks_wanted import Wanted
from sojourn.linux.clock import now
from sojourn.linux.relay import Over, Relay
from sojourn.linux.stream_file import private_session
from sojourn.msocks.socks5 import Address, Code
from sojourn.socket.carried import LOOK, host_daemon_carries

BUFFER_BYTES: Final = 256 * 1024
MAX_NAMED: Final = 32
"""Applications with a process of their own; further ones are the entrance's."""

_log = structlog.get_logger(__name__)


class Job(Struct, frozen=True, array_like=True):
    """One connection to open and to carry, with what its application is to be told."""

    to: Address
    first: bytes
    opened: bytes
    failed: dict[int, bytes]


def job_of(wanted: Wanted) -> Job:
    """Return what is to be done."""
    opened = wanted.opened()
    return Job(wanted.to, wanted.first, opened, {code: wanted.failed(code) for code in Code})


class Carrier:
    """Opens connections plainly, and carries them."""

    def __init__(self) -> None:
        self.opener = Opener(Access(SocksConfig(), (), ()))
        self._relays: set[Relay] = set()

    def __len__(self) -> int:
        return len(self._relays)

    async def carry(self, near: socket.socket, job: Job) -> bool:
        """Carry one connection; say whether it was opened, and `near` is ours now. Raises OSError."""
        loop = asyncio.get_running_loop()
        try:
            far = await self.opener.connect("", job.to)
        except NotOpened as error:
            await loop.sock_sendall(near, job.failed[error.code])
            return False
        await loop.sock_sendall(near, job.opened)
        session = private_session(BUFFER_BYTES)
        session.out.put(job.first)

        def over(_how: Over) -> None:
            self._relays.discard(relay)

        relay = Relay(near, session, returns=False, on_leg_lost=lambda: None, on_over=over)
        self._relays.add(relay)
        relay.start(far)
        return True

    def close(self) -> None:
        """End everything."""
        for relay in self._relays:
            relay.close(reset=True)
        self._relays.clear()
        self.opener.close()


class Direct:
    """All of one entrance."""

    def __init__(self, path: str) -> None:
        """`path`: the host daemon's control socket."""
        self.is_there = False
        """A host daemon carried this machine's traffic when we looked last."""
        self.count = 0
        """Connections that were carried so."""
        self._path = path
        self._looked = -LOOK
        self._carrier = Carrier()
        self._named: dict[str, NamedProcess] = {}

    @property
    def opener(self) -> Opener:
        """What resolves names here."""
        return self._carrier.opener

    async def there(self) -> bool:
        """Say whether a host daemon carries this machine's traffic."""
        if now() >= self._looked + LOOK:
            self._looked = now()
            self.is_there = await asyncio.to_thread(host_daemon_carries, self._path)
        return self.is_there

    async def serve(self, near: socket.socket, wanted: Wanted) -> bool:
        """Open and carry one connection; say whether it is somebody else's now."""
        self.count += 1
        job, process = job_of(wanted), self._process(wanted.name)
        if process is not None and process.give(near, job):
            near.close()
            return True
        return await self._carrier.carry(near, job)

    def close(self) -> None:
        """End everything."""
        self._carrier.close()
        for process in self._named.values():
            process.close()

    def _process(self, name: str) -> "NamedProcess | None":
        if not name or not self.is_there:
            return None
        process = self._named.get(name)
        if process is None or not process.running:
            if process is None and len(self._named) >= MAX_NAMED:
                return None
            try:
                process = self._named[name] = NamedProcess(name, self._path)
            except OSError as error:
                _log.warning("an application has no process of its own", application=name, why=str(error))
                return None
        return process


class NamedProcess:
    """A process that carries one application's connections. It ends when we close our end, or end ourselves."""

    def __init__(self, name: str, path: str) -> None:
        self._line, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            words = [sys.executable, "-m", "sojourn.daemon.socks_named", name, path, str(its.fileno())]
            self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, pass_fds=[its.fileno()])

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def give(self, near: socket.socket, job: Job) -> bool:
        """Hand it a connection; say whether it took it."""
        try:
            socket.send_fds(self._line, [msgspec.msgpack.encode(job)], [near.fileno()], socket.MSG_DONTWAIT)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """End it."""
        self._line.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2.0)
            return
        self._process.kill()
        self._process.wait()
