"""A control socket with handlers of the test's own, served from a thread; and the command line in-process."""

import asyncio
import contextlib
import io
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from unittest import mock

from sojourn.api.server import Server
from sojourn.cli.main import main

Setup = Callable[[Server], None]


@contextlib.contextmanager
def serving(path: str, about: Mapping[str, Any], setup: Setup) -> Iterator[Server]:
    """Serve at `path` until the block ends; what `start` raises is raised here."""
    server = Server(path, about)
    setup(server)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def answers(results: Mapping[str, Any], asked: list[tuple[str, dict[str, Any]]] | None = None) -> Setup:
    """Let each verb answer a value, or raise it; `asked` collects verbs and arguments."""

    def register(server: Server, verb: str, result: object) -> None:
        async def handler(arguments: dict[str, Any], _peer: object) -> object:
            if asked is not None:
                asked.append((verb, arguments))
            if isinstance(result, Exception):
                raise result
            return result

        server.register(verb, handler)

    def setup(server: Server) -> None:
        for verb, result in results.items():
            register(server, verb, result)

    return setup


@dataclass
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str


def sojourn(*arguments: str, stdin: str = "") -> Ran:
    """Run the command line here, as a program would: exit code and both streams."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["sojourn", *arguments]),
        mock.patch.object(sys, "stdin", io.StringIO(stdin)),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            return Ran(int(end.code or 0), out.getvalue(), err.getvalue())
