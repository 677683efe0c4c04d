"""What is particular to the file: its mode, crashes, a second process, damage."""

import os
import signal
import sqlite3
import stat
from pathlib import Path

import pytest

from sojourn.errors import ConfigError
from sojourn.store.sqlite import SCHEMA_VERSION, SqliteStore
from sojourn.upmt.records import Subscriber


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "anchor.db")


def test_nobody_else_may_read_the_file_or_its_log(path: str) -> None:
    store = SqliteStore(path)
    store.put(Subscriber("a", "a"))
    modes = {name: stat.S_IMODE(os.stat(path + name).st_mode) for name in ("", "-wal", "-shm")}
    store.close()
    assert modes == {"": 0o600, "-wal": 0o600, "-shm": 0o600}


def test_what_was_put_survives_kill_9(path: str) -> None:
    pid = os.fork()
    if pid == 0:
        SqliteStore(path).put(Subscriber("a", "a", move=5), Subscriber("b", "b"))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert {user: subscriber.move for user, subscriber in SqliteStore(path).load().subscribers.items()} == {
        "a": 5,
        "b": 0,
    }


def test_a_sync_writes_to_the_log_each_time_or_it_would_wait_for_nothing(path: str) -> None:
    store = SqliteStore(path)
    for _ in range(3):
        store.put(Subscriber("a", "a"), lasting=False)
        before = os.stat(path + "-wal").st_size
        store.sync()
        assert os.stat(path + "-wal").st_size > before
    store.close()


def test_two_processes_may_write_in_turn(path: str) -> None:
    daemon, command = SqliteStore(path), SqliteStore(path)
    daemon.put(Subscriber("a", "a"))
    command.put(Subscriber("b", "b"))
    daemon.put(Subscriber("c", "c"))
    assert set(command.load().subscribers) == {"a", "b", "c"}
    daemon.close()
    command.close()


def test_a_record_from_before_a_field_was_added_is_read_with_its_default(path: str) -> None:
    SqliteStore(path).close()
    with sqlite3.connect(path) as database:
        database.execute("INSERT INTO subscriber VALUES ('a', ?)", (b"\x82\xa4user\xa1a\xa4name\xa1a",))
    database.close()
    assert SqliteStore(path).load().subscribers == {"a": Subscriber("a", "a")}


def test_a_file_of_a_newer_version_is_left_alone(path: str) -> None:
    SqliteStore(path).close()
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    database.close()
    with pytest.raises(ConfigError, match="newer Sojourn"):
        SqliteStore(path)


@pytest.mark.parametrize("content", [b"no database, plain text " * 100, b"SQLite format 3\0" + bytes(4096)])
def test_a_damaged_file_is_named_with_the_remedy(path: str, content: bytes) -> None:
    Path(path).write_bytes(content)
    with pytest.raises(ConfigError, match=r"is damaged.*backup"):
        SqliteStore(path)
    assert Path(path).read_bytes() == content


def test_a_damaged_record_is_named(path: str) -> None:
    store = SqliteStore(path)
    store.close()
    with sqlite3.connect(path) as database:
        database.execute("INSERT INTO subscriber VALUES ('a', x'c1')")
    database.close()
    with pytest.raises(ConfigError, match="is damaged"):
        SqliteStore(path).load()


def test_a_place_where_no_file_can_be_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be opened: No such file or directory"):
        SqliteStore(str(tmp_path / "nowhere" / "anchor.db"))


def test_an_erased_secret_is_not_left_in_the_file(path: str) -> None:
    store = SqliteStore(path)
    secret = b"S3CRET-" * 4
    store.put_meta("nonce", secret)
    store.put_meta("nonce", b"x" * len(secret))
    store.close()
    assert secret not in Path(path).read_bytes()


def test_what_need_not_outlive_a_power_cut_outlives_the_process_all_the_same(path: str) -> None:
    store = SqliteStore(path)
    store.put(Subscriber("laptop", "Laptop", move=1))
    store.put(Subscriber("laptop", "Laptop", move=2), lasting=False)
    assert store._rows("PRAGMA synchronous") == [(2,)], "and the next one waits for the disk again"
    other = SqliteStore(path)
    assert other.load().subscribers["laptop"].move == 2
    other.close()
    store.close()
