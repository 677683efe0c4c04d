"""What the keeper holds of a session, and how a successor of the proxy finds the positions again.

The notes say where each connection stood in the streams at its beginning; how far it has come since
then, the kernel knows (linux/tcp_state.py). So nothing has to be written while bytes flow, and a
`kill -9` between any two system calls loses and doubles nothing. Descriptors of a note: near
connection, stream file, then the legs, oldest first.
"""

import contextlib
import os
import socket
from typing import Final

import msgspec
from msgspec import Struct

from sojourn.errors import RemoteProtocolError
from sojourn.linux import tcp_state
from sojourn.linux.stream_file import StreamFile
from sojourn.msocks.session import Entry

FORMAT: Final = 1


class KeptLeg(Struct, array_like=True):
    """Where a leg stands in the two streams."""

    into: int
    """Position of its first byte from the client."""
    consumed: int
    """Bytes that had been read from the leg then."""
    out: int
    """Position of its first byte to the client."""
    given: int
    """Bytes that will have been written to the leg then: the handshake's last answer is among them."""
    end: int | None = None
    """Position at which it ends, once it was cut."""


class KeptSession(Struct, array_like=True):
    """One session."""

    format: int
    entry: Entry
    near_consumed: int
    near_given: int
    size: int
    """Of each ring."""
    legs: list[KeptLeg]
    received: int = 0
    """A, when the last leg was cut: where the client's stream stands if none of them is left."""


class Found(Struct):
    """A session that a predecessor has left."""

    kept: KeptSession
    near: socket.socket
    file: StreamFile
    leg: socket.socket | None
    old: list[socket.socket]
    done: bool = False
    """The client has all that it will get, and has said all that it will say: it does not come back."""
    deaf: bool = False
    """The correspondent takes nothing any more; what it has said is still to be passed on."""

    def drop(self) -> None:
        """Let go of it: nobody can continue it."""
        for sock in (self.near, *self.old, *([self.leg] if self.leg is not None else [])):
            tcp_state.reset(sock)
        self.file.close()


def restore(text: bytes, fds: list[int]) -> Found:
    """Make a session from a note. The descriptors are ours from now on; RemoteProtocolError where none can be made."""
    socks: list[socket.socket] = []
    left = list(fds)
    try:
        kept = msgspec.msgpack.decode(text, type=KeptSession)
        if kept.format != FORMAT or len(fds) != 2 + len(kept.legs):
            raise RemoteProtocolError("a note of another version", reason="keeper")
        while len(left) > 2:
            socks.insert(0, socket.socket(fileno=left.pop()))
        file = StreamFile(kept.size, left.pop())
        near = socket.socket(fileno=left.pop())
        socks.append(near)
        try:
            return _settle(kept, near, file, socks[:-1])
        except BaseException:
            file.close()
            raise
    except (OSError, msgspec.DecodeError, RemoteProtocolError) as error:
        for sock in socks:
            tcp_state.reset(sock)
        for fd in left:
            with contextlib.suppress(OSError):
                os.close(fd)
        raise RemoteProtocolError(f"a session that cannot go on: {error}", reason="not restored") from error


def _settle(kept: KeptSession, near: socket.socket, file: StreamFile, legs: list[socket.socket]) -> Found:
    """Find every position as the kernel knows it."""
    state = tcp_state.progress(near)
    deaf = state.state == tcp_state.CLOSE
    if deaf and not state.ended:
        raise RemoteProtocolError("the correspondent has reset", reason="reset")
    out, into = file.session.out, file.session.into
    out.head = state.consumed - kept.near_consumed
    into.head = _into_head(kept, legs)
    into.sent = into.kept = into.head if deaf else state.given - kept.near_given
    # What the client has, it says when it comes back; until then all that is in the ring may be wanted.
    out.kept = out.sent = max(0, out.head - out.room)
    found = Found(kept, near, file, None, legs, deaf=deaf)
    if kept.legs and kept.legs[-1].end is None:
        _settle_leg(found)
    file.session.ends.extend(leg.end for leg in kept.legs if leg.end is not None)
    if not 0 <= into.head - into.sent <= into.room or not 0 <= out.head - out.kept <= out.room:
        raise RemoteProtocolError("positions that cannot be", reason="positions")
    return found


def _into_head(kept: KeptSession, legs: list[socket.socket]) -> int:
    """Return how far the client's stream was read; legs that were read to their end are closed and dropped."""
    head = kept.received
    while kept.legs:
        leg = kept.legs[0]
        head = _read_of(leg, tcp_state.progress(legs[0]))
        if leg.end is None or head < leg.end:
            return head
        kept.legs.pop(0)
        tcp_state.reset(legs.pop(0))
    return head


def _read_of(leg: KeptLeg, state: tcp_state.Progress) -> int:
    return leg.into + state.consumed - leg.consumed


def _settle_leg(found: Found) -> None:
    """Go on on the present leg, unless it is closed or the client was not told that it may."""
    out = found.file.session.out
    leg, sock = found.kept.legs[-1], found.old[-1]
    state = tcp_state.progress(sock)
    sent = leg.out + state.given - leg.given
    if sent < leg.out:
        _drop_leg(found)
    elif state.state == tcp_state.CLOSE:
        # Its FIN and ours, each of them acknowledged: there is nothing to come back for.
        found.done = state.ended and not state.unacknowledged and sent == out.head + 1
        if found.done:
            out.sent = out.kept = out.head
        leg.end = found.kept.received = _read_of(leg, state) + tcp_state.unread(sock)
        if not tcp_state.unread(sock):
            _drop_leg(found)
    else:
        out.sent = sent
        out.kept = sent  # of what a plain client was sent nothing is kept: it cannot ask again
        if found.kept.entry.key:
            out.kept -= max(state.unacknowledged - (state.state in tcp_state.WE_FINISHED), 0)
            out.kept = max(leg.out, out.kept)
        found.leg = found.old.pop()


def _drop_leg(found: Found) -> None:
    found.kept.legs.pop()
    tcp_state.reset(found.old.pop())
