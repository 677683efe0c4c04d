"""A lock file with one owner, whose process id stands in it.

The kernel lets the lock go with its process: what a crash leaves is a file and no lock, and the next one takes it over.
"""

import contextlib
import fcntl
import os
from pathlib import Path


def take(path: Path) -> int | None:
    """Lock the file, made if need be, and return what holds it; None while a living process has it."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        with contextlib.suppress(FileNotFoundError):
            if os.fstat(lock).st_ino == path.stat().st_ino:
                with contextlib.suppress(OSError):  # a full disk: nobody is told who has it, and that is all
                    os.ftruncate(lock, 0)
                    os.pwrite(lock, b"%d\n" % os.getpid(), 0)
                return lock
        os.close(lock)  # its owner removed it between our open and our lock


def release(path: Path, lock: int) -> None:
    """Remove the file and let the lock go."""
    path.unlink(missing_ok=True)
    os.close(lock)


def owner(path: Path) -> int | None:
    """Return the process that has it, as far as the file says; None when nothing can be read there."""
    try:
        return int(path.read_bytes())
    except (OSError, ValueError):
        return None
