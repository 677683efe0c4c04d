"""`sojourn ask`: list, follow, answer."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sojourn.api.messages import ApiError
from sojourn.api.server import Arguments, Peer, Server
from sojourn.cli import ask
from tests.harness.control_socket import answers, serving, sojourn

QUESTION = {
    "version": 1, "id": 3, "policy": "backup", "text": "No network fits 'backup' now.", "default": "hold",
    "choices": ["wwan0", "hold", "block"], "seconds_left": 29.6, "remember": ["once", "session", "ever"],
}  # fmt: skip
ANSWER = {"version": 1, "id": 3, "policy": "backup", "choice": "wwan0"}


def test_open_questions_are_listed_with_choices_and_what_happens_without_an_answer(tmp_path: Path) -> None:
    path = str(tmp_path / "h.sock")
    with serving(path, {}, answers({"questions": [QUESTION]})):
        assert json.loads(sojourn("ask", "--json", "--socket", path).out) == [QUESTION]
        assert sojourn("ask", "--socket", path).out == (
            "3. No network fits 'backup' now.\n   one of wwan0, hold, block; hold in 30 s\n"
        )


def test_without_questions_that_is_said(tmp_path: Path) -> None:
    path = str(tmp_path / "h.sock")
    with serving(path, {}, answers({"questions": []})):
        assert sojourn("ask", "--socket", path).out == "No question is open.\n"


def test_an_answer_goes_to_the_daemon_wherever_the_socket_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "h.sock")
    asked: list[tuple[str, dict[str, Any]]] = []
    with serving(path, {}, answers({"answer": ANSWER, "forget_answers": {"version": 1, "forgotten": 2}}, asked)):
        assert sojourn("ask", "answer", "3", "wwan0", "--remember", "ever", "--socket", path).out == "backup: wwan0\n"
        assert json.loads(sojourn("ask", "--socket", path, "answer", "3", "wwan0", "--json").out) == ANSWER
        assert sojourn("ask", "forget", "--socket", path).out == "2 answers forgotten.\n"
    assert asked[0] == ("answer", {"id": 3, "choice": "wwan0", "remember": "ever"})
    assert asked[1] == ("answer", {"id": 3, "choice": "wwan0", "remember": "once"})


def test_what_comes_is_followed_line_by_line(tmp_path: Path) -> None:
    items = [{"event": "question", **QUESTION}, {"event": "timeout", **QUESTION, "choice": "hold"}]

    async def news(arguments: Arguments, _peer: Peer) -> AsyncIterator[dict[str, Any]]:
        assert arguments == {"follow": True}
        for item in items:
            yield item

    def setup(server: Server) -> None:
        server.register_stream("ask", news)

    path = str(tmp_path / "h.sock")
    with serving(path, {}, setup):
        lines = sojourn("ask", "--follow", "--json", "--socket", path).out.splitlines()
        assert [json.loads(line) for line in lines] == items
        assert sojourn("ask", "-f", "--socket", path).out.splitlines()[-1] == "question 3 timeout: hold"


class Daemon:
    """A client whose daemon has settled the question already, or not."""

    def __init__(self, late: bool = False) -> None:
        self.late = late
        self.said: dict[str, Any] = {}

    def call(self, verb: str, **arguments: Any) -> None:  # noqa: ANN401 - JSON
        self.said = {"verb": verb, **arguments}
        if self.late:
            raise ApiError("question 3: is not open")


def test_a_person_answers_at_the_terminal_with_the_default_at_hand() -> None:
    daemon, given = Daemon(), iter(["wwan0", "session"])

    def prompt(_text: str, **_options: object) -> str:
        return next(given)

    ask._answer_here(daemon, QUESTION, prompt)  # type: ignore[arg-type]
    assert daemon.said == {"verb": "answer", "id": 3, "choice": "wwan0", "remember": "session"}


def test_who_answers_too_late_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    ask._answer_here(Daemon(late=True), QUESTION, lambda *_, **__: "hold")  # type: ignore[arg-type]
    assert capsys.readouterr().out.splitlines()[-1] == "   too late: question 3: is not open"
