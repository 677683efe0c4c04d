"""The daemon's end: raw lines in, raw lines out, and who may connect."""

import asyncio
import json
import os
import socket
import stat
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sojourn.api import server as server_module
from sojourn.api.messages import MAX_REQUEST_BYTES, ApiError, ErrorKind
from sojourn.api.server import MAX_CONNECTIONS, MAX_CONNECTIONS_EACH, Peer, Server
from sojourn.errors import ConfigError, NotSupported
from tests.harness.control_socket import answers, serving

ABOUT = {"role": "host", "config_dir": "/etc/sojourn"}


def connect(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    connection.connect(path)
    return connection


def converse(path: str, *lines: bytes) -> list[Any]:
    """Send lines, hang up our side, and return every line that came back."""
    with connect(path) as connection:
        for line in lines:
            connection.sendall(line)
        connection.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    return [json.loads(line) for line in received.splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "run" / "host.sock")


def test_a_verb_is_answered_with_its_request_s_id(path: str) -> None:
    with serving(path, ABOUT, answers({"status": {"version": 1, "state": "associated"}})):
        assert converse(path, b'{"id": 7, "verb": "status"}\n') == [
            {"id": 7, "result": {"version": 1, "state": "associated"}}
        ]


def test_requests_on_one_connection_are_answered_in_order_also_byte_by_byte(path: str) -> None:
    with serving(path, ABOUT, answers({"a": 1, "b": None})):
        text = b'{"id": 1, "verb": "a"}\n{"id": 2, "verb": "b"}\n'
        assert converse(path, *(bytes((byte,)) for byte in text)) == [{"id": 1, "result": 1}, {"id": 2, "result": None}]


def test_about_says_who_answers(path: str) -> None:
    with serving(path, ABOUT, answers({})):
        (answer,) = converse(path, b'{"verb": "about"}\n')
        assert answer["result"] | ABOUT == answer["result"]
        assert answer["result"]["pid"] == os.getpid()


def test_an_unknown_verb_is_told_the_known_ones(path: str) -> None:
    with serving(path, ABOUT, answers({"status": 1})):
        (answer,) = converse(path, b'{"id": 1, "verb": "statsu"}\n')
        assert answer["error"]["kind"] == "unknown_verb"
        assert "about, status" in answer["error"]["remedy"]


@pytest.mark.parametrize(
    ("raised", "kind", "message"),
    [
        (ApiError("no lease yet", "Wait.", ErrorKind.NOT_ASSOCIATED), "not_associated", "no lease yet"),
        (ConfigError("host.toml: port", "is wrong", "Mend it."), "usage", "host.toml: port: is wrong"),
        (NotSupported("TUN", "a kernel with it"), "failed", "TUN is not available here: it needs a kernel with it"),
        (KeyError("oops"), "failed", "status failed inside the daemon: KeyError: 'oops'"),
    ],
)
def test_what_a_handler_raises_reaches_the_client_and_not_the_daemon(
    path: str, raised: Exception, kind: str, message: str
) -> None:
    with serving(path, ABOUT, answers({"status": raised, "ok": 1})):
        failed, worked = converse(path, b'{"id": 1, "verb": "status"}\n', b'{"id": 2, "verb": "ok"}\n')
        assert (failed["error"]["kind"], failed["error"]["message"]) == (kind, message)
        assert worked == {"id": 2, "result": 1}


def test_a_line_without_end_is_refused_and_the_next_client_served(path: str) -> None:
    with serving(path, ABOUT, answers({"ok": 1})):
        (answer,) = converse(path, b"x" * (MAX_REQUEST_BYTES + 10) + b"\n")
        assert answer["error"]["kind"] == "usage"
        assert converse(path, b'{"verb": "ok"}\n') == [{"id": 0, "result": 1}]


def test_the_kernel_says_who_asks(path: str) -> None:
    peers: list[Peer] = []

    async def remember(_arguments: dict[str, Any], peer: Peer) -> None:
        peers.append(peer)

    with serving(path, ABOUT, lambda server: server.register("who", remember)):
        converse(path, b'{"verb": "who"}\n')
    assert peers == [Peer(os.getpid(), os.getuid(), os.getgid())]


def test_a_stream_ends_with_its_source_or_says_why_not(path: str) -> None:
    async def count(arguments: dict[str, Any], _peer: Peer) -> AsyncIterator[int]:
        for number in range(arguments["to"]):
            yield number
        if arguments["to"] == 1:
            raise ApiError("enough")

    with serving(path, ABOUT, lambda server: server.register_stream("count", count)), connect(path) as connection:
        connection.sendall(b'{"id": 3, "verb": "count", "arguments": {"to": 2}}\n')
        items = [json.loads(line) for line in connection.makefile()]
        assert items == [{"id": 3, "item": 0}, {"id": 3, "item": 1}, {"id": 3, "end": True}]
        with connect(path) as other:
            other.sendall(b'{"id": 4, "verb": "count", "arguments": {"to": 1}}\n')
            last = json.loads(other.makefile().read().splitlines()[-1])
            assert last["error"]["message"] == "enough"


def test_a_stream_s_source_is_closed_as_soon_as_its_client_hangs_up(path: str) -> None:
    closed = threading.Event()

    async def forever(_arguments: dict[str, Any], _peer: Peer) -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            closed.set()

    with serving(path, ABOUT, lambda server: server.register_stream("log", forever)):
        with connect(path) as connection:
            connection.sendall(b'{"verb": "log"}\n')
            assert connection.recv(100)
            assert not closed.is_set()
        assert closed.wait(5)


def test_the_socket_is_for_owner_and_group_and_goes_with_the_daemon(path: str) -> None:
    with serving(path, ABOUT, answers({})):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
    assert not Path(path).exists()


def test_a_dead_daemon_s_socket_is_replaced(path: str) -> None:
    Path(path).parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with serving(path, ABOUT, answers({"ok": 1})):
        assert converse(path, b'{"verb": "ok"}\n') == [{"id": 0, "result": 1}]


def test_a_living_daemon_s_socket_is_left_alone(path: str) -> None:
    with serving(path, ABOUT, answers({"ok": 1})):
        with pytest.raises(ConfigError, match="another Sojourn daemon"), serving(path, ABOUT, answers({})):
            pass
        assert converse(path, b'{"verb": "ok"}\n') == [{"id": 0, "result": 1}]


def test_a_file_that_is_no_socket_is_left_alone(path: str) -> None:
    Path(path).parent.mkdir()
    Path(path).write_text("precious")
    with pytest.raises(ConfigError, match="is no socket"), serving(path, ABOUT, answers({})):
        pass
    assert Path(path).read_text() == "precious"


def served(path: str, count: int) -> list[socket.socket]:
    """Return connections that are known to be in: each was served once."""
    crowd = [connect(path) for _ in range(count)]
    for connection in crowd:
        connection.sendall(b'{"verb": "ok"}\n')
        assert connection.recv(100) == b'{"id":0,"result":1}\n'
    return crowd


def test_more_clients_than_any_person_opens_are_turned_away(path: str) -> None:
    with serving(path, ABOUT, answers({"ok": 1})):
        crowd = served(path, MAX_CONNECTIONS_EACH)
        with connect(path) as late:
            assert b"too many clients" in late.recv(1000)
        for connection in crowd:
            connection.close()


def test_one_user_does_not_lock_the_others_out_and_nobody_locks_root_out(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = 1
    monkeypatch.setattr(server_module, "_peer", lambda _writer: Peer(1, user, 1))
    with serving(path, ABOUT, answers({"ok": 1})):
        crowd = []
        for number in range(1, MAX_CONNECTIONS // MAX_CONNECTIONS_EACH + 1):
            user = number
            crowd += served(path, MAX_CONNECTIONS_EACH)
        user += 1
        with connect(path) as late:
            assert b"too many clients" in late.recv(1000)
        user = 0
        crowd += served(path, 1)
        for connection in crowd:
            connection.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_any_bytes_are_answered_or_hung_up_on(running: Server, data: bytes) -> None:
    assert all("error" in answer or "result" in answer for answer in converse(running.path, data + b"\n"))
    assert converse(running.path, b'{"verb": "ok"}\n') == [{"id": 0, "result": 1}]


@pytest.fixture
def running(path: str) -> Iterator[Server]:
    with serving(path, ABOUT, answers({"ok": 1})) as server:
        yield server
