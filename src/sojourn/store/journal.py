"""A file of JSON lines that does not grow without end: at its limit it becomes FILE.1."""

import contextlib
import os
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 2 << 20
"""Of each of the two files: some 10,000 entries of the roaming log."""


class Journal:
    """One log file. A disk that fails costs entries, never the daemon."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._older = path.with_name(path.name + ".1")
        self._max = max_bytes
        self.lost = 0
        """Lines that could not be written."""

    def lines(self) -> list[bytes]:
        """Return what is there, oldest first."""
        found: list[bytes] = []
        for path in (self._older, self._path):
            with contextlib.suppress(OSError):
                found += path.read_bytes().splitlines()
        return found

    def write(self, line: bytes) -> None:
        """Append one line (it brings its own newline)."""
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            try:
                os.write(descriptor, line)
                full = os.fstat(descriptor).st_size >= self._max
            finally:
                os.close(descriptor)
            if full:
                os.replace(self._path, self._older)
        except OSError:
            self.lost += 1
