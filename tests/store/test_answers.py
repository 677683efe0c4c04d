"""Answers that hold for ever are written down, and a damaged file is no reason not to start."""

from pathlib import Path

import pytest
import structlog

from sojourn.control.questions import AnswerGiven, KeptAnswer, Questions, Remember
from sojourn.policy.rules import Otherwise, Policy
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


@pytest.mark.parametrize(("remember", "written"), [(Remember.ONCE, 0), (Remember.SESSION, 0), (Remember.EVER, 1)])
def test_what_holds_for_ever_is_written_and_nothing_else(tmp_path: Path, remember: Remember, written: int) -> None:
    file, questions = AnswerFile(tmp_path / "host.answers"), Questions()
    questions.listen(lambda news: file.heed(news, questions))
    assert questions.choice_for(Policy("call", otherwise=Otherwise.ASK), ("wifi",), 1.0) == "hold"
    assert questions.answer(AnswerGiven(1, "wifi", remember))
    assert len(file.read()) == written
    assert (tmp_path / "host.answers").exists() is bool(written)


def test_an_answer_that_cannot_be_written_holds_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "away").touch()
    file, questions = AnswerFile(tmp_path / "away" / "host.answers"), Questions()
    questions.listen(lambda news: file.heed(news, questions))
    call = Policy("call", otherwise=Otherwise.ASK)
    questions.choice_for(call, ("wifi",), 1.0)
    with structlog.testing.capture_logs() as told:
        assert questions.answer(AnswerGiven(1, "wifi", Remember.EVER))
    assert [one["event"] for one in told] == ["answer not stored"]
    assert questions.choice_for(call, ("wifi",), 2.0) == "wifi"
