"""What control and the data-path process say to each other over their private Unix socket.

A stream of frames: 4 bytes of length, big-endian, then a msgpack array of messages, which are
the commands and events of upmt/ and the few messages below. Descriptors travel by SCM_RIGHTS,
one beside each frame that holds a `HoldDescriptor` or a `TakeDescriptor`, in the same order.

    control -> process   Begin (first; a process that was started with a connection waits for it),
                         TakeDescriptor*, commands, Replayed, Ping, Shutdown
    process -> control   Hello (first), HoldDescriptor*, to a control that connects State and StateRows*, then events,
                         Done, HoldDescriptor, DropDescriptor, Resync (with a State after it), Said, Pong,
                         Superseded or Leaving (last)

Both ends are the same program of the same version (`Hello.version`), so the format may change
with every release; a decoder still refuses whatever does not fit.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from sojourn import __version__
from sojourn.errors import LocalProtocolError, RemoteProtocolError
from sojourn.upmt.commands import AnyCommand, RowState
from sojourn.upmt.events import AnyEvent, State

VERSION: Final = f"{__version__}/2"
"""The release, and a number that grows whenever a message changes within one."""
LENGTH_BYTES: Final = 4
MAX_FRAME_BYTES: Final = 16 << 20
ROWS_PER_FRAME: Final = 2048
"""A State is cut into pieces of so many rows: the packet loop runs between two pieces."""


class Message(Struct, frozen=True, tag=True):
    """Anything of this file that is neither a command nor an event."""


class Begin(Message, frozen=True):
    """Control's first word. A process that has waited for it (a spare) takes its place now."""


class TakeDescriptor(Message, frozen=True):
    """A descriptor that control held for the process's predecessor (linux/descriptors.py names them)."""

    name: str


class Replayed(Message, frozen=True):
    """The state of the predecessor has been replayed: descriptors that nothing took are to be closed."""


class Ping(Message, frozen=True):
    """Are you there? Answered by `Pong` with the same number."""

    number: int


class Shutdown(Message, frozen=True):
    """Close everything and exit."""


class Hello(Message, frozen=True):
    """The process's first word."""

    version: str
    pid: int
    epochs_void: bool = False
    """The epoch file was missing, or of another boot: secrets of before must not be sealed with."""


class HoldDescriptor(Message, frozen=True):
    """Keep this descriptor for a successor; one of the same name is superseded."""

    name: str


class DropDescriptor(Message, frozen=True):
    """The process has closed what has this name: close the copy."""

    name: str


class StateRows(Message, frozen=True):
    """More rows of the State before."""

    rows: tuple[RowState, ...]
    last: bool


class Resync(Message, frozen=True):
    """Control read too slowly and so many events about flows were dropped: a State follows."""

    dropped: int


class Said(Message, frozen=True):
    """A line for control's log."""

    level: str
    text: str


class Done(Message, frozen=True):
    """So many more orders have been carried out; what they made happen has been told before this."""

    count: int


class Pong(Message, frozen=True):
    """The packet loop has come round."""

    number: int


class Superseded(Message, frozen=True):
    """Another control process has taken over. Nothing follows."""


class Leaving(Message, frozen=True):
    """The process was told to end by someone else than control, and ends."""

    why: str


ToProcess = AnyCommand | Begin | TakeDescriptor | Replayed | Ping | Shutdown
ToControl = (
    AnyEvent | Hello | HoldDescriptor | DropDescriptor | StateRows | Resync | Said | Done | Pong | Superseded | Leaving
)  # fmt: skip

_encoder = msgspec.msgpack.Encoder()
_to_process = msgspec.msgpack.Decoder(tuple[ToProcess, ...])
_to_control = msgspec.msgpack.Decoder(tuple[ToControl, ...])


def encode(message: ToProcess | ToControl) -> bytes:
    """Return one message as msgpack, a part of a frame."""
    return _encoder.encode(message)


def frame(parts: Sequence[bytes]) -> bytes:
    """Return one frame that holds messages which `encode` made."""
    body = b"".join((b"\xdd", len(parts).to_bytes(4), *parts))  # msgpack's array 32
    if len(body) > MAX_FRAME_BYTES:
        raise LocalProtocolError(f"a frame of {len(body)} bytes")
    return len(body).to_bytes(LENGTH_BYTES) + body


def to_process(body: bytes | bytearray | memoryview) -> tuple[ToProcess, ...]:
    """Decode the body of a frame that control sent; raise RemoteProtocolError."""
    try:
        return _to_process.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError, MemoryError) as error:
        raise RemoteProtocolError(f"control said what is no command: {_why(error)}", reason="datapath") from None


def to_control(body: bytes | bytearray | memoryview) -> tuple[ToControl, ...]:
    """Decode the body of a frame that the process sent; raise RemoteProtocolError."""
    try:
        return _to_control.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError, MemoryError) as error:
        raise RemoteProtocolError(f"the data path said what is no event: {_why(error)}", reason="datapath") from None


def _why(error: BaseException) -> str:
    """Say what is wrong by place and type only: a message may hold a secret, and this goes to a log."""
    return str(error) if isinstance(error, msgspec.ValidationError) else type(error).__name__


class Frames:
    """Cuts a stream of bytes into the bodies of frames; holds at most one unfinished frame."""

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self._buffer = bytearray()
        self._max = max_bytes

    def feed(self, data: bytes) -> list[bytes]:
        """Take in what a socket gave and return the bodies that are complete; raise RemoteProtocolError."""
        buffer = self._buffer
        buffer += data
        bodies: list[bytes] = []
        start = 0
        while len(buffer) - start >= LENGTH_BYTES:
            size = int.from_bytes(buffer[start : start + LENGTH_BYTES])
            if size > self._max:
                raise RemoteProtocolError(f"a frame of {size} bytes", reason="datapath")
            end = start + LENGTH_BYTES + size
            if len(buffer) < end:
                break
            bodies.append(bytes(buffer[start + LENGTH_BYTES : end]))
            start = end
        del buffer[:start]
        return bodies


def pieces(state: State) -> Iterator[State | StateRows]:
    """Cut a State into messages of a few thousand rows; the last one says so (`last`)."""
    yield msgspec.structs.replace(state, rows=())
    rows = state.rows
    for start in range(0, max(len(rows), 1), ROWS_PER_FRAME):
        end = start + ROWS_PER_FRAME
        yield StateRows(rows[start:end], last=end >= len(rows))


class StateJoiner:
    """Puts the pieces of a State together again."""

    def __init__(self) -> None:
        self._head: State | None = None
        self._rows: list[RowState] = []

    def feed(self, piece: State | StateRows) -> State | None:
        """Take in the next piece and return the whole State with its last one."""
        if isinstance(piece, State):
            self._head, self._rows = piece, []
            return None
        if self._head is None:
            raise RemoteProtocolError("rows of a State that did not begin", reason="datapath")
        self._rows += piece.rows
        if not piece.last:
            return None
        whole = msgspec.structs.replace(self._head, rows=tuple(self._rows))
        self._head, self._rows = None, []
        return whole
