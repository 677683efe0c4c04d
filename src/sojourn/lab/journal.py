"""What a traffic process saw, as JSON lines: written by it, followed live and judged afterwards by others.

    {"t": 12.3, "kind": "sent", "n": 7}                   voice packet 7 left
    {"t": 12.3, "kind": "got", "n": 7, "sent": 12.28}     voice packet 7 arrived
    {"t": 12.3, "kind": "got", "n": 4096}                 this many bytes of a stream arrived
    {"t": 12.3, "kind": "error", "why": "..."}            the system reported an error to the application
    {"t": 12.3, "kind": "end", "ok": true, "why": "..."}  it is over, and whether all was as it should be

`t` is CLOCK_BOOTTIME in seconds, one clock for every namespace.
"""

from pathlib import Path
from typing import Self

import msgspec
from msgspec import Struct

from sojourn.lab.processes import now


class Line(Struct, frozen=True, omit_defaults=True):
    """One thing that happened."""

    t: float
    kind: str
    n: int = 0
    sent: float = 0.0
    ok: bool = False
    why: str = ""


class Journal:
    """The writing side: each line is in the file when the call returns. A context that closes the file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _write(self, line: Line) -> None:
        self._file.write(msgspec.json.encode(line) + b"\n")

    def sent(self, n: int) -> None:
        """Packet `n` left."""
        self._write(Line(now(), "sent", n))

    def got(self, n: int, sent: float = 0.0) -> None:
        """Packet `n`, sent at `sent`, or `n` bytes of a stream arrived."""
        self._write(Line(now(), "got", n, sent))

    def error(self, why: str) -> None:
        """Note that the application was told of an error."""
        self._write(Line(now(), "error", why=why))

    def end(self, ok: bool, why: str = "") -> None:
        """Note that it is over. `why` says what was wrong, or what was checked."""
        self._write(Line(now(), "end", ok=ok, why=why))


class Follower:
    """The reading side: gives out each line once, whole lines only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0

    def new_lines(self) -> list[Line]:
        """Return what was written since the last call; nothing while there is no file."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [msgspec.json.decode(line, type=Line) for line in whole.splitlines()]
