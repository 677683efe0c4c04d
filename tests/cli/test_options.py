"""Which socket a command talks to."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from sojourn.api.messages import ANCHOR_SOCKET, HOST_SOCKET, ApiError
from sojourn.cli import options
from sojourn.cli.main import sojourn


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOJOURN_SOCKET", raising=False)


def test_what_was_given_goes_before_the_environment_and_that_before_the_role_s_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert options.socket_path(None, ANCHOR_SOCKET) == ANCHOR_SOCKET
    monkeypatch.setenv("SOJOURN_SOCKET", "/e")
    assert options.socket_path(None, ANCHOR_SOCKET) == "/e"
    assert options.socket_path("/g", ANCHOR_SOCKET) == "/g"


@pytest.mark.parametrize("words", [["--socket", "/g", "status"], ["status", "--socket", "/g"]])
def test_a_socket_that_is_named_on_the_command_line_goes_before_the_environment(
    monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setenv("SOJOURN_SOCKET", "/e")
    result = CliRunner().invoke(sojourn, words)
    assert isinstance(result.exception, ApiError)
    assert "/g" in str(result.exception)


@pytest.mark.parametrize(
    ("present", "expected"),
    [((), HOST_SOCKET), (("h",), HOST_SOCKET), (("a",), ANCHOR_SOCKET), (("h", "a"), HOST_SOCKET)],
)
def test_without_any_word_the_daemon_that_is_there_is_meant(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, present: tuple[str, ...], expected: str
) -> None:
    places = {HOST_SOCKET: str(tmp_path / "h"), ANCHOR_SOCKET: str(tmp_path / "a")}
    monkeypatch.setattr(options, "HOST_SOCKET", places[HOST_SOCKET])
    monkeypatch.setattr(options, "ANCHOR_SOCKET", places[ANCHOR_SOCKET])
    for name in present:
        (tmp_path / name).touch()
    assert options.socket_path(None) == places[expected]
