"""A stream's bytes between two connections, by position, kept until nobody can ask for them again.

    kept ............ sent ............ head        positions in the stream, counted from its first byte
      |  may be asked   |  still to go    |  room
      |  for again      |                 |

The memory is a ring that is given as an argument (a bytearray, or a file that outlives the process).
Its last MARGIN bytes are never used for new data: what was confirmed a moment ago can then still be
sent again, which covers an acknowledgement that overtakes the receiver's own count.
"""

from typing import Final

from sojourn.errors import LocalProtocolError, RemoteProtocolError

MARGIN: Final = 65536


class CopyBuffer:
    """One direction of one session."""

    __slots__ = ("_memory", "_size", "first", "head", "kept", "room", "sent")

    def __init__(self, memory: memoryview, *, first: int = 0, margin: int = MARGIN) -> None:
        """`first` is the position that the memory has known the stream from."""
        self._memory = memory
        self._size = len(memory)
        self.room = self._size - margin
        if self.room <= 0:
            raise LocalProtocolError("a copy buffer has to be larger than its margin")
        self.first = first
        self.head = self.sent = self.kept = first

    def begin(self, position: int) -> None:
        """Let the memory know the stream from here on; nothing is in it yet."""
        self.first = self.head = self.sent = self.kept = position

    @property
    def free(self) -> int:
        """How many bytes can be taken in now."""
        return self.room - (self.head - self.kept)

    def space(self) -> memoryview:
        """Return where the next bytes go: the longest piece in one, empty when there is no room."""
        at = self.head % self._size
        return self._memory[at : at + min(self.free, self._size - at)]

    def took(self, count: int) -> None:
        """Note that `count` bytes were written to `space()`."""
        self.head += count

    def put(self, data: bytes) -> None:
        """Take in what is in hand already: the first bytes of a stream, for which there is room."""
        if len(data) > self.free:
            raise LocalProtocolError("a copy buffer has no room for a stream's first bytes")
        while data:  # once more where the ring ends: a stream may begin anywhere in it
            space = self.space()[: len(data)]
            space[:] = data[: len(space)]
            self.took(len(space))
            data = data[len(space) :]

    def pending(self) -> memoryview:
        """Return the next bytes to send: the longest piece in one, empty when all are sent."""
        at = self.sent % self._size
        return self._memory[at : at + min(self.head - self.sent, self._size - at)]

    def gave(self, count: int) -> None:
        """Note that `count` bytes of `pending()` were sent."""
        self.sent += count

    def confirm(self, position: int) -> None:
        """Note that the receiver answers for all before `position`. What it answered for earlier changes nothing."""
        self.kept = max(self.kept, min(position, self.sent))

    def rewind(self, position: int) -> None:
        """Go on sending from `position`. Raises RemoteProtocolError where the bytes were never there, or not any more.

        A receiver that says it has more than was sent on this connection is believed: the rest went on an earlier one.
        """
        if not max(self.first, self.head - self._size) <= position <= self.head:
            raise RemoteProtocolError(f"bytes from {position} are not held", reason="position")
        self.sent = position
        self.kept = position
