"""Reading from a connection with a time limit, so that nothing is lost when the time is up."""

import asyncio
import socket


async def receive(sock: socket.socket, most: int) -> bytes:
    """Return what has come, at most so many bytes; empty at the end of the stream. Raises OSError.

    The event loop's sock_recv() may have read already in the moment in which it is cancelled, and then those bytes
    are nobody's. Here nothing is awaited between reading and returning.
    """
    loop, number = asyncio.get_running_loop(), sock.fileno()
    while True:
        try:
            return sock.recv(most)
        except (BlockingIOError, InterruptedError):
            ready: asyncio.Future[None] = loop.create_future()
            loop.add_reader(number, _set, ready)
            try:
                await ready
            finally:
                loop.remove_reader(number)


def _set(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
