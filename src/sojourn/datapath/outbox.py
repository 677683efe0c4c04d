"""What waits to be sent over the private socket, bounded: the packet loop never waits for control.

Events of one loop turn leave as one frame. When control does not read, signals and events about flows are
dropped first; once it reads again it is told how many (`take_dropped`), and gets a State. When even
the rest grows too long, control is not alive and the connection is to be cut (`overflowed`).
"""

import contextlib
import os
import socket
from collections import deque
from typing import Final

from sojourn.datapath.wire import Done, HoldDescriptor, StateRows, TakeDescriptor, ToControl, ToProcess, encode, frame
from sojourn.linux.descriptors import send_with
from sojourn.upmt.events import FlowEnded, FlowMoved, FlowSeen, InnerReceived, State, StrangerReceived, TunnelMeasured

SOFT_LIMIT: Final = 8192
"""Messages from which on those about flows are dropped."""
HARD_LIMIT: Final = 32768
FRAME_BYTES: Final = 128 << 10
"""A frame is closed when it has grown beyond this."""
_BYTES_PER_UNIT: Final = 256
"""A packet for control counts once more for each so many bytes."""

Message = ToProcess | ToControl


class Outbox:
    """A bounded queue of messages, and the unsent rest of the frame at its head."""

    def __init__(self, soft_limit: int = SOFT_LIMIT, hard_limit: int = HARD_LIMIT) -> None:
        self._queue: deque[tuple[Message, int | None]] = deque()
        self._unsent: memoryview = memoryview(b"")
        self._fd: int | None = None
        self._size = 0
        self._dropped = 0
        self._soft = soft_limit
        self._hard = hard_limit

    def put(self, message: Message) -> None:
        """Queue a message, or drop it and remember that."""
        if isinstance(message, TunnelMeasured) and self._size >= self._soft:
            return  # the next report has it again
        if isinstance(message, FlowSeen | FlowMoved | FlowEnded) and (self._dropped or self._size >= self._soft):
            self._dropped += 1
            return
        if isinstance(message, InnerReceived | StrangerReceived) and self._size >= self._soft:
            return  # SIP sends it again; and no mobile host is to make us cut control off
        if isinstance(message, State):
            self._forget_states()
        if isinstance(message, Done) and self._queue and isinstance(last := self._queue[-1][0], Done):
            self._queue[-1] = Done(last.count + message.count), None
            return
        self._queue.append((message, None))
        self._size += _cost(message)

    def put_descriptor(self, message: HoldDescriptor | TakeDescriptor, fd: int) -> None:
        """Queue a message and a descriptor beside it (a copy: the caller may close its own at once)."""
        self._queue.append((message, os.dup(fd)))
        self._size += 1

    def flush(self, connection: socket.socket) -> bool:
        """Send what the socket takes; say whether all has gone. Raises OSError when the other end has."""
        while self._unsent or self._next_frame():
            try:
                if self._fd is None:
                    sent = connection.send(self._unsent)
                else:
                    sent = send_with(connection, self._unsent, self._fd)
                    os.close(self._fd)
                    self._fd = None
            except BlockingIOError:
                return False
            self._unsent = self._unsent[sent:]
        return True

    @property
    def overflowed(self) -> bool:
        """Whether so much waits that nobody can be reading."""
        return self._size > self._hard

    def take_dropped(self) -> int:
        """Return how many messages were dropped since the last call: a State is due when any were."""
        dropped, self._dropped = self._dropped, 0
        return dropped

    def clear(self) -> None:
        """Forget everything, and close the descriptors that were to go."""
        fds = [fd for _, fd in self._queue if fd is not None]
        if self._fd is not None:
            fds.append(self._fd)
        for fd in fds:
            with contextlib.suppress(OSError):
                os.close(fd)
        self._queue.clear()
        self._unsent, self._fd, self._size = memoryview(b""), None, 0

    def _next_frame(self) -> bool:
        """Encode messages up to the next descriptor: that one starts a frame of its own."""
        parts: list[bytes] = []
        size = 0
        while self._queue and size < FRAME_BYTES:
            message, fd = self._queue[0]
            if fd is not None and parts:
                break
            self._queue.popleft()
            self._size -= _cost(message)
            part = encode(message)
            parts.append(part)
            size += len(part)
            if fd is not None:
                self._fd = fd
                break
        if parts:
            self._unsent = memoryview(frame(parts))
        return bool(parts)

    def _forget_states(self) -> None:
        """Take out the unsent pieces of an older State: a newer one makes them worthless."""
        kept = [(message, fd) for message, fd in self._queue if not isinstance(message, State | StateRows)]
        self._size -= len(self._queue) - len(kept)
        self._queue = deque(kept)


def _cost(message: Message) -> int:
    if isinstance(message, InnerReceived | StrangerReceived):
        return 1 + len(message.packet) // _BYTES_PER_UNIT
    return 1
