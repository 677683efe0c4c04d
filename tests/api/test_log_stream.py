"""The verb "log"."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sojourn.api.client import Client
from sojourn.api.log_stream import stream_log
from sojourn.api.messages import ApiError
from sojourn.api.server import Arguments, Peer, Server
from sojourn.control.roaming_log import RoamingLog
from tests.harness.control_socket import serving


@pytest.fixture
def log() -> RoamingLog:
    log = RoamingLog()
    for number in range(3):
        log.add(float(number), "network_up", network=f"eth{number}")
    return log


def serve(log: RoamingLog) -> Callable[[Server], None]:
    return lambda server: server.register_stream("log", lambda arguments, _peer: stream_log(log, arguments))


def test_the_newest_entries_are_told_oldest_first(tmp_path: Path, log: RoamingLog) -> None:
    path = str(tmp_path / "s")
    with serving(path, {}, serve(log)):
        assert [entry["network"] for entry in Client(path).stream("log", limit=2)] == ["eth1", "eth2"]
        assert len(list(Client(path).stream("log"))) == 3


def test_a_follower_gets_what_was_and_what_comes(tmp_path: Path, log: RoamingLog) -> None:
    path = str(tmp_path / "s")

    async def happen(_arguments: Arguments, _peer: Peer) -> None:
        log.add(9.0, "silent", network="eth2")

    def setup(server: Server) -> None:
        serve(log)(server)
        server.register("happen", happen)

    with serving(path, {}, setup):
        stream = Client(path).stream("log", limit=1, follow=True)
        assert next(stream)["network"] == "eth2"
        Client(path).call("happen")
        assert next(stream)["event"] == "silent"


def test_a_limit_that_is_no_number_is_refused(tmp_path: Path, log: RoamingLog) -> None:
    path = str(tmp_path / "s")
    with (
        serving(path, {}, serve(log)),
        pytest.raises(ApiError, match="limit is a number"),
    ):
        list(Client(path).stream("log", limit="x"))
