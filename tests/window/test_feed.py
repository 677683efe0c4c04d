"""The event stream: server-sent events, a daemon that goes away and comes back, a page that does not read."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from sojourn.api.messages import ApiError
from sojourn.api.server import Arguments, Peer, Server
from sojourn.window import feed as feed_module
from sojourn.window.feed import event_of
from tests.window.served import window


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "RETRY_EVERY", 0.05)
    monkeypatch.setattr(feed_module, "KEEP_ALIVE", 0.2)


def events(answer: HTTPResponse) -> Iterator[tuple[str, Any]]:
    """Read events as HTML §9.2.6 says: fields until an empty line."""
    name = ""
    while line := answer.readline().decode():
        field, _, value = line.rstrip("\n").partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)
        elif line.startswith(":"):
            yield "alive", None


def test_what_the_daemon_tells_comes_as_events(tmp_path: Path) -> None:
    async def watch(_arguments: Arguments, _peer: Peer) -> AsyncIterator[dict[str, Any]]:
        yield {"event": "snapshot", "at": 1, "text": "two\nlines"}
        yield {"event": "delta", "at": 2}
        await asyncio.sleep(30)

    with window(tmp_path, lambda server: server.register_stream("watch", watch)) as served:
        connection, answer = served.open("/api/events")
        assert answer.getheader("content-type", "").startswith("text/event-stream")
        source = events(answer)
        assert [next(source) for _ in range(3)] == [
            ("snapshot", {"at": 1, "text": "two\nlines"}), ("delta", {"at": 2}), ("alive", None),
        ]  # fmt: skip
        connection.close()


def test_a_daemon_that_goes_away_is_told_and_asked_again(tmp_path: Path) -> None:
    runs = iter(range(100))

    async def watch(_arguments: Arguments, _peer: Peer) -> AsyncIterator[dict[str, Any]]:
        yield {"event": "snapshot", "run": next(runs)}
        raise ApiError("I must go", "Wait.")

    with window(tmp_path, lambda server: server.register_stream("watch", watch)) as served:
        connection, answer = served.open("/api/events")
        source = events(answer)
        told = [next(source) for _ in range(3)]
        connection.close()
    assert told[0] == ("snapshot", {"run": 0})
    assert told[1] == ("away", {"error": {"kind": "failed", "message": "I must go", "remedy": "Wait."}})
    assert told[2] == ("snapshot", {"run": 1})


def test_while_the_page_does_not_read_the_daemon_is_not_asked_for_more(tmp_path: Path) -> None:
    made: list[int] = []
    ended = []

    async def watch(_arguments: Arguments, _peer: Peer) -> AsyncIterator[dict[str, Any]]:
        try:
            for number in range(100_000):
                made.append(number)
                yield {"event": "delta", "text": "x" * 10_000}
        finally:
            ended.append(True)

    def setup(server: Server) -> None:
        server.register_stream("watch", watch)

    with window(tmp_path, setup) as served:
        connection, answer = served.open("/api/events")
        source = events(answer)
        next(source)
        previous = -1
        while len(made) != previous:
            previous = len(made)
            asyncio.run(asyncio.sleep(0.5))
        assert previous < 5000, "a few megabytes in the sockets between them, and no more"
        for _ in range(previous // 2):
            next(source)
        answer.close()
        connection.close()
        for _ in range(100):
            if ended:
                break
            asyncio.run(asyncio.sleep(0.1))
    assert ended, "a page that went away leaves nothing behind"


def test_an_event_is_two_lines_and_an_empty_one() -> None:
    assert event_of("delta", {"a": "\n"}) == b'event: delta\ndata: {"a":"\\n"}\n\n'
