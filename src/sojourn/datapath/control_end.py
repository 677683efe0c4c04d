"""The data-path process's connection to one control process."""

import socket
from typing import Final

from sojourn.datapath.outbox import Outbox
from sojourn.datapath.private_socket import widen
from sojourn.datapath.wire import Frames, ToProcess, to_process
from sojourn.linux.descriptors import DescriptorQueue

READ_BYTES: Final = 256 << 10
"""Taken from control in one turn of the packet loop."""


class Control:
    """One connection to a control process."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        widen(connection)
        self.connection = connection
        self.outbox = Outbox()
        self.blocked = False
        """The socket is full: EPOLLOUT is awaited."""
        self._frames = Frames()
        self._descriptors = DescriptorQueue()

    def read(self) -> tuple[ToProcess, ...] | None:
        """Return what has come, or None at the end of the stream; raise RemoteProtocolError."""
        try:
            data = self._descriptors.receive(self.connection, READ_BYTES)
        except BlockingIOError:
            return ()
        except OSError:
            return None
        if not data:
            return None
        return tuple(message for body in self._frames.feed(data) for message in to_process(body))

    def claim(self) -> int:
        """Return the descriptor that came with the message just read."""
        return self._descriptors.claim()

    def close(self) -> None:
        """Let the connection go."""
        self.outbox.clear()
        self._descriptors.close()
        self.connection.close()
