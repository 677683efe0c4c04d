"""Answers that hold for ever are written down, and a damaged file is no reason not to start."""

from pathlib import Path

from sojourn.control.questions import KeptAnswer
from sojourn.store.answers import AnswerFile


def test_what_was_written_is_read_and_nothing_leaves_no_file(tmp_path: Path) -> None:
    file = AnswerFile(tmp_path / "host.answers")
    kept = [KeptAnswer("call", ("cellular",), "hold")]
    assert file.read() == []
    file.write(kept)
    assert file.read() == kept
    assert (tmp_path / "host.answers").stat().st_mode & 0o777 == 0o600
    file.write([])
    assert not (tmp_path / "host.answers").exists()


def test_a_damaged_file_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "host.answers").write_text('[{"policy": 7}]')
    assert AnswerFile(tmp_path / "host.answers").read() == []
