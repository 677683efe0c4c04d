"""The anchor's records in one SQLite file (WAL), readable by its owner only.

A subscriber is one MessagePack blob: the record type may gain fields, which older rows then
have by default, without a change of schema. The daemon and `sojourn anchor token` may have
the file open at once; SQLite's locks put their writes in order.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from sojourn.errors import ConfigError
from sojourn.store.base import AnchorRecords
from sojourn.upmt.records import PortForward, Subscriber

SCHEMA_VERSION: Final = 1
BUSY_TIMEOUT: Final = 5.0
"""Seconds to wait for the other process's write, which takes milliseconds."""
_SYNCED: Final = "synced"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS subscriber (user TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS forward (
    protocol INTEGER, public_port INTEGER, user TEXT NOT NULL, port INTEGER NOT NULL,
    PRIMARY KEY (protocol, public_port)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
"""


class SqliteStore:
    """`Store` on a file. Every method may raise ConfigError (disk full, file damaged, no permission)."""

    def __init__(self, path: str) -> None:
        self.path = path
        with self._trouble():
            # SQLite creates files by umask; its -wal and -shm take the mode of the database.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            self._database = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None)
            try:
                self._prepare()
            except BaseException:
                self._database.close()
                raise

    def load(self) -> AnchorRecords:
        """Read everything, in one transaction."""
        with self._transaction():
            subscribers = [self._subscriber(record) for (record,) in self._rows("SELECT record FROM subscriber")]
            forwards = self._rows("SELECT protocol, public_port, user, port FROM forward ORDER BY 1, 2")
            meta = self._rows("SELECT key, value FROM meta")
        return AnchorRecords(
            {subscriber.user: subscriber for subscriber in subscribers},
            tuple(PortForward(*row) for row in forwards),
            dict(meta),
        )

    def put(self, *subscribers: Subscriber, lasting: bool = True) -> None:
        """Keep or replace subscribers, all of them or none. Not `lasting`: nobody waits for the disk."""
        rows = [(subscriber.user, msgspec.msgpack.encode(subscriber)) for subscriber in subscribers]
        with self._trouble(), self._synchronous(lasting), self._transaction():
            self._database.executemany("INSERT OR REPLACE INTO subscriber VALUES (?, ?)", rows)

    def sync(self) -> None:
        """Wait for the disk, once for all that was put without: the log is one file, and lasts up to a commit's end.

        The value is another each time: SQLite writes nothing, and so waits for nothing, where nothing changes.
        """
        self.put_meta(_SYNCED, os.urandom(8))

    def remove(self, user: str) -> None:
        """Forget a user with its port forwards."""
        with self._transaction():
            self._database.execute("DELETE FROM subscriber WHERE user = ?", (user,))
            self._database.execute("DELETE FROM forward WHERE user = ?", (user,))

    def put_forward(self, forward: PortForward) -> None:
        """Keep a port forward; one with the same protocol and public port is replaced."""
        row = (forward.protocol, forward.public_port, forward.user, forward.port)
        self._write("INSERT OR REPLACE INTO forward VALUES (?, ?, ?, ?)", row)

    def remove_forward(self, protocol: int, public_port: int) -> None:
        """Forget a port forward."""
        self._write("DELETE FROM forward WHERE protocol = ? AND public_port = ?", (protocol, public_port))

    def put_meta(self, key: str, value: bytes) -> None:
        """Keep a single value."""
        self._write("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def close(self) -> None:
        """Let go of the file; the write-ahead log is folded into it."""
        self._database.close()

    def _prepare(self) -> None:
        self._database.execute("PRAGMA journal_mode = WAL")
        # FULL: a host that was told its new credential must find it valid after a power cut, too.
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute("PRAGMA secure_delete = ON")  # old secrets are erased (DESIGN §3.2, Keys)
        ((found,),) = self._rows("PRAGMA user_version")
        if found > SCHEMA_VERSION:
            why = f"was written by a newer Sojourn (schema {found}, this one knows {SCHEMA_VERSION})"
            raise ConfigError(self.path, why, "Install that version again, or start with another --config-dir.")
        if found < SCHEMA_VERSION:
            self._database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")

    def _subscriber(self, record: bytes) -> Subscriber:
        try:
            return msgspec.msgpack.decode(record, type=Subscriber)
        except msgspec.DecodeError as error:
            raise self._damaged(str(error)) from error

    def _rows(self, statement: str) -> list[Any]:
        return self._database.execute(statement).fetchall()

    def _write(self, statement: str, row: Sequence[object]) -> None:
        with self._transaction():
            self._database.execute(statement, row)

    @contextmanager
    def _synchronous(self, lasting: bool) -> Iterator[None]:
        """Wait for the disk at the end of what follows, or leave it to the next one that does."""
        if lasting:
            yield
            return
        self._database.execute("PRAGMA synchronous = NORMAL")
        try:
            yield
        finally:
            self._database.execute("PRAGMA synchronous = FULL")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._trouble():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            fix = "Check the disk's free space and who may write there."
            raise ConfigError(self.path, f"cannot be used: {error}", fix) from error
        except sqlite3.DatabaseError as error:
            raise self._damaged(str(error)) from error
        except OSError as error:
            raise ConfigError(self.path, f"cannot be opened: {error.strerror}", "Run it as root.") from error

    def _damaged(self, why: str) -> ConfigError:
        fix = "Restore it from a backup; or move it away: every host then needs a new token."
        return ConfigError(self.path, f"is damaged: {why}", fix)
