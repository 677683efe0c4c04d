"""Data paths and daemons are killed while a connection is under full load: sealed in the C core, plain in the kernel.

mh --- nat0 (wifi), nat1 (cellular) --- core --- an --- ch        ch sends to mh as fast as it may
"""

import hashlib
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import pytest

from sojourn.api.client import Client
from sojourn.lab import namespaces
from sojourn.lab.daemons import Daemons
from sojourn.lab.topology import Lab
from sojourn.linux import bpf_pin
from tests.harness.standstill import Standstill
from tests.net.standing import Sockets, eventually, kill_all
from tests.net.test_plain import CH, configure

pytestmark = [pytest.mark.net, pytest.mark.alone]


class Load:
    """A TCP connection on which the correspondent sends as fast as it may; every byte is looked at. A context."""

    def __init__(self, lab: Lab) -> None:
        self._pattern = hashlib.shake_256(b"load").digest(1 << 18)
        self._sockets = Sockets(lab)
        self._ended = threading.Event()
        self._failed: list[BaseException] = []
        self._times = [time.monotonic()]
        self._stood = Standstill()
        self.total = 0
        server, self._client = (
            self._sockets.at("ch", socket.SOCK_STREAM, port=7200),
            self._sockets.at("mh", socket.SOCK_STREAM),
        )
        server.listen()
        self._client.connect((CH, 7200))
        self._served, _ = server.accept()
        self._threads = [threading.Thread(target=self._guarded, args=(work,)) for work in (self._send, self._read)]

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (OSError, AssertionError) as error:
            self._failed.append(error)

    def _send(self) -> None:
        with self._served:
            while not self._ended.is_set():
                self._served.sendall(self._pattern)

    def _read(self) -> None:
        twice = memoryview(self._pattern * 2)
        while data := self._client.recv(1 << 18):
            at = self.total % len(self._pattern)
            assert data == twice[at : at + len(data)]
            self.total += len(data)
            self._times.append(time.monotonic())

    def longest_gap(self) -> float:
        """Return for how long nothing came, at most, in seconds, without what of it the machine stood still."""
        return self._stood.longest([*self._times, time.monotonic()])

    def __enter__(self) -> Self:
        self._stood.__enter__()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(30)
        self._stood.__exit__(None, None, None)
        self._sockets.close()
        assert not self._failed, self._failed


def sealed(lab: Lab) -> Daemons:
    """Configure both daemons for sealed tunnels, as they are by themselves."""
    daemons = Daemons(lab)
    daemons.set_up()
    return daemons


@pytest.mark.parametrize(("made", "gap"), [(sealed, 1.0), (configure, 0.5)], ids=["sealed", "plain"])
def test_a_connection_under_full_load_outlives_whoever_is_killed(
    lab: Lab, made: Callable[[Lab], Daemons], gap: float
) -> None:
    daemons = made(lab)
    daemons.start()
    with Load(lab) as load:
        for role in ("an", "mh"):
            time.sleep(1.0)
            daemons.kill_data_path(role)
        time.sleep(0.7)
        daemons.kill_anchor()
        time.sleep(0.3)
        daemons.start_anchor()
        time.sleep(0.5)
        assert load.longest_gap() < gap, "either holds what serves while the other is replaced"
        kill_all(daemons, "an")
        if made is configure:
            time.sleep(0.1)
            before = load.total
            eventually("pinned programs go on without anybody", lambda: load.total > before + (1 << 20), 1.0)
        before = load.total
        daemons.start_anchor()
        eventually("the connection goes on", lambda: load.total > before + (8 << 20))
        assert load.longest_gap() < 8.0
    anchor = Client(str(daemons.anchor_socket)).call("status")
    if made is configure:
        assert anchor["data_path"]["kernel"] is True
        assert anchor["totals"]["kernel-carried-out"] > 1000, "in the kernel again"
    assert not {"forged", "replayed"} & anchor["refused"].keys()
    assert pinned(lab) is (made is configure)
    daemons.stop()
    assert not pinned(lab), "a clean stop leaves nothing"


def pinned(lab: Lab) -> bool:
    """Say whether the anchor's control has pinned anything."""
    number = int(namespaces.run(lab.namespace("an"), "stat", "-Lc", "%i", "/proc/self/ns/net"))
    return any(list(place.glob(f"sojourn-kernel-{number}-*")) for place in bpf_pin.mounted())
