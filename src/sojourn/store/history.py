"""What was measured of each network in the last day: a ring in one SQLite file (WAL), which keeps its size.

A file that is damaged is put aside and begun anew; a disk that is full costs samples. No method raises for that: the
past is never worth a daemon. Methods may be called from any one thread at a time.
"""

import contextlib
import logging
import os
import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

SAMPLE_SECONDS: Final = 5
"""Between two samples of a network."""
KEPT_SECONDS: Final = 24 * 3600
MAX_SAMPLES: Final = 400_000
"""Of all networks together: some 30 MB."""
MAX_POINTS: Final = 2000
COLUMNS: Final = ("rtt_ms", "rtt_max_ms", "loss", "jitter_ms", "in_bps", "out_bps")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS sample (
    at INTEGER NOT NULL, network TEXT NOT NULL, rtt_ms REAL, loss REAL, jitter_ms REAL, in_bps REAL, out_bps REAL,
    PRIMARY KEY (at, network)
) WITHOUT ROWID;
"""
_ASKED = """
SELECT network, (at - :since) / :step AS place,
    AVG(rtt_ms), MAX(rtt_ms), AVG(loss), AVG(jitter_ms), AVG(in_bps), AVG(out_bps)
FROM sample WHERE at >= :since AND at < :until AND (:network IS NULL OR network = :network) GROUP BY network, place
"""
_TOO_MANY = "DELETE FROM sample WHERE (at, network) IN (SELECT at, network FROM sample ORDER BY at LIMIT ?)"

_log = logging.getLogger(__name__)


class Sample(Struct, frozen=True):
    """What was known of one network at a time (Unix seconds); None = not known."""

    at: int
    network: str
    rtt_ms: float | None
    loss: float | None
    jitter_ms: float | None
    in_bps: float | None
    out_bps: float | None


class History:
    """The ring of one file."""

    def __init__(self, path: Path, kept: int = KEPT_SECONDS, most: int = MAX_SAMPLES) -> None:
        self._path, self._kept, self._most = path, kept, most
        self._database: sqlite3.Connection | None = None
        self._told = self._closed = False
        try:
            self._database = self._open()
        except (sqlite3.OperationalError, OSError):
            pass  # a disk that is full or read-only, not the file's fault: tried again with each sample
        except sqlite3.DatabaseError as error:
            _log.warning("the history in %s cannot be used (%s); a new one begins", path, error)
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(OSError):
                    os.replace(f"{path}{suffix}", f"{path}.damaged{suffix}")
            with contextlib.suppress(sqlite3.DatabaseError, OSError):
                self._database = self._open()

    def add(self, samples: Iterable[Sample]) -> None:
        """Write samples down, and forget what is too old."""
        rows = [(s.at, s.network, s.rtt_ms, s.loss, s.jitter_ms, s.in_bps, s.out_bps) for s in samples]
        if not rows or not self._is_open():
            return
        assert self._database is not None
        try:
            with self._database:
                self._database.executemany("INSERT OR REPLACE INTO sample VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
                self._database.execute("DELETE FROM sample WHERE at < ?", (max(row[0] for row in rows) - self._kept,))
                ((count,),) = self._database.execute("SELECT COUNT(*) FROM sample")
                if count > self._most:
                    self._database.execute(_TOO_MANY, (count - self._most,))
        except sqlite3.Error as error:
            _log.warning("history not written: %s", error)

    def between(self, since: int, until: int, points: int, network: str | None = None) -> dict[str, Any]:
        """Return means for at most `points` steps of time, a column each, null where nothing is known."""
        points = max(1, min(points, MAX_POINTS))
        step = max(SAMPLE_SECONDS, -(-(until - since) // points))
        places = max(0, -(-(until - since) // step))
        found: dict[str, dict[int, tuple[float | None, ...]]] = defaultdict(dict)
        if self._database is not None and places:
            asked = {"since": since, "until": until, "step": step, "network": network}
            with contextlib.suppress(sqlite3.Error):
                for name, place, *values in self._database.execute(_ASKED, asked):
                    found[name][place] = tuple(values)
        empty = (None,) * len(COLUMNS)
        return {
            "from": since,
            "until": until,
            "step_s": step,
            "networks": {
                name: {
                    "at": [since + place * step for place in range(places)],
                    **{
                        column: [_rounded(rows.get(place, empty)[number]) for place in range(places)]
                        for number, column in enumerate(COLUMNS)
                    },
                }
                for name, rows in sorted(found.items())
            },
        }

    def close(self) -> None:
        """Close the file."""
        self._closed = True
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
            self._database = None

    def _is_open(self) -> bool:
        """Say whether there is a file to write to; try again where there was none, and say once why not."""
        if self._database is None and not self._closed:
            try:
                self._database = self._open()
            except (sqlite3.Error, OSError) as error:
                if not self._told:
                    _log.warning("no history: %s", error)
                self._told = True
        return self._database is not None

    def _open(self) -> sqlite3.Connection:
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        database = sqlite3.connect(self._path, check_same_thread=False)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")  # a power failure may cost the last samples, not the file
            database.execute("PRAGMA journal_size_limit = 1048576")
            database.executescript(_SCHEMA)
            ((said,),) = database.execute("PRAGMA quick_check(1)")
            if said != "ok":
                raise sqlite3.DatabaseError(said)
        except BaseException:
            database.close()
            raise
        return database


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
