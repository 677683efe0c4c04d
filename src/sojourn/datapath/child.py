"""One data-path process as its control sees it: its id, its end, and a connection to it from birth."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import sojourn

_CONTROL_FD: Final = 3
_ENVIRONMENT: Final = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "SOJOURN_WITHOUT",
    "SOJOURN_ENGINE",
    "SOJOURN_THREADS",
    "PYTHONDEVMODE",
    "COVERAGE_PROCESS_START",
)
"""What of our environment a data path gets."""


class Child:
    """A process that was started, or adopted: then it is nobody's child and has no exit status."""

    def __init__(self, pid: int, control: socket.socket | None, on_exit: Callable[["Child"], None]) -> None:
        self.pid = pid
        self.status = "exit status unknown"
        self._control = control
        self._ours = control is not None
        self._pidfd = os.pidfd_open(pid)
        self._loop = asyncio.get_running_loop()
        self.on_exit = on_exit
        self._ended = asyncio.Event()
        self._loop.add_reader(self._pidfd, self._exited)

    @classmethod
    def start(cls, arguments: Sequence[str], on_exit: Callable[["Child"], None]) -> "Child":
        """Start Python with `arguments`, and a connection to us that it is told of as `--control`.

        It is of a session of its own: Ctrl-C is meant for control, which then ends it properly.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        # -P: the current directory must not lend modules to a process of root's.
        argv = [sys.executable, "-P", *arguments, "--control", str(_CONTROL_FD)]
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        environment["PYTHONPATH"] = str(Path(sojourn.__file__).parents[1])
        with theirs:
            pid = os.posix_spawn(
                sys.executable,
                argv,
                environment,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), _CONTROL_FD),
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                ],
                setsid=True,
            )
        return cls(pid, ours, on_exit)

    @classmethod
    def adopt(cls, pid: int, on_exit: Callable[["Child"], None]) -> "Child":
        """Watch a process that another control started."""
        return cls(pid, None, on_exit)

    def take_control(self) -> socket.socket:
        """Return our end of the connection it was born with, the caller's from now on."""
        control, self._control = self._control, None
        if control is None:
            raise ValueError(f"process {self.pid} has no connection to give")
        return control

    def close_control(self) -> None:
        """Tell a spare that it is not needed: it ends."""
        if self._control is not None:
            self._control.close()
            self._control = None

    def kill(self, number: signal.Signals) -> None:
        """Send it a signal, and no other process that has got its id since."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    async def ended(self, patience: float) -> None:
        """Wait until it has ended; after `patience` seconds see to it."""
        try:
            await asyncio.wait_for(self._ended.wait(), patience)
        except TimeoutError:
            self.kill(signal.SIGKILL)
            await self._ended.wait()

    def forget(self) -> None:
        """Watch it no longer."""
        self.close_control()
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _exited(self) -> None:
        self._loop.remove_reader(self._pidfd)
        if self._ours:
            _, status = os.waitpid(self.pid, os.WNOHANG)
            code = os.waitstatus_to_exitcode(status)
            self.status = f"exit status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        self._ended.set()
        self.on_exit(self)
