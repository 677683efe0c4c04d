"""The port that Prometheus reads, asked by a real client and by such as mean no good."""

import asyncio
import contextlib
import http.client
import socket
import statistics
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.api import metrics_server
from sojourn.api.metrics_server import MOST_CONNECTIONS, MetricsServer, is_known, parse
from sojourn.errors import RemoteProtocolError
from sojourn.model import Endpoint


class Port:
    """A server in a thread, and what was asked of it."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.number: int = free.getsockname()[1]
        self.made = 0
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        server = MetricsServer(Endpoint("127.0.0.1", self.number), ("Mon.example",), self._text)
        self._task = asyncio.run_coroutine_threadsafe(server.run(), self.loop)

    async def _text(self) -> bytes:
        self.made += 1
        return b"sojourn_flows 1\n"

    def close(self) -> None:
        self._task.cancel()
        asyncio.run_coroutine_threadsafe(_settle(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()

    def connect(self) -> socket.socket:
        for _ in range(100):
            try:
                return socket.create_connection(("127.0.0.1", self.number), 10)
            except ConnectionRefusedError:
                threading.Event().wait(0.05)
        raise AssertionError("nobody listens")

    def says(self, request: bytes) -> bytes:
        with self.connect() as sock:
            sock.sendall(request)
            return b"".join(iter(lambda: sock.recv(65536), b""))

    def status(self, request: bytes) -> int:
        return int(self.says(request).split()[1])


async def _settle() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def port() -> Iterator[Port]:
    opened = Port()
    yield opened
    opened.close()


def test_a_scraper_gets_the_text(port: Port) -> None:
    port.connect().close()
    connection = http.client.HTTPConnection("127.0.0.1", port.number, timeout=10)
    connection.request("GET", "/metrics?x=1")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"sojourn_flows 1\n")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n", 405),
        (b"HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"GET /metrics HTTP/1.1\r\nHost: rebound.example\r\n\r\n", 403),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost.rebound.example\r\n\r\n", 403),
        (b"GET /metrics HTTP/1.1\r\nHost: mon.example:9464\r\n\r\n", 200),
        (b"GET /metrics HTTP/1.1\r\nHost: [::1]:9464\r\n\r\n", 200),
        (b"GET /metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: rebound.example\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n folded: x\r\n\r\n", 400),
        (b"GET http://localhost/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
    ],
)
def test_nothing_else_gets_it(port: Port, request_: bytes, status: int) -> None:
    said = port.says(request_)
    assert int(said.split()[1]) == status
    assert (b"sojourn_flows" in said) is (status == 200)


def test_who_says_too_much_gets_nothing(port: Port) -> None:
    endless = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n" + b"x: y\r\n" * 4000
    with port.connect() as sock, pytest.raises(ConnectionError):  # it was cut off: reset, not answered
        for _ in range(20):
            sock.sendall(endless)
            threading.Event().wait(0.05)
        assert sock.recv(10)


def test_who_says_nothing_is_hung_up_on_and_whoever_comes_meanwhile_is_served_then(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_server, "PATIENCE", 1.0)
    port.connect().close()
    idle = [port.connect() for _ in range(MOST_CONNECTIONS)]
    assert port.status(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n") == 200
    for sock in idle:
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(10) == b""
        sock.close()


def test_a_flood_of_connections_leaves_the_loop_its_time(port: Port) -> None:
    late: list[float] = []

    async def watch() -> None:
        while True:
            due = port.loop.time() + 0.01
            await asyncio.sleep(0.01)
            late.append(port.loop.time() - due)

    port.connect().close()
    watching = asyncio.run_coroutine_threadsafe(watch(), port.loop)
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", port.number))
        sock.close()
    watching.cancel()
    assert statistics.median(late) < 0.1, "on a loaded machine; alone it is a millisecond"


def test_a_hundred_scrapes_in_a_second_make_the_text_once_or_twice(port: Port) -> None:
    for _ in range(100):
        assert port.status(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n") == 200
    assert port.made < 20, "one a second; a hundred take a moment on a busy machine"


def test_a_port_that_is_taken_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "AGAIN", 0.05)

    async def scenario() -> bytes:
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", 0))
            other.listen()
            number = other.getsockname()[1]
            server = MetricsServer(Endpoint("127.0.0.1", number), (), _nothing)
            running = asyncio.ensure_future(server.run())
            await asyncio.sleep(0.2)
            assert not running.done()
        for _ in range(200):
            await asyncio.sleep(0.05)
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", number)
            except ConnectionRefusedError:
                continue
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            said = await reader.read()
            writer.close()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            return said
        raise AssertionError("it never listened")

    assert asyncio.run(scenario()).startswith(b"HTTP/1.1 200 ")


async def _nothing() -> bytes:
    return b""


@given(st.binary() | st.builds(lambda rest: b"GET /metrics HTTP/1.1\r\nHost: " + rest, st.binary()))
def test_a_head_is_a_request_or_a_remote_error(head: bytes) -> None:
    try:
        request = parse(head)
    except RemoteProtocolError:
        return
    assert request.path.startswith("/")


@given(st.text())
def test_no_host_header_makes_it_stumble(host: str) -> None:
    assert is_known(host, ("a.example",)) in (True, False)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:9464", "[2001:db8::1]:1", "LOCALHOST", "a.example.", "A.Example:80"]
)
def test_addresses_and_listed_names_are_known(host: str) -> None:
    assert is_known(host, ("a.example",))


@pytest.mark.parametrize(
    "host", ["", ":", "b.example", "127.0.0.1.b.example", "[a.example", "a.example@b", "a.example:x"]
)
def test_other_names_are_not(host: str) -> None:
    assert not is_known(host, ("a.example",))
