"""`sojourn window`: serves the page on 127.0.0.1 until it is told to end.

browser ── HTTP on 127.0.0.1 ── guard ── routes ── control socket ── daemon

The token is made anew for each run and is nowhere but in this process, the page's memory and, until the browser has
come, the file by which it is opened (launch.py).
"""

import asyncio
import contextlib
import importlib
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Final

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sojourn.api.stream_client import StreamClient
from sojourn.errors import ConfigError
from sojourn.linux import confine
from sojourn.window.connections import QUEUE, Settings, Visitors, own_users
from sojourn.window.guard import Guard
from sojourn.window.launch import Launch, launch, opener
from sojourn.window.notices import Notices
from sojourn.window.routes import application, page_files
from sojourn.window.unprivileged import split

TOKEN_BYTES: Final = 32
LAUNCH_PATIENCE: Final = 60.0
"""Seconds after which the file that leads the browser here is removed, whether it came or not."""
LATE_MODULES: Final = ("anyio._backends._asyncio", "encodings.idna")


class QuietServer(uvicorn.Server):
    """A server that leaves signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to us: uvicorn would raise them again after a clean end."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; asyncio has one number for how many wait and how many come in at once, and these are two things."""
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(QUEUE)


def load_ahead() -> None:
    """Load what would be loaded at its first use: by then a checkout in /root, say, cannot be read any more."""

    async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
        """Serve nobody."""

    Settings(nothing, Visitors(())).load()
    for name in LATE_MODULES:
        importlib.import_module(name)
    page_files()


class Window:
    """One run."""

    def __init__(self, path: str, port: int, *, browser: bool, notices: bool) -> None:
        """Bind. Raises ConfigError when the port is taken."""
        self._browser, self._notices = browser, notices
        try:
            self._listener = socket.create_server(("127.0.0.1", port))
        except OSError as error:
            why = f"cannot be listened on ({os.strerror(error.errno or 0).lower()})"
            raise ConfigError(f"port {port}", why, "Leave --port out: a free one is found.") from error
        load_ahead()
        broker = split(path)  # from here on without rights
        self.client = StreamClient(path, broker.connect if broker is not None else None)
        self._token = secrets.token_urlsafe(TOKEN_BYTES)
        self.port: int = self._listener.getsockname()[1]
        self._launch: Launch | None = None

    @property
    def address(self) -> str:
        """The address, with the token: for the user's eyes only."""
        return f"http://127.0.0.1:{self.port}/#token={self._token}"

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT; return the exit code."""
        visitors = Visitors(own_users())
        app = Guard(application(self.client, self._token), self._token, self.port, visitors.proved)
        config = Settings(self._first_come(app), visitors)
        server, loop = QuietServer(config), asyncio.get_running_loop()

        def end() -> None:
            server.should_exit = True
            # A page that is open has a stream that is cut off after END_PATIENCE, which uvicorn takes for a failure.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end)
        self._open()
        confine.no_new_privileges()
        async with asyncio.TaskGroup() as group:
            notices = group.create_task(Notices(self.client).run()) if self._notices else None
            loop.call_later(LAUNCH_PATIENCE, self._opened)
            await server.serve(sockets=[self._listener])
            if notices is not None:
                notices.cancel()
        visitors.close()
        self._opened()
        return 0

    def _open(self) -> None:
        command = opener(os.environ) if self._browser else None
        if command is not None:
            try:
                self._launch = launch(self.address, command)
            except OSError as error:
                sys.stderr.write(f"sojourn window: {command[0]} cannot be run ({error.strerror})\n")
                command = None
        if command is None:
            sys.stdout.write(self.address + "\n")
            sys.stdout.flush()
        sys.stderr.write(f"sojourn window: ready at http://127.0.0.1:{self.port}/ (Ctrl-C ends it)\n")
        sys.stderr.flush()

    def _opened(self) -> None:
        if self._launch is not None:
            self._launch.close()
            self._launch = None

    def _first_come(self, app: ASGIApp) -> ASGIApp:
        """Remove the file that leads here as soon as the page speaks to us with the token."""

        async def noticing(scope: Scope, receive: Receive, send: Send) -> None:
            async def sent(message: Message) -> None:
                if message.get("status") == 200 and scope["path"] == "/api/about":
                    self._opened()
                await send(message)

            await app(scope, receive, sent)

        return noticing


def run(path: str, port: int, *, browser: bool, notices: bool) -> int:
    """Run a window in the foreground until it is told to end; return the exit code."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # any user's nonsense would make a line each
    return asyncio.run(Window(path, port, browser=browser, notices=notices).run())
