"""Spliced sessions of the proxy: begun, moved to other legs, followed to their ends, and adopted after a crash.

The kernel's program tells what it sees by a ring; whatever is missed there stands in the pairs' flags, which are looked
at every LOOK seconds.

    notice       becomes
    OWN_ACKED    the socket is parked
    LEG_RESET    the session waits for another leg
    RESET, DONE  the session is over; its pair lingers, and then nothing is left
"""

import asyncio
import socket
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec
import structlog
from msgspec import Struct

from sojourn.errors import NotSupported, RemoteProtocolError, SojournError
from sojourn.linux import splice_tables, tcp_repair, tcp_state
from sojourn.linux.relay import Over
from sojourn.linux.splice import Kept, NotSpliced, Spliced, check
from sojourn.linux.splice_tables import SpliceTables
from sojourn.linux.stream_file import StreamFile
from sojourn.linux.unsplice import Standing, unsplice
from sojourn.msocks.session import Entry
from sojourn.msocks.splice_pair import (
    CLIENT,
    CORRESPONDENT,
    Notice,
    NoticeKind,
    PairFlag,
    State,
    StreamFlag,
)

if TYPE_CHECKING:
    from sojourn.daemon.socks_table import Sessions

FORMAT: Final = 101
"""Of notes; a relayed session's are 1 (socks_kept.py)."""
LOOK: Final = 5.0
QUIET: Final = 10.0
"""Seconds without a word from a client that owes acknowledgements, until its correspondent is told to wait."""
TIME_WAIT: Final = 60.0
RESET_LINGERS: Final = 10.0
ENDING: Final = 240.0
"""RFC 5382, REQ-5: four minutes where both sides have finished."""

_log = structlog.get_logger(__name__)


class KeptSplice(Struct, array_like=True):
    """What the keeper holds of a spliced session. Descriptors: near connection, then the leg if there is one."""

    format: int
    entry: Entry
    kept: Kept


class SplicedSession:
    """One session. Where `begin` raises NotSpliced nothing has happened, and it can be relayed."""

    def __init__(self, owner: "Splices", entry: Entry, near: socket.socket, joint: Spliced | None = None) -> None:
        self.owner = owner
        self.entry = entry
        self.near = near
        self.joint = joint
        self.crowded = False

    def begin(self, leg: socket.socket, answer: bytes, rest: bytes) -> None:
        """Splice, and let the client go on. NotSpliced, OSError."""
        self.joint = Spliced.begin(
            self.owner.tables, self.near, leg, answer, rest, returns=bool(self.entry.key), before=self._enter
        )

    def resume(self, leg: socket.socket, received: int, generation: int, answer: Callable[[int], bytes]) -> None:
        """Go on on another leg. RemoteProtocolError, OSError, and NotSpliced where that has to be relayed."""
        assert self.joint is not None
        position = self.joint.cut()
        self.entry.generation = generation
        try:
            check(leg, self.near, self.joint.kept.near, ours=True)
            self.joint.attach(leg, received, position, answer(position), self._enter)
        except NotSpliced as error:
            if error.reason in ("gone", "closing"):
                raise OSError("the leg is gone already") from error
            raise

    @property
    def heard(self) -> bool:
        """Whether a byte of the client's stream has come."""
        if self.joint is None:
            return False
        up, _ = self.owner.tables.streams(self.joint.place)
        return up.sent - bool(up.flags & StreamFlag.FINISHED) > self.joint.kept.up_origin

    def relay(self, received: int, file: StreamFile) -> tuple[int, Standing]:
        """Become a session that can be relayed; return where the client's stream stands. See linux/unsplice.py."""
        assert self.joint is not None
        position = self.joint.cut()
        standing = unsplice(self.joint, position, received)
        self.owner.running.pop(self.joint.place, None)
        session = file.session
        session.into.begin(position)
        session.out.begin(received)
        session.out.put(standing.missing)
        return position, standing

    def close(self) -> None:
        """End it now, by RST."""
        if self.joint is not None and not self.joint.over:
            self.joint.reset()
        else:
            tcp_state.reset(self.near)
        self.owner.ended(self, Over.RESET, 0.0)

    def write_note(self) -> None:
        """Leave a note at the keeper."""
        assert self.joint is not None
        legs = [] if self.joint.leg is None else [self.joint.leg.fileno()]
        text = msgspec.msgpack.encode(KeptSplice(FORMAT, self.entry, self.joint.kept))
        self.owner.sessions.notes.put(self.entry.id, text, [self.near.fileno(), *legs])

    def _enter(self, joint: Spliced) -> None:
        self.joint = joint
        self.owner.running[joint.place] = self
        self.write_note()


class Splices:
    """All spliced sessions of one proxy."""

    def __init__(self, sessions: "Sessions", tables: SpliceTables, refused: Counter[str], idle: float) -> None:
        """`idle`: seconds without a packet of either side after which a session is over."""
        self.sessions = sessions
        self.idle = idle
        self.tables = tables
        self.refused = refused
        self.running: dict[int, SplicedSession] = {}
        """By place."""
        self._lingering: deque[tuple[float, SplicedSession]] = deque()
        self._looked = 0.0
        asyncio.get_running_loop().add_reader(tables.ring.fd, self._hear)

    def status(self) -> dict[str, object]:
        """Say what goes on, for `status`."""
        return {
            "sessions": len(self.running), "lingering": len(self._lingering), "room": self.tables.room,
            "interfaces": len(self.tables.attached), "packets": self.tables.counts(),
        }  # fmt: skip

    def make(self, entry: Entry, near: socket.socket, leg: socket.socket) -> SplicedSession | None:
        """Return a session that is to be spliced; None (and the reason is counted) where it has to be relayed."""
        try:
            if not self.tables.room:
                raise NotSpliced("map full")
            check(leg, near, tcp_repair.terms(near), ours=bool(entry.key))
        except NotSpliced as error:
            self.refused[f"not spliced: {error.reason}"] += 1
            return None
        return SplicedSession(self, entry, near)

    def ended(self, session: SplicedSession, how: Over, lingers: float) -> None:
        """Forget a session; its pair stays for as long as packets of it may come."""
        joint = session.joint
        if joint is not None and self.running.pop(joint.place, None) is not None:
            self.sessions.notes.drop(session.entry.id)
            if not joint.over and lingers:
                self._lingering.append((time.monotonic() + lingers, session))
            else:
                joint.release()
        self.sessions.finished(session, how)

    # -- what the program tells

    def _hear(self) -> None:
        for notice in self.tables.notices():
            session = self.running.get(notice.place)
            if session is None or session.joint is None or session.joint.kept.serial != notice.serial:
                continue
            if self._is_of_now(session.joint, notice):
                self._heard(session, session.joint, notice)

    def _is_of_now(self, joint: Spliced, notice: Notice) -> bool:
        """Say whether a notice is of the present leg: another one may have come while it waited to be read."""
        match notice.kind:
            case NoticeKind.LEG_RESET:
                return joint.leg is not None and self.tables.state(notice.place) == State.LEGLESS
            case NoticeKind.OWN_ACKED:
                return not self.tables.owes(notice.place, notice.whose)
        return True

    def _heard(self, session: SplicedSession, joint: Spliced, notice: Notice) -> None:
        match notice.kind:
            case NoticeKind.OWN_ACKED:
                self._park(session, joint, notice.whose)
            case NoticeKind.LEG_RESET:
                joint.cut()
                session.write_note()
                self.sessions.lost(session)
            case NoticeKind.RESET:
                self.ended(session, Over.RESET, RESET_LINGERS)
            case NoticeKind.DONE:
                self.ended(session, Over.DONE, TIME_WAIT)

    def _park(self, session: SplicedSession, joint: Spliced, whose: int) -> None:
        try:
            joint.park(whose)
        except BlockingIOError:
            self.refused["beside the splice"] += 1
            session.close()
            return
        except OSError as error:
            self.refused["not parked"] += 1
            _log.warning("a spliced connection's socket could not be parked", why=str(error))
        if whose == CLIENT:
            session.write_note()  # what the client has need not be said again

    # -- time

    def sweep(self) -> None:
        """Do what is due; call it every second or so."""
        now = time.monotonic()
        while self._lingering and self._lingering[0][0] <= now:
            joint = self._lingering.popleft()[1].joint
            if joint is not None:
                joint.release()
        if now >= self._looked + LOOK:
            self._looked = now
            for session in list(self.running.values()):
                if session.joint is not None:
                    self._look(session, session.joint, now)

    def _look(self, session: SplicedSession, joint: Spliced, now: float) -> None:
        """Look after one session: what the ring had no room for, clients that are silent, and idle ones."""
        tables, place = self.tables, joint.place
        flags, state = tables.flags(place), tables.state(place)
        for flag, kind in (
            (PairFlag.RESET_SEEN, NoticeKind.RESET), (PairFlag.DONE_SEEN, NoticeKind.DONE),
        ):  # fmt: skip
            if flags & flag:
                self._heard(session, joint, Notice(place, joint.kept.serial, kind, CLIENT))
                return
        client, correspondent = tables.heard(place, CLIENT), tables.heard(place, CORRESPONDENT)
        if state != State.SPLICED or (joint.returns and joint.is_lost(CLIENT)):
            if joint.leg is not None:
                self._heard(session, joint, Notice(place, joint.kept.serial, NoticeKind.LEG_RESET, CLIENT))
            return
        if joint.is_lost(CORRESPONDENT) or joint.is_lost(CLIENT):
            self.refused["nobody is there"] += 1
            session.close()
            return
        up, down = tables.streams(place)
        if joint.returns and down.sent > down.acked and correspondent > client + QUIET and not tables.is_quiet(place):
            tables.set_quiet(place)
        last = max(client, correspondent)
        if last and now - last > (ENDING if up.flags and down.flags else self.idle):
            self.refused["idle"] += 1
            session.close()

    # -- a restart

    def restore(self, text: bytes, fds: list[int]) -> SplicedSession:
        """Adopt what a predecessor has left. The descriptors are ours from now on; RemoteProtocolError."""
        socks = [socket.socket(fileno=fd) for fd in fds]
        try:
            found = msgspec.msgpack.decode(text, type=KeptSplice)
            kept, tables = found.kept, self.tables
            if (
                not 0 <= kept.place < tables.size
                or tables.serial(kept.place) != kept.serial
                or len(socks) not in (1, 2)
            ):
                raise RemoteProtocolError("a pair that is gone", reason="not restored")
            joint = Spliced(tables, socks[0], kept, returns=bool(found.entry.key))
            joint.adopt(socks[1] if len(socks) == 2 else None)
        except (OSError, SojournError, msgspec.DecodeError) as error:
            for sock in socks:
                tcp_repair.forget(sock)
            raise RemoteProtocolError(f"a splice that cannot go on: {error}", reason="not restored") from error
        session = SplicedSession(self, found.entry, socks[0], joint)
        self.running[kept.place] = session
        if joint.leg is None and len(socks) == 2:
            session.write_note()
        return session

    def restored(self) -> None:
        """Drop what nobody has claimed."""
        self.tables.sweep({*self.running})

    def close(self, *, clean: bool) -> None:
        """Stop. `clean`: nothing stays in the kernel."""
        asyncio.get_running_loop().remove_reader(self.tables.ring.fd)
        if clean:
            for session in list(self.running.values()):
                session.close()
            for _, lingering in self._lingering:
                if lingering.joint is not None:
                    lingering.joint.release()
        self.tables.close(clean=clean)


def open_tables(key: str, size: int) -> SpliceTables:
    """Return the program's tables, ready for use. Raises NotSpliced with the reason why there are none."""
    try:
        with socket.socket() as probe:
            tcp_repair.can_repair(probe)
        tables = SpliceTables(splice_tables.folder_of(key), size)
        try:
            tables.attach_all()
        except BaseException:
            tables.close(clean=True)
            raise
    except (OSError, NotSupported) as error:
        raise NotSpliced(f"the kernel does not let us: {splice_tables.refusal(error)}") from error
    return tables


def is_spliced(text: bytes) -> bool:
    """Say whether a note is of a spliced session."""
    try:
        first = msgspec.msgpack.decode(text)[0]
    except (msgspec.DecodeError, TypeError, IndexError, KeyError):
        return False
    return bool(first == FORMAT)
