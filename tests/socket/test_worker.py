"""What becomes of a connect() that goes wrong on our side: the application is told, and nothing is left open."""

import asyncio
import errno
import os
import socket
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sojourn.model import Endpoint
from sojourn.msocks.socks5 import Address
from sojourn.socket import worker as worker_module
from sojourn.socket.client import SocksClient
from sojourn.socket.worker import Attempt, Parking, Worker


def attempted(
    connected: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
    parking: Parking,
    kind: type[Attempt] = Attempt,
) -> Attempt:
    monkeypatch.setattr(worker_module, "connected", connected)
    worker = Worker.__new__(Worker)
    mobile = SimpleNamespace(wanted=lambda *_: False, forget=lambda _flow: None)
    worker._client = cast("SocksClient", SimpleNamespace(mobile=mobile))
    worker.parking = parking
    with socket.socket() as sock:
        attempt = kind(sock, Endpoint("127.0.0.1", 9), Address("192.0.2.1", 80))
        asyncio.run(worker._connect(attempt, socket.AF_INET, None))
    return attempt


def test_a_mistake_of_ours_lets_nobody_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[bool, int]] = []

    class Seen(Attempt):
        def failed(self, error: int) -> None:
            super().failed(error)
            told.append((self.done, self.error))

    async def connected(*_: object) -> None:
        raise ValueError("a name has 1 to 255 characters")

    with pytest.raises(ValueError, match="a name"):
        attempted(connected, monkeypatch, Parking(), Seen)
    assert told == [(True, errno.EIO)]


def test_without_a_descriptor_left_the_error_is_told_and_the_proxys_connection_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = socket.socketpair()

    async def connected(*_: object) -> tuple[Any, Any]:
        return SimpleNamespace(sock=ours), None

    def near(_family: int) -> socket.socket:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    attempt = attempted(connected, monkeypatch, cast("Parking", SimpleNamespace(near=near)))
    assert (attempt.done, attempt.error) == (True, errno.EMFILE)
    with theirs:
        assert theirs.recv(1) == b""


def test_a_child_that_closes_its_copy_leaves_the_parents_attempt_alone() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        attempt = Attempt(ours, Endpoint("127.0.0.1", 9), Address("192.0.2.1", 80))
        child = os.fork()
        if not child:
            attempt.failed(errno.ECONNABORTED)
            os._exit(0)
        os.waitpid(child, 0)
        ours.sendall(b"x")
        assert theirs.recv(1) == b"x"
        attempt.failed(errno.ECONNABORTED)
        assert theirs.recv(1) == b"", "its own process ends it"
