"""The window's server in this process, before a control socket of the test's own."""

import asyncio
import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sojourn.api.stream_client import StreamClient
from sojourn.window.connections import Settings, Visitors, own_users
from sojourn.window.guard import Guard
from sojourn.window.routes import application
from sojourn.window.server import QuietServer
from tests.harness.control_socket import Setup, serving

TOKEN = "a-token-of-this-test"


class Served:
    """Where it is, and how to ask it anything."""

    def __init__(self, port: int) -> None:
        self.port = port

    def open(
        self, path: str, body: bytes | None = None, *, headers: dict[str, str | None] | None = None, method: str = ""
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Send a request; a header that is None is left out."""
        own: dict[str, str | None] = {
            "Host": f"127.0.0.1:{self.port}",
            "Authorization": f"Bearer {TOKEN}",
            "Content-Type": "application/json",
            "Content-Length": str(len(body or b"")),
        }
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.putrequest(method or ("GET" if body is None else "POST"), path, skip_host=True)
        for name, value in {**own, **(headers or {})}.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders(body)
        return connection, connection.getresponse()

    def ask(
        self, path: str, body: object = None, *, headers: dict[str, str | None] | None = None, method: str = ""
    ) -> tuple[int, Any]:
        """Send a request; return status and JSON, or text."""
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        connection, answer = self.open(path, data, headers=headers, method=method)
        with contextlib.closing(connection):
            text = answer.read()
        is_json = (answer.getheader("content-type") or "").startswith("application/json")
        return answer.status, json.loads(text) if is_json else text.decode()


@contextlib.contextmanager
def window(folder: Path, setup: Setup) -> Iterator[Served]:
    """Serve until the block ends."""
    path = str(folder / "host.sock")
    with serving(path, {"role": "host"}, setup):
        yield from _served(path)


def _served(path: str) -> Iterator[Served]:
    ready, loop = threading.Event(), asyncio.new_event_loop()
    listener = _listener()
    port = listener.getsockname()[1]
    visitors = Visitors(own_users())
    guard = Guard(application(StreamClient(path), TOKEN), TOKEN, port, visitors.proved)
    server = QuietServer(Settings(guard, visitors))

    def run() -> None:
        async def main() -> None:
            loop.call_soon(ready.set)
            await server.serve(sockets=[listener])

        loop.run_until_complete(main())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait(10)
    try:
        yield Served(port)
    finally:
        server.should_exit = True
        thread.join(20)
        visitors.close()


def _listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))
