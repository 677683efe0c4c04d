"""What this process's sockets stand on: a host daemon's tunnels where one runs, else a worker of our own.

Set by the environment, or by `configure` before the first connection:

    SOJOURN_CONFIG_DIR   where `sojourn join` has left host.toml and the key (~/.config/sojourn, else /etc/sojourn)
    SOJOURN_SOCKS_PORT   the anchor's SOCKS port (1080)
    SOJOURN_HOST_SOCKET  the host daemon's control socket
    SOJOURN_APP          what policies call this program
"""

import atexit
import os
import sys
import threading
from pathlib import Path
from typing import Final

from sojourn.api.messages import HOST_SOCKET
from sojourn.control.socks_config import SOCKS_PORT
from sojourn.model import Origin
from sojourn.socket.carried import Carried
from sojourn.socket.worker import Worker, here
from sojourn.store.config_dir import DEFAULT, ConfigDir

OWN: Final = "~/.config/sojourn"


class Choice:
    """One process's. After fork() a child has one of its own: threads do not follow."""

    def __init__(self) -> None:
        environment = os.environ.get
        self.application = environment("SOJOURN_APP", "")
        self.config_dir = environment("SOJOURN_CONFIG_DIR", "")
        self.port = int(environment("SOJOURN_SOCKS_PORT", "") or SOCKS_PORT)
        self.carried = Carried(environment("SOJOURN_HOST_SOCKET", "") or HOST_SOCKET)
        self._worker: Worker | None = None
        self._lock = threading.Lock()

    def by_tunnels(self) -> bool:
        """Say whether a host daemon carries what is opened now. What runs already keeps what it began with."""
        return self._worker is None and self.carried.there()

    def worker(self) -> Worker:
        """Return the worker; the first time it is started. Raises ConfigError, OSError."""
        with self._lock:
            if self._worker is None:
                self._worker = Worker(ConfigDir(str(self._folder())), self.port)
            return self._worker

    @property
    def running(self) -> Worker | None:
        """The worker, if there is one."""
        return self._worker

    def is_ours(self) -> bool:
        """Say whether the thread that runs is the worker's: its own sockets are ordinary ones."""
        return getattr(here, "ours", False)

    def origin(self) -> Origin:
        """Return what policies are told of this program."""
        script = sys.argv[0] if sys.argv and sys.argv[0] not in ("", "-c", "-m") else ""
        path = os.path.abspath(script) if script else ""
        return Origin(
            os.getpid(), sys.executable, path, os.path.basename(script or sys.executable)[:15],
            os.getpid(), os.getuid(), name=self.application,
        )  # fmt: skip

    def _folder(self) -> Path:
        if self.config_dir:
            return Path(self.config_dir).expanduser()
        own = Path(OWN).expanduser()
        return own if (own / "host.toml").exists() else Path(DEFAULT)


choice = Choice()


def _child() -> None:
    application, config_dir, port, path = choice.application, choice.config_dir, choice.port, choice.carried.path
    choice.__init__()  # type: ignore[misc]  # the lock and the worker are the parent's
    choice.application, choice.config_dir, choice.port, choice.carried = application, config_dir, port, Carried(path)


def _end() -> None:
    if choice.running is not None:
        choice.running.drain()


os.register_at_fork(after_in_child=_child)
atexit.register(_end)
