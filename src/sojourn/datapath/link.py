"""Control's connection to one data-path process, on asyncio: messages in, messages out, descriptors beside them."""

import asyncio
import select
import socket
from collections.abc import Callable, Iterable
from typing import Final

from sojourn.datapath.outbox import Outbox
from sojourn.datapath.private_socket import widen
from sojourn.datapath.wire import Begin, Frames, TakeDescriptor, ToControl, ToProcess, to_control
from sojourn.errors import RemoteProtocolError
from sojourn.linux.descriptors import DescriptorQueue

READ_BYTES: Final = 256 << 10
MAX_ORDERS: Final = 1 << 20
"""Unsent orders: a successor gets those for all associations of an anchor at once."""


class Link:
    """Callbacks only: `on_message(link, message)` for each, `on_end(link, why)` once, after which nothing comes."""

    def __init__(
        self,
        connection: socket.socket,
        on_message: Callable[["Link", ToControl], None],
        on_end: Callable[["Link", str], None],
    ) -> None:
        connection.setblocking(False)
        widen(connection)
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox(hard_limit=MAX_ORDERS)
        self._frames = Frames()
        self._descriptors = DescriptorQueue()
        self._on_message = on_message
        self._on_end = on_end
        self._open = True
        self._writing = False
        self._loop.add_reader(connection.fileno(), self._read)
        self.send([Begin()])

    def send(self, messages: Iterable[ToProcess]) -> None:
        """Send, or queue what the socket does not take now."""
        for message in messages:
            self._outbox.put(message)
        self._write()

    def send_descriptors(self, descriptors: dict[str, int]) -> None:
        """Hand over what was held for a predecessor."""
        for name, fd in descriptors.items():
            self._outbox.put_descriptor(TakeDescriptor(name), fd)
        self._write()

    def claim(self) -> int:
        """Return the descriptor that came with the message just received."""
        return self._descriptors.claim()

    def drain(self) -> None:
        """Read what a process that has ended had still said; its orders change what a successor is told."""
        while self._open and select.select([self._connection], [], [], 0)[0]:
            self._read()

    def close(self) -> None:
        """Let the connection go, without a call to `on_end`."""
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._connection.fileno())
        self._loop.remove_writer(self._connection.fileno())
        self._outbox.clear()
        self._descriptors.close()
        self._connection.close()

    def _end(self, why: str) -> None:
        if self._open:
            self.close()
            self._on_end(self, why)

    def _read(self) -> None:
        try:
            data = self._descriptors.receive(self._connection, READ_BYTES)
            if not data:
                self._end("it closed the connection")
                return
            for body in self._frames.feed(data):
                for message in to_control(body):
                    if not self._open:
                        return
                    self._on_message(self, message)
        except BlockingIOError:
            return
        except (OSError, RemoteProtocolError) as error:
            self._end(str(error))

    def _write(self) -> None:
        if not self._open:
            return
        try:
            empty = self._outbox.flush(self._connection)
        except OSError:
            return  # what it said before it went is still to be read, then comes the end
        if self._outbox.overflowed:
            # Not from within a caller's `submit`.
            self._loop.call_soon(self._end, "it does not take orders")
        if empty is self._writing:
            self._writing = not empty
            if empty:
                self._loop.remove_writer(self._connection.fileno())
            else:
                self._loop.add_writer(self._connection.fileno(), self._write)
