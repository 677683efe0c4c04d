"""The proxy's sessions: made, continued, ended, dropped when their time is over, and left to a successor."""

import os
import socket
from collections import Counter
from typing import TYPE_CHECKING

from sojourn.daemon.driver import now
from sojourn.daemon.socks_kept import restore
from sojourn.daemon.socks_session import Notes, ProxySession
from sojourn.daemon.socks_splice import SplicedSession, Splices, is_spliced
from sojourn.errors import RemoteProtocolError
from sojourn.linux import keeper, tcp_state
from sojourn.linux.relay import Over
from sojourn.linux.splice import NotSpliced
from sojourn.linux.stream_file import StreamFile
from sojourn.msocks.frames import SESSION_BYTES, Challenges, Reconnect, Resumed, Status
from sojourn.msocks.session import PROVING, Entry, Limits, SessionTable

if TYPE_CHECKING:
    from sojourn.daemon.socks_proxy import Stranger

_STATUS = {Over.DONE: Status.ENDED, Over.RESET: Status.RESET, Over.LEG: Status.RESET}


class Sessions:
    """All of one proxy."""

    def __init__(self, limits: Limits, challenges: Challenges, size: int, count: Counter[str]) -> None:
        """`size`: bytes of each copy buffer; `count`: where failures are counted."""
        self.table = SessionTable(limits, challenges)
        self.notes = Notes(None)
        self.running: dict[bytes, ProxySession | SplicedSession] = {}
        self.splices: Splices | None = None
        """Where the kernel lets us."""
        self._size = size
        self._count = count

    def make(
        self, stranger: "Stranger", near: socket.socket, key: bytes, id: bytes | None = None
    ) -> ProxySession | SplicedSession:
        """Make a session between a client and `near`; `begin` starts it. Raises OSError.

        `id`: its name, where the client knows it already.
        """
        entry = Entry(id or os.urandom(SESSION_BYTES), stranger.dialogue.user, key)
        if id is None:
            entry.unproved_until = now() + PROVING
        near.setblocking(False)
        session: ProxySession | SplicedSession | None = None
        if self.splices is not None:
            session = self.splices.make(entry, near, stranger.sock)
        if session is None:
            session = self._new(entry, near, StreamFile(self._size))
        self.running[entry.id] = session
        self.table.add(entry)
        return session

    def begin(
        self, session: ProxySession | SplicedSession, leg: socket.socket, answer: bytes, rest: bytes
    ) -> ProxySession | SplicedSession:
        """Start a session on a leg, relayed where it turns out that it cannot be spliced. Raises OSError."""
        try:
            session.begin(leg, answer, rest)
        except NotSpliced as error:
            assert isinstance(session, SplicedSession)
            self._count[f"not spliced: {error.reason}"] += 1
            session = self._new(session.entry, session.near, StreamFile(self._size))
            session.begin(leg, answer, rest)
        return session

    def resume(self, stranger: "Stranger", asked: Reconnect, key: bytes) -> Status:
        """Continue a session on another connection. RESUMED: it was answered, and the connection is the session's."""
        session = self.running[asked.session]
        if session.crowded:
            return Status.STALE  # the client tries again, with the next generation

        def answer(position: int) -> bytes:
            return Resumed(Status.RESUMED, asked.generation, position).encode(key, asked)

        stranger.handed_over = True
        self.table.resume(asked.session, asked.generation)
        try:
            try:
                session.resume(stranger.sock, asked.received, asked.generation, answer)
            except NotSpliced as error:
                assert isinstance(session, SplicedSession)
                self._count[f"not spliced: {error.reason}"] += 1
                session = self._relayed(session, asked.received)
                session.resume(stranger.sock, asked.received, asked.generation, answer)
        except RemoteProtocolError:
            stranger.handed_over = False
            session.close()
            return Status.LOST
        except OSError:  # the new leg is gone already: wait for the next one
            stranger.sock.close()
            self.lost(session)
        else:
            stranger.dialogue.resumed()
        return Status.RESUMED

    def _relayed(self, spliced: SplicedSession, received: int) -> ProxySession:
        """Make a relayed session of a spliced one, for a leg that cannot be spliced. RemoteProtocolError, OSError."""
        file = StreamFile(self._size)
        try:
            position, standing = spliced.relay(received, file)
        except BaseException:
            file.close()
            raise
        session = self._new(spliced.entry, spliced.near, file)
        session.kept.near_consumed -= received + len(standing.missing)
        session.kept.near_given -= position
        session.kept.received = position
        session.relay.out_finished = standing.finished
        return session

    def end(self, session: bytes, user: str) -> None:
        """End a session whose client is done with it."""
        running = self.running.get(session)
        if running is not None and running.entry.user == user:
            running.close()

    def end_all(self, user: str) -> None:
        """End the sessions of a user who is revoked."""
        for running in [one for one in self.running.values() if one.entry.user == user]:
            running.close()

    def sweep(self, time: float) -> None:
        """Drop the sessions whose time is over."""
        if self.splices is not None:
            self.splices.sweep()
        for session in self.table.expired(time):
            unproved = self.table.entries[session].unproved_until
            self._count["never heard of" if unproved else "held too long"] += 1
            self.running[session].close()

    def restore(self, line: socket.socket) -> None:
        """Take over what the keeper holds of a predecessor."""
        while (received := keeper.receive(line)) is not None:
            note, fds = received
            if not note.name:
                return
            try:
                self._restore(note, fds)
            except RemoteProtocolError as error:
                self._count[error.reason] += 1
                self.notes.drop(note.name)

    def close(self, *, clean: bool) -> None:
        """End all, or leave all to a successor: then nothing is closed that the keeper does not hold, too."""
        if clean:
            for session in list(self.running.values()):
                session.close()
        if self.splices is not None:
            self.splices.close(clean=clean)
        if clean:
            self.notes.end()

    def _restore(self, note: keeper.Note, fds: list[int]) -> None:
        if is_spliced(note.text):
            self._restore_splice(note, fds)
            return
        found = restore(note.text, fds)
        entry = found.kept.entry
        if found.file.session.received:
            entry.unproved_until = 0.0
        waits = found.leg is None and not found.done
        if waits and not entry.key:
            self.notes.drop(note.name)
            found.drop()
            return
        entry.legless_since = (entry.legless_since or now()) if waits else None
        session = self._new(entry, found.near, found.file, found.kept.size)
        self.table.add(entry)
        session.adopt(found)

    def _restore_splice(self, note: keeper.Note, fds: list[int]) -> None:
        if self.splices is None:
            for fd in fds:
                tcp_state.reset(socket.socket(fileno=fd))  # never FIN, which would be the stream's end
            raise RemoteProtocolError("a spliced session, and no splice", reason="not restored")
        session = self.splices.restore(note.text, fds)
        assert session.joint is not None
        entry = session.entry
        if session.heard:
            entry.unproved_until = 0.0
        entry.legless_since = (entry.legless_since or now()) if session.joint.leg is None else None
        self.running[entry.id] = session
        self.table.add(entry)

    def _new(self, entry: Entry, near: socket.socket, file: StreamFile, size: int | None = None) -> ProxySession:
        near.setblocking(False)
        session = ProxySession(
            entry, near, file, size or self._size, self.notes, leg_lost=self.lost, finished=self.finished
        )
        self.running[entry.id] = session
        return session

    def lost(self, session: ProxySession | SplicedSession) -> None:
        """Note that a session waits for a leg."""
        if session.heard:
            session.entry.unproved_until = 0.0
        for surplus in self.table.leg_lost(session.entry.id, now()):
            self._count["too many wait"] += 1
            self.running[surplus].close()

    def finished(self, session: ProxySession | SplicedSession, how: Over) -> None:
        """Forget a session that is over."""
        self.running.pop(session.entry.id, None)
        self.table.remove(session.entry.id, _STATUS[how], now())
