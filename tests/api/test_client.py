"""The command line's end: answers, streams, and what is said when no daemon answers."""

import os
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sojourn.api.client import Client
from sojourn.api.messages import ApiError, ErrorKind
from sojourn.api.server import Peer
from tests.harness.control_socket import answers, serving


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "host.sock")


def test_arguments_go_in_and_the_result_comes_back(path: str) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []
    with serving(path, {}, answers({"handover": {"moved": 3}}, asked)):
        assert Client(path).call("handover", to="wlan0", all=True) == {"moved": 3}
    assert asked == [("handover", {"to": "wlan0", "all": True})]


def test_a_large_answer_comes_whole(path: str) -> None:
    rows = [{"id": str(number), "remote": "192.0.2.1:443"} for number in range(20_000)]
    with serving(path, {}, answers({"flows": rows})):
        assert Client(path).call("flows") == rows


def test_a_refusal_is_raised_as_it_was_meant(path: str) -> None:
    with (
        serving(path, {}, answers({"up": ApiError("no lease", "Wait.", ErrorKind.NOT_ASSOCIATED)})),
        pytest.raises(ApiError) as caught,
    ):
        Client(path).call("up")
    assert (caught.value.message, caught.value.remedy) == ("no lease", "Wait.")
    assert caught.value.kind is ErrorKind.NOT_ASSOCIATED


def test_a_stream_yields_until_its_end(path: str) -> None:
    async def count(_arguments: dict[str, Any], _peer: Peer) -> AsyncIterator[int]:
        for number in range(3):
            yield number

    with serving(path, {}, lambda server: server.register_stream("count", count)):
        assert list(Client(path).stream("count")) == [0, 1, 2]


def test_no_socket_and_a_dead_socket_both_mean_not_running(path: str) -> None:
    with pytest.raises(ApiError, match="no daemon answers") as caught:
        Client(path).call("status")
    assert caught.value.kind is ErrorKind.NOT_RUNNING
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with pytest.raises(ApiError, match="no daemon answers") as caught:
        Client(path).call("status")
    assert caught.value.kind is ErrorKind.NOT_RUNNING


def test_a_path_too_long_for_a_socket_is_no_traceback(path: str) -> None:
    with pytest.raises(ApiError, match="no daemon answers"):
        Client("/tmp/" + "x" * 200).call("status")


@pytest.mark.skipif(os.getuid() != 0, reason="needs root: a socket of another user is made")
def test_a_socket_that_is_not_for_us_is_told_from_one_without_a_daemon(path: str) -> None:
    pid = os.fork()
    if pid == 0:  # the child gives up root: its view of a 0660 socket is another user's
        os.chmod(os.path.dirname(path), 0o755)
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        try:
            Client(path).call("status")
        except ApiError as error:
            os._exit(0 if error.kind is ErrorKind.NO_PERMISSION else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def speak(path: str, text: bytes) -> threading.Thread:
    """Serve one client with these bytes and hang up."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            connection.recv(1000)
            connection.sendall(text)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("text", "why"),
    [(b"", "hung up"), (b'{"id": 1, "resu', "hung up"), (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not an answer")],
)
def test_something_else_at_the_socket_is_one_clear_error(path: str, text: bytes, why: str) -> None:
    thread = speak(path, text)
    with pytest.raises(ApiError, match=why):
        Client(path, timeout=5).call("status")
    thread.join(5)


def test_a_daemon_that_is_stopped_is_given_up_after_the_time_out(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with pytest.raises(ApiError, match="does not answer"):
            Client(path, timeout=0.05).call("status")
