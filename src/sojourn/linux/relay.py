"""Carries one session's bytes between its near connection and its leg, at either end of MSOCKS.

    near ──recv_into──> out ──send──> leg          the copy buffers' memory is what system calls read and write
    near <──send── into <──recv_into── leg, after what is left of legs that were cut

Backpressure is by not reading: a connection whose buffer is full is not watched until there is room.
Whoever owns a `Relay` is told that the leg is lost (it is cut by then) and that all is over.
"""

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Final

from sojourn.linux import tcp_state
from sojourn.msocks.session import Session

CHUNK: Final = 256 * 1024
"""Bytes at most in one system call, so that no session keeps the others waiting."""
POLL: Final = 0.005
"""Seconds between looks at acknowledgements when nothing but they can make room."""
FAREWELL_POLL: Final = 0.05


class Over(Enum):
    """How a session came to its end."""

    DONE = "done"
    RESET = "reset"
    """By the near connection."""
    LEG = "leg"
    """The leg is lost and none can follow: a plain SOCKS client's."""


class Relay:
    """See the module. Everything runs in the event loop's thread."""

    def __init__(
        self,
        near: socket.socket,
        session: Session,
        *,
        returns: bool,
        on_leg_lost: Callable[[], None],
        on_over: Callable[[Over], None],
    ) -> None:
        """Begin; `returns`: the session can get another leg, so that bytes are kept until they are acknowledged."""
        self.near = near
        self.session = session
        self.leg: socket.socket | None = None
        self.old: deque[socket.socket] = deque()
        """Legs that were cut and are not read to their end, oldest first; their ends stand in the session."""
        self.out_finished = self.into_finished = False
        """The stream's end was read: from the near connection, from the leg."""
        self.over = False
        self._returns = returns
        self._on_leg_lost = on_leg_lost
        self._on_over = on_over
        self._loop = asyncio.get_running_loop()
        self._watched: dict[tuple[int, bool], Callable[[], None]] = {}
        self.near_deaf = False
        """The near connection takes nothing any more: what comes for it is dropped."""
        self._leg_shut = self._near_shut = False
        self._peer_done = False
        self._timer: asyncio.TimerHandle | None = None

    # -- orders

    def start(self, leg: socket.socket, first: bytes = b"", old: Iterable[socket.socket] = ()) -> None:
        """Begin on a leg; `first` are bytes of the stream that were read with the handshake."""
        self.old.extend(old)
        self.session.into.put(first)
        self._take(leg)

    def wait(self, old: Iterable[socket.socket] = ()) -> None:
        """Begin without a leg (a restart)."""
        self.old.extend(old)
        self._watch_near()
        self._read_leg()

    def hush(self) -> None:
        """Take nothing more in from the present leg, a moment before it is cut.

        A packet that another processor has in its hands comes in all the same: at once, or never.
        """
        if self.leg is not None:
            with contextlib.suppress(OSError):
                tcp_state.deafen(self.leg)

    def cut(self) -> int:
        """Give the present leg up and return how many bytes of the peer's stream this end answers for."""
        leg, self.leg = self.leg, None
        if leg is None:
            return self.session.received
        self._unwatch(leg)
        self._stop_timer()
        with contextlib.suppress(OSError):  # without it, the copy buffer's margin has to do
            tcp_state.deafen(leg)
        self._confirm(leg)
        unread = tcp_state.unread(leg)
        received = self.session.cut(unread)
        if unread:
            self.old.append(leg)
            self._read_leg()
        else:
            tcp_state.reset(leg)
        return received

    def attach(self, leg: socket.socket, position: int) -> None:
        """Go on on a new leg with what the peer has not got. Raises RemoteProtocolError where it is not held."""
        self.session.attach(position)
        self._leg_shut = False
        self._take(leg)

    def finish(self) -> None:
        """End without a further leg: the other end is done, which it is when each has all that the other sent.

        A leg can be cut between the other end's last acknowledgement and our reading of its FIN.
        """
        self._peer_done = self.out_finished = self.into_finished = self._leg_shut = True
        self._watch(self.near, False, None)
        self._read_leg()

    def close(self, *, reset: bool = False) -> None:
        """Let go of all connections; `reset`: by RST, so that nobody takes it for a stream's end."""
        self.over = True
        self._stop_timer()
        for sock in (self.near, self.leg, *self.old):
            if sock is None:
                continue
            self._unwatch(sock)
            if reset or sock in self.old:
                tcp_state.reset(sock)
            else:
                sock.close()
        self.leg = None
        self.old.clear()

    # -- from the near connection to the leg

    def _read_near(self) -> None:
        space = self.session.out.space()
        if not space:
            self._watch(self.near, False, None)
            return
        try:
            count = self.near.recv_into(space[:CHUNK])
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._end(Over.RESET)
            return
        if not count:
            if self.near_deaf and not tcp_state.heard_end(self.near):  # our writing was told of the reset
                self._end(Over.RESET)
                return
            self.out_finished = True
            self._watch(self.near, False, None)
        self.session.out.took(count)
        self._write_leg()

    def _write_leg(self) -> None:
        leg, out = self.leg, self.session.out
        if leg is None or self.over:
            return
        try:
            while pending := out.pending():
                out.gave(leg.send(pending[:CHUNK]))
        except (BlockingIOError, InterruptedError):
            self._watch(leg, True, self._write_leg)
            self._make_room(leg)
            return
        except OSError:
            self._lose_leg()
            return
        self._watch(leg, True, None)
        if self.out_finished and not self._leg_shut:
            self._leg_shut = True
            try:
                leg.shutdown(socket.SHUT_WR)
            except OSError:
                self._lose_leg()
                return
        self._make_room(leg)
        self._finish()

    def _make_room(self, leg: socket.socket) -> None:
        """Drop copies that nobody will ask for, when room gets short."""
        out = self.session.out
        if out.free < out.room // 2:
            self._confirm(leg)
        self._watch_near()
        if not out.free and not out.pending() and self._timer is None:
            self._timer = self._loop.call_later(POLL, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        if self.leg is not None and not self.over:
            self._write_leg()

    def _confirm(self, leg: socket.socket) -> None:
        left = 0
        if self._returns:
            left = tcp_state.unacknowledged(leg)
            left -= bool(left) and self._leg_shut
        self.session.acknowledged(left)

    def _watch_near(self) -> None:
        if not self.out_finished and self.session.out.free:
            self._watch(self.near, False, self._read_near)

    # -- from the leg to the near connection

    def _read_leg(self) -> None:
        if self.over:
            return
        if self.old:
            self._read_old()
            return
        leg = self.leg
        if leg is None or self.into_finished:
            if leg is not None:
                self._watch(leg, False, None)
            self._write_near()
            return
        room = self.session.room()
        if room:
            self._watch(leg, False, self._read_leg)
            self._read(leg, room)
        else:
            self._watch(leg, False, None)
        self._write_near()
        if not room and not self.over and self.session.room():
            self._loop.call_soon(self._read_leg)  # the near connection took it all: nobody else would call

    def _read_old(self) -> None:
        """Read legs that were cut to their ends, before anything of the present one."""
        if self.leg is not None:
            self._watch(self.leg, False, None)
        came = True
        while came and self.old and (room := self.session.room()):
            came = self._read(self.old[0], room)
        self._write_near()
        if self.over:
            return
        if not came:
            self._watch(self.old[0], False, self._read_leg)
        elif not self.old or self.session.room():
            self._loop.call_soon(self._read_leg)

    def _read(self, source: socket.socket, room: memoryview) -> bool:
        """Read once; say whether something came."""
        try:
            count = source.recv_into(room[:CHUNK])
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            count = -1
        if count > 0:
            if self.session.took(count):
                self._unwatch(source)
                tcp_state.reset(self.old.popleft())
            return True
        if source is not self.leg:  # cannot happen: these bytes were acknowledged
            self._end(Over.LEG)
        elif count:
            self._lose_leg()
        else:
            self.into_finished = True
            self._watch(source, False, None)
        return False

    def _write_near(self) -> None:
        into = self.session.into
        if self.over:
            return
        try:
            while pending := into.pending():
                into.gave(len(pending) if self.near_deaf else self.near.send(pending[:CHUNK]))
                into.confirm(into.sent)
        except (BlockingIOError, InterruptedError):
            self._watch(self.near, True, self._near_writable)
            return
        except OSError:
            # What it has said before it closed is still to be read, and reading tells how it closed.
            self.near_deaf = True
            self._write_near()
            return
        self._watch(self.near, True, None)
        if self.into_finished and not self.old and not self._near_shut:
            self._near_shut = True
            try:
                self.near.shutdown(socket.SHUT_WR)
            except OSError:
                self.near_deaf = True
        self._finish()

    def _near_writable(self) -> None:
        self._write_near()
        if not self.over and self.session.into.free:
            self._read_leg()

    # -- beginnings and ends

    def _take(self, leg: socket.socket) -> None:
        self.leg = leg
        self._watch_near()
        self._read_leg()
        if self.leg is leg:
            self._write_leg()

    def _lose_leg(self) -> None:
        if not self._returns:
            self._end(Over.LEG)
            return
        self.cut()
        if not self.over:
            self._on_leg_lost()

    def _finish(self) -> None:
        """End the session when both streams have come to their ends and nothing is under way."""
        if not (self.out_finished and self._leg_shut and self.into_finished and self._near_shut):
            return
        if self.over or (self.leg is None and not self._peer_done):
            return
        if self.leg is not None and self._returns and tcp_state.unacknowledged(self.leg):
            if self._timer is None:
                self._timer = self._loop.call_later(FAREWELL_POLL, self._look_again)
            return
        self._end(Over.DONE)

    def _end(self, how: Over) -> None:
        if self.over:
            return
        self.close(reset=how is not Over.DONE)
        self._on_over(how)

    def _watch(self, sock: socket.socket, writing: bool, call: Callable[[], None] | None) -> None:
        """Call `call` when a connection can be read or written; None: not any more."""
        key = (sock.fileno(), writing)
        if self._watched.get(key) == call:
            return
        if call is not None:
            (self._loop.add_writer if writing else self._loop.add_reader)(key[0], call)
            self._watched[key] = call
        elif self._watched.pop(key, None) is not None:
            (self._loop.remove_writer if writing else self._loop.remove_reader)(key[0])

    def _unwatch(self, sock: socket.socket) -> None:
        self._watch(sock, False, None)
        self._watch(sock, True, None)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
