"""The ring of what was measured: means by step of time, a size that stays, and files that are broken."""

import sqlite3
from pathlib import Path

import pytest

from sojourn.store.history import COLUMNS, History, Sample


def sample(at: int, network: str = "wifi", rtt: float | None = 20.0) -> Sample:
    return Sample(at, network, rtt, 0.01, None, 1000.0, 0.0)


def test_samples_come_back_as_columns_with_gaps_where_nothing_is_known(tmp_path: Path) -> None:
    history = History(tmp_path / "h")
    history.add([sample(1000, rtt=10.0), sample(1005, rtt=30.0), sample(1030), sample(1010, "cell", None)])
    told = history.between(1000, 1040, 4)
    assert (told["from"], told["until"], told["step_s"]) == (1000, 1040, 10)
    assert told["networks"]["wifi"] == {
        "at": [1000, 1010, 1020, 1030], "rtt_ms": [20.0, None, None, 20.0], "rtt_max_ms": [30.0, None, None, 20.0],
        "loss": [0.01, None, None, 0.01], "jitter_ms": [None] * 4, "in_bps": [1000.0, None, None, 1000.0],
        "out_bps": [0.0, None, None, 0.0],
    }  # fmt: skip
    assert told["networks"]["cell"]["rtt_ms"] == [None] * 4
    assert set(history.between(1000, 1040, 4, "cell")["networks"]) == {"cell"}
    assert set(told["networks"]["wifi"]) == {"at", *COLUMNS}
    history.close()


def test_it_survives_a_restart(tmp_path: Path) -> None:
    history = History(tmp_path / "h")
    history.add([sample(1000)])
    history.close()
    history = History(tmp_path / "h")
    assert history.between(995, 1005, 1)["networks"]["wifi"]["rtt_ms"] == [20.0]
    history.close()
    assert (tmp_path / "h").stat().st_mode & 0o777 == 0o600


def test_what_is_old_goes_and_so_does_what_is_too_much(tmp_path: Path) -> None:
    history = History(tmp_path / "h", kept=100, most=10)
    history.add(sample(at) for at in range(0, 500, 50))
    assert history.between(0, 1000, 1000)["networks"]["wifi"]["at"][-1] == 995
    columns = history.between(0, 1000, 1000)["networks"]["wifi"]
    alive = [at for at, rtt in zip(columns["at"], columns["rtt_ms"], strict=True) if rtt is not None]
    assert alive == [350, 400, 450]
    history.add(Sample(451 + number, f"n{number}", 1.0, None, None, None, None) for number in range(30))
    assert len(history.between(0, 1000, 10)["networks"]) == 10
    history.close()


def test_the_file_keeps_its_size(tmp_path: Path) -> None:
    history = History(tmp_path / "h", kept=1000)
    sizes = []
    for round_ in range(6):
        for start in range(0, 1000, 100):
            history.add(sample(round_ * 1000 + start + at) for at in range(100))
        history._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # type: ignore[union-attr]
        sizes.append((tmp_path / "h").stat().st_size)
    assert sizes[-1] <= sizes[1] * 1.2
    history.close()


def test_a_damaged_file_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "h").write_bytes(b"this is no database" * 1000)
    history = History(tmp_path / "h")
    history.add([sample(1000)])
    assert history.between(995, 1005, 1)["networks"]
    history.close()
    assert (tmp_path / "h.damaged").read_bytes().startswith(b"this is no")


def test_a_place_that_cannot_be_written_costs_the_past_and_nothing_else(tmp_path: Path) -> None:
    history = History(tmp_path / "none" / "h")
    history.add([sample(1000)])
    assert history.between(0, 2000, 10)["networks"] == {}
    (tmp_path / "none").mkdir()
    history.add([sample(1005)])
    assert history.between(0, 2000, 10)["networks"]
    history.close()
    history.add([sample(1010)])


def test_a_file_that_cannot_be_opened_now_is_not_taken_for_damaged(tmp_path: Path) -> None:
    before = History(tmp_path / "h")
    before.add([sample(1000)])
    before.close()
    other = sqlite3.connect(tmp_path / "h", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.MonkeyPatch.context() as patch:
        real = sqlite3.connect
        patch.setattr(sqlite3, "connect", lambda path, **_: real(path, timeout=0.05, check_same_thread=False))
        history = History(tmp_path / "h")
    other.close()
    history.add([sample(1005)])
    assert len(history.between(995, 1010, 1)["networks"]["wifi"]["at"]) == 1
    assert not (tmp_path / "h.damaged").exists()
    history.close()


def test_a_disk_that_fails_costs_samples(tmp_path: Path) -> None:
    history = History(tmp_path / "h")
    other = sqlite3.connect(tmp_path / "h")
    other.execute("DROP TABLE sample")
    other.close()
    history.add([sample(1000)])
    assert history.between(0, 2000, 10)["networks"] == {}
    history.close()


def test_endless_questions_are_bounded(tmp_path: Path) -> None:
    history = History(tmp_path / "h")
    history.add([sample(1000)])
    assert len(history.between(0, 10**9, 10**9)["networks"]["wifi"]["at"]) <= 2000
    assert history.between(10, 10, 5)["networks"] == {}
    history.close()
