"""The process that carries one application's connections where a host daemon runs (daemon/socks_direct.py).

    python -m sojourn.daemon.socks_named NAME HOST_SOCKET DESCRIPTOR

It has the daemon call it NAME, takes jobs with their connections from the descriptor, and ends when that is closed.
"""

import asyncio
import contextlib
import signal
import socket
import sys

import msgspec
import structlog

from sojourn.api.client import Client
from sojourn.daemon.socks_direct import Carrier, Job
from sojourn.errors import SojournError

JOB_BYTES = 65536

_log = structlog.get_logger(__name__)


async def serve(line: socket.socket) -> None:
    """Carry what comes until nothing more can come, and nothing is carried any more or we are told to end."""
    carrier, work = Carrier(), set[asyncio.Task[None]]()
    loop, over = asyncio.get_running_loop(), asyncio.Event()

    def came() -> None:
        with contextlib.suppress(BlockingIOError):
            text, fds, _, _ = socket.recv_fds(line, JOB_BYTES, 1)
            if not text:
                over.set()
                return
            task = asyncio.ensure_future(_carry(carrier, socket.socket(fileno=fds[0]), text))
            work.add(task)
            task.add_done_callback(work.discard)

    loop.add_reader(line, came)
    try:
        await over.wait()
    finally:
        loop.remove_reader(line)
        carrier.close()


async def _carry(carrier: Carrier, near: socket.socket, text: bytes) -> None:
    ours = True
    try:
        near.setblocking(False)
        ours = not await carrier.carry(near, msgspec.msgpack.decode(text, type=Job))
    except OSError:
        return  # the application has gone
    finally:
        if ours:
            near.close()


def main(name: str, path: str, descriptor: int) -> None:
    """Be that process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: who started us ends us
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        said = Client(path).call("pin", name=name)
        if not said.get("exact"):
            _log.warning("not certain for every flow", application=name, why=said.get("why"))
    except SojournError as error:
        _log.warning("the host daemon does not call us so", application=name, why=str(error))
    with socket.socket(fileno=descriptor) as line:
        line.setblocking(False)
        asyncio.run(serve(line))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
