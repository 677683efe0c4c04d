"""One daemon of each kind in a configuration directory; a second one is refused, or takes over where it is told to.

Two of them would both drive the one data path, and each take the other's ports and leases away.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from sojourn.errors import ConfigError
from sojourn.linux import lock as locks

PATIENCE = 15.0
"""Seconds that a predecessor gets to make way: it takes well under one."""
POLL = 0.01


@contextlib.contextmanager
def tenure(directory: Path, role: str, *, replace: bool = False) -> Iterator[None]:
    """Be the only `sojourn ROLE` of a directory for as long as the block lasts.

    Raises ConfigError when another one runs there. With `replace` that one is told to make way first
    (daemon/ending.py), and its flows go on.
    """
    path = directory / f"{role}.lock"
    try:
        lock = locks.take(path)
        if lock is None and replace:
            lock = _succeed(path, role)
    except OSError as error:
        raise ConfigError(str(path), f"cannot be written: {error.strerror}", _remedy(error)) from error
    if lock is None:
        why = f"is in use: another `sojourn {role}` runs here{_who(path)}"
        fix = f"Stop it first; or `sojourn {role} --replace` takes over from it, and no flow breaks."
        raise ConfigError(str(directory), why, fix)
    try:
        yield
    finally:
        locks.release(path, lock)


def _succeed(path: Path, role: str) -> int:
    until = time.monotonic() + PATIENCE
    told = None
    while (lock := locks.take(path)) is None:
        predecessor = locks.owner(path)
        if predecessor is not None and predecessor != told:
            told = predecessor
            with contextlib.suppress(ProcessLookupError):
                os.kill(predecessor, signal.SIGUSR2)
        if time.monotonic() > until:
            why = f"the `sojourn {role}` that runs here{_who(path)} does not make way"
            raise ConfigError(str(path.parent), why, "Stop it (SIGTERM, else SIGKILL), then start this one.")
        time.sleep(POLL)
    return lock


def _who(path: Path) -> str:
    process = locks.owner(path)
    return f" (process {process})" if process is not None else ""


def _remedy(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "Run it as root, or choose a --config-dir of your own."
    return "Put it on a disk that is writable and has space, or name another --config-dir."
