"""Connections to the window's server: those who do not show the token keep nobody else out, whoever they are."""

import asyncio
import contextlib
import http.client
import os
import pwd
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sojourn.api.server import Arguments, Peer, Server
from sojourn.window import connections
from sojourn.window.connections import own_users
from sojourn.window.door import MOST_VISITORS, OWN_PLACES, STRANGER_SHARE
from sojourn.window.unprivileged import NOBODY
from tests.harness.control_socket import answers
from tests.window.served import Served, window

STRANGER = 54321
CROWD = 400
FLOOD = """
import encodings.idna, os, socket, sys, time
port, count, user, anew = map(int, sys.argv[1:])
if user:
    os.setgroups([]); os.setresgid(user, user, user); os.setresuid(user, user, user)
address, held = ("127.0.0.1", port), []
said = (b"", b"GET / HT", b"GET / HTTP/1.1\\r\\nHost: x\\r\\n", b"POST / HTTP/1.1\\r\\nContent-Length: 99\\r\\n\\r\\n")
while True:
    while len(held) < count:
        try:
            held.append(socket.create_connection(address, 5))
            held[-1].sendall(said[len(held) % len(said)])
        except OSError:
            pass
        if len(held) == count:
            print("full", flush=True)
    for one in held[:anew]:
        one.close()
    del held[:anew]
    time.sleep(0.1)
"""


@contextlib.contextmanager
def flood(port: int, user: int = STRANGER, count: int = CROWD, anew: int = 50) -> Iterator[None]:
    """Let another process hold many connections without a token, and take `anew` new ones ten times a second."""
    words = [sys.executable, "-c", FLOOD, *map(str, (port, count, user, anew))]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "full\n"
        yield
        assert process.poll() is None, "it went on all the time"
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def ticking(server: Server) -> None:
    """Answer `undo`, and tell something ten times a second."""

    async def watch(_arguments: Arguments, _peer: Peer) -> AsyncIterator[dict[str, object]]:
        number = 0
        while True:
            number += 1
            yield {"event": "delta", "number": number}
            await asyncio.sleep(0.1)

    answers({"undo": {"undone": "x"}})(server)
    server.register_stream("watch", watch)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with window(tmp_path, ticking) as served:
        yield served


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_s_crowd_keeps_neither_an_open_page_nor_a_new_one_out(served: Served) -> None:
    following, events = served.open("/api/events")
    with contextlib.closing(following), flood(served.port):
        before = _number(events)
        for _ in range(6):  # each is a connection of its own
            assert served.ask("/")[0] == 200
            assert served.ask("/api/undo", {}) == (200, {"undone": "x"})
        assert _number(events) > before


def test_a_crowd_of_the_same_user_keeps_neither_out_too(served: Served) -> None:
    """A web page in the user's own browser can open many: all of them are that user's."""
    following, events = served.open("/api/events")
    with contextlib.closing(following), flood(served.port, user=0, count=MOST_VISITORS + 50, anew=5):
        before = _number(events)
        for _ in range(6):
            assert served.ask("/api/undo", {}) == (200, {"undone": "x"})
        assert _number(events) > before


def test_who_does_not_show_the_token_in_time_is_turned_out(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "PATIENCE", 0.3)
    silent = socket.create_connection(("127.0.0.1", served.port))
    slow = socket.create_connection(("127.0.0.1", served.port))
    slow.sendall(b"GET / HTTP/1.1\r\nHost: 127")
    proved, answer = served.open("/api/undo", b"{}")
    answer.read()
    waiting = [silent, slow]
    deadline = time.monotonic() + 10
    while waiting:
        assert time.monotonic() < deadline
        for one in select.select(waiting, [], [], 1)[0]:
            with contextlib.suppress(ConnectionResetError):
                assert one.recv(1) == b""
            waiting.remove(one)
            one.close()
    proved.request("GET", "/api/hello?nonce=" + "0" * 32, headers={"Host": f"127.0.0.1:{served.port}"})
    assert proved.getresponse().status == 200, "the one that has shown it stays, with the same connection"
    proved.close()


def test_the_oldest_go_first_and_only_as_many_as_must(served: Served) -> None:
    user = os.getuid() if os.getuid() in own_users() else None
    places = OWN_PLACES if user is not None else STRANGER_SHARE
    held = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(places + 3)]
    time.sleep(0.3)
    ended = select.select(held, [], [], 0)[0]
    assert ended == held[:3]
    for one in held:
        one.close()


def test_nobody_s_processes_do_not_own_a_window() -> None:
    assert own_users() == {0, os.getuid()} - {pwd.getpwnam(NOBODY).pw_uid}


def _number(events: http.client.HTTPResponse) -> int:
    """Return the number of the next event of a stream."""
    while not (line := events.readline()).startswith(b"data:"):
        assert line, "the stream has ended"
    return int(line.rpartition(b":")[2].rstrip(b"}\n"))
