"""One session of the proxy: its relay, its memory, and the note of it that the keeper has."""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

import msgspec

from sojourn.daemon.socks_kept import FORMAT, Found, KeptLeg, KeptSession
from sojourn.linux import keeper, tcp_state
from sojourn.linux.relay import Over, Relay
from sojourn.linux.stream_file import StreamFile
from sojourn.msocks.session import Entry

MAX_OLD_LEGS: Final = 8
"""Legs of one session that were cut and wait to be read: each holds what its kernel has acknowledged."""


class Notes:
    """The proxy's line to the keeper. Without one (it died, or cannot be started) sessions go on unheld."""

    def __init__(self, line: socket.socket | None) -> None:
        self._line = line
        self.lost = 0
        """Notes that could not be left."""

    def put(self, name: bytes, text: bytes, fds: list[int]) -> None:
        """Let the keeper hold descriptors under a name, in the place of what had it."""
        self._send(keeper.Note(name, text), fds)

    def drop(self, name: bytes) -> None:
        """Let the keeper let go of a name."""
        self._send(keeper.Note(name, hold=False), [])

    def end(self) -> None:
        """Tell the keeper to end."""
        self._send(keeper.Note(b""), [])
        if self._line is not None:
            self._line.close()
            self._line = None

    def _send(self, note: keeper.Note, fds: list[int]) -> None:
        if self._line is None:
            self.lost += 1
            return
        try:
            keeper.send(self._line, note, fds)
        except OSError:
            self.lost += 1
            self._line.close()
            self._line = None


class ProxySession:
    """See the module. `finished` is called once, when nothing is left of it."""

    def __init__(
        self,
        entry: Entry,
        near: socket.socket,
        file: StreamFile,
        size: int,
        notes: Notes,
        *,
        leg_lost: Callable[["ProxySession"], None],
        finished: Callable[["ProxySession", Over], None],
    ) -> None:
        self.entry = entry
        self.file = file
        self.seen = (0, 0)
        """Positions at the last look for idle sessions."""
        self._notes = notes
        self._leg_lost, self._finished = leg_lost, finished
        self.relay = Relay(
            near, file.session, returns=bool(entry.key), on_leg_lost=self._lost, on_over=self._over
        )  # fmt: skip
        start = tcp_state.progress(near)
        self.kept = KeptSession(FORMAT, entry, start.consumed, start.given, size, [])

    def begin(self, leg: socket.socket, answer: bytes, rest: bytes) -> None:
        """Start on a leg: leave a note, then send the `answer` that lets the client go on. Raises OSError."""
        self._enter(leg, answer, len(rest), 0)
        self.file.session.into.put(rest)  # the kernel has given it away, so that the note counts it
        self._write_note(leg)
        leg.sendall(answer)  # a few bytes on a connection whose buffer is empty: all of them fit
        self.relay.start(leg)

    def resume(self, leg: socket.socket, received: int, generation: int, answer: Callable[[int], bytes]) -> None:
        """Go on on another leg. `answer` is asked with A and is sent first. RemoteProtocolError, OSError."""
        position = self.cut()
        self.file.session.attach(received)
        self.entry.generation = generation
        data = answer(position)
        self._enter(leg, data, 0, position)
        self._write_note(leg)
        leg.sendall(data)
        self.relay.attach(leg, received)

    def cut(self) -> int:
        """Cut the present leg, and note where it ends; return A."""
        had = self.relay.leg is not None
        position = self.relay.cut()
        if had:
            self._note_end(position)
        return position

    def adopt(self, found: Found) -> None:
        """Go on with what a predecessor has left."""
        self.kept = found.kept
        self.relay.near_deaf = found.deaf
        if found.leg is not None:
            self.relay.start(found.leg, old=found.old)
            return
        self.relay.wait(found.old)
        if found.done:
            self.relay.finish()

    def close(self) -> None:
        """End it now, by RST."""
        self.relay.close(reset=True)
        self._over(Over.RESET)

    @property
    def heard(self) -> bool:
        """Whether a byte of the client's stream has come."""
        return self.file.session.received > 0

    @property
    def crowded(self) -> bool:
        """Whether so many legs wait to be read that there may be no further one."""
        return len(self.relay.old) >= MAX_OLD_LEGS

    def _enter(self, leg: socket.socket, answer: bytes, rest: int, position: int) -> None:
        state = tcp_state.progress(leg)
        out = self.file.session.out.sent
        self.kept.legs = self.kept.legs[len(self.kept.legs) - len(self.relay.old) :] if self.relay.old else []
        self.kept.legs.append(KeptLeg(position, state.consumed - rest, out, state.given + len(answer)))

    def _note_end(self, position: int) -> None:
        self.kept.received = position
        if self.kept.legs:
            self.kept.legs[-1].end = position
        waiting = len(self.relay.old)
        self.kept.legs = self.kept.legs[len(self.kept.legs) - waiting :] if waiting else []

    def _write_note(self, leg: socket.socket | None) -> None:
        legs = [*self.relay.old, *([leg] if leg is not None else [])]
        fds = [self.relay.near.fileno(), self.file.fd, *(sock.fileno() for sock in legs)]
        self._notes.put(self.entry.id, msgspec.msgpack.encode(self.kept), fds)

    def _lost(self) -> None:
        # A lost leg is cut by now, and the note has to say where it ended before anything is read beyond it.
        self._note_end(self.file.session.received)
        self._write_note(None)
        self._leg_lost(self)

    def _over(self, how: Over) -> None:
        self._notes.drop(self.entry.id)
        asyncio.get_running_loop().call_soon(self.file.close)  # the relay may be in the middle of it
        self._finished(self, how)
