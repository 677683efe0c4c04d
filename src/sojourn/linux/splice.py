"""One session whose two connections are one: how it becomes so, moves to another leg, and ends.

    relayed bytes ── HOLD: nothing more is taken in ── queues read, numbers read ── SPLICED: the program translates

What the proxy itself has said (its answer to the client, bytes that had come before) its sockets still repeat until the
other end has acknowledged it; then they are parked (linux/tcp_repair.py) and only reserve their addresses and ports.
Stream positions are counted as everywhere (msocks/session.py); sequence numbers are the correspondent's connection's.
"""

import contextlib
import socket
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from sojourn.errors import RemoteProtocolError, SojournError
from sojourn.linux import tcp_repair, tcp_state
from sojourn.linux.bpf_tc import has_ethernet_header
from sojourn.linux.route_to import route_to
from sojourn.linux.splice_tables import LOOPBACK, SpliceTables
from sojourn.linux.tcp_repair import OPTION_ECN, OPTION_SACK, OPTION_TIMESTAMPS, Numbers, Terms
from sojourn.msocks.splice_pair import (
    CLIENT,
    CORRESPONDENT,
    FIRST,
    Half,
    HalfFlag,
    Pair,
    PairFlag,
    State,
    Stream,
    StreamFlag,
    tuple_key,
)

MOST_OWN: Final = 4096
"""Bytes that may wait in a connection when it is spliced: with the first segments all of them are on their way."""
WINDOW_GUESS: Final = 1 << 20
"""How far a peer may be ahead before the other one's first segment tells its window."""
MAX_MSS: Final = 32767
"""The most that TCP_MAXSEG takes."""
Ends = tuple[tuple[str, int], tuple[str, int]]


class NotSpliced(SojournError):
    """A session that has to be relayed; `reason` is one word or two, for the counter. Nothing has been changed."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Kept(Struct, array_like=True):
    """What a successor of this process has to know; the rest stands in the pinned maps."""

    place: int
    serial: int
    up_origin: int
    """Extended sequence number of the first byte of the client's stream."""
    down_origin: int
    own: bytes = b""
    """Bytes of the correspondent's that the proxy has acknowledged and the client perhaps not."""
    own_at: int = 0
    """Their position."""
    floor: int = 0
    """Bytes of the client's stream that the proxy answers for, whatever the correspondent has acknowledged."""
    near: Terms = Terms(0, 0, 0, 536, 536)
    """What was agreed on with the correspondent: a parked socket does not know it any more."""


def ends(sock: socket.socket) -> Ends:
    """Return a connection's remote and local address and port. Raises NotSpliced where it has none any more."""
    try:
        remote, local = sock.getpeername(), sock.getsockname()
    except OSError as error:
        raise NotSpliced("gone") from error
    return (remote[0].partition("%")[0], remote[1]), (local[0].partition("%")[0], local[1])


def check(leg: socket.socket, near: socket.socket, agreed: Terms, *, ours: bool) -> None:
    """Raise NotSpliced where two connections cannot be spliced.

    `agreed`: what it was with the correspondent; `ours`: the client is a Linux that speaks MSOCKS.
    """
    if leg.family != near.family:
        raise NotSpliced("families")
    client = tcp_repair.terms(leg)
    differs = client.options ^ agreed.options
    if differs & OPTION_ECN:
        raise NotSpliced("ecn")
    # RFC 7323 §3.2 lets a peer drop segments without what it has agreed on. Linux takes them.
    if differs & OPTION_TIMESTAMPS and not (ours and client.has(OPTION_TIMESTAMPS)):
        raise NotSpliced("timestamps")
    for sock in (leg, near):
        if tcp_state.progress(sock).state != tcp_state.ESTABLISHED:
            raise NotSpliced("closing")


def mss_for(leg: socket.socket) -> int | None:
    """Return the MSS that a correspondent may be offered, so that what it sends fits the client; None: any."""
    mss = tcp_repair.terms(leg).send_mss
    return mss if mss <= MAX_MSS else None


class Spliced:
    """One spliced session. Methods raise OSError when the kernel refuses."""

    def __init__(self, tables: SpliceTables, near: socket.socket, kept: Kept, *, returns: bool) -> None:
        self.tables = tables
        self.near = near
        self.kept = kept
        self.returns = returns
        self.leg: socket.socket | None = None
        self.six = near.family == socket.AF_INET6
        self.over = False
        self._near_ends = ends(near)
        self._leg_ends: Ends | None = None

    @property
    def place(self) -> int:
        """Where its pair is."""
        return self.kept.place

    @classmethod
    def begin(
        cls, tables: SpliceTables, near: socket.socket, leg: socket.socket, answer: bytes, rest: bytes, *,
        returns: bool, before: Callable[["Spliced"], None],
    ) -> "Spliced":  # fmt: skip
        """Splice two connections, and then say `answer` to the client; `before` is called between.

        `rest`: bytes of the client's stream that have been read. Raises NotSpliced; after OSError both are of no use.
        """
        place = tables.take()
        if place is None:
            raise NotSpliced("map full")
        self = cls(tables, near, Kept(place, tables.serial(place), 0, 0), returns=returns)
        try:
            ways = self._hold(leg, len(rest))
        except (NotSpliced, OSError) as error:
            self.let_go()
            if isinstance(error, NotSpliced):
                raise
            raise NotSpliced("map full") from error
        try:
            self._splice(leg, answer, rest, ways, before)
        except BaseException:
            self.let_go()
            raise
        return self

    def _hold(self, leg: socket.socket, rest: int) -> tuple[int, int]:
        """Let nothing more in, so that the queues can be read to a known point; return the ways out."""
        self._leg_ends = ends(leg)
        ways = self._way(self._near_ends), self._way(self._leg_ends)
        self.tables.attach_all()
        if not {*ways} <= self.tables.attached:
            raise NotSpliced("interface")
        self.tables.set_state(self.place, State.HOLD)
        self._enter(self._near_ends, CORRESPONDENT)
        self._enter(self._leg_ends, CLIENT)
        if max(tcp_state.unread(self.near), tcp_state.unread(leg) + rest) > MOST_OWN:
            raise NotSpliced("busy")
        for sock in (leg, self.near):
            if tcp_state.progress(sock).state != tcp_state.ESTABLISHED:
                raise NotSpliced("closing")
        return ways

    def _splice(
        self, leg: socket.socket, answer: bytes, rest: bytes, ways: tuple[int, int], before: Callable[["Spliced"], None]
    ) -> None:
        more, client = tcp_repair.counted(leg)
        rest += more
        if rest and self.near.send(rest) != len(rest):
            raise BlockingIOError("the correspondent takes nothing")
        first, near = tcp_repair.counted(self.near)
        tcp_repair.acknowledge(self.near)
        waiting = tcp_state.unacknowledged(self.near)
        kept = self.kept
        kept.up_origin = FIRST + near.sends - len(rest)
        kept.down_origin = FIRST + near.expects - len(first)
        kept.own, kept.floor, kept.near = first, len(rest), tcp_repair.terms(self.near)
        up, down = FIRST + near.sends, FIRST + near.expects
        pair = Pair(
            State.SPLICED, kept.serial, PairFlag.RETURNS if self.returns else 0, near.sends,
            streams=(Stream(up, up - waiting, up + WINDOW_GUESS), Stream(down, down, down + WINDOW_GUESS)),
        )  # fmt: skip
        said = len(answer) + len(first)
        pair.halves = self._halves(leg, ways, near, client, said)
        pair.leg_limit = tcp_repair.window_edge(leg, near.expects - said)
        pair.halves[CLIENT].ts_base = pair.halves[CLIENT].ts_last = tcp_repair.clock(self.near)
        pair.halves[CORRESPONDENT].own = near.sends
        pair.halves[CORRESPONDENT].flags |= HalfFlag.OWN if waiting else 0
        self.leg = leg
        self.tables.write(self.place, pair)
        before(self)
        if not waiting:
            self.park(CORRESPONDENT)
        _say(leg, answer + first)

    def _halves(
        self, leg: socket.socket, ways: tuple[int, int], near: Numbers, client: Numbers, said: int
    ) -> tuple[Half, Half]:
        """Return both halves; `near`: the numbers that the present leg's are to become, `said`: to come from us."""
        assert self._leg_ends is not None
        theirs, ours = self.kept.near, tcp_repair.terms(leg)
        common = theirs.options & ours.options
        flags = HalfFlag.TIMESTAMPS if common & OPTION_TIMESTAMPS else 0
        flags |= HalfFlag.SACK if common & OPTION_SACK else 0
        sends = (client.sends + said) & 0xFFFFFFFF
        value = tcp_repair.clock(leg)
        up = Half(
            *self._near_ends, ways[0], (near.sends - client.expects) & 0xFFFFFFFF, (near.expects - sends) & 0xFFFFFFFF,
            0, self._most(theirs, ours), ours.send_scale, theirs.receive_scale, flags | HalfFlag.OWN, sends,
        )  # fmt: skip
        down = Half(
            *self._leg_ends, ways[1], (sends - near.expects) & 0xFFFFFFFF, (client.expects - near.sends) & 0xFFFFFFFF,
            value, self._most(ours, theirs), theirs.send_scale, ours.receive_scale, flags, ts_last=value,
        )  # fmt: skip
        return up, down

    def _most(self, taker: Terms, other: Terms) -> int:
        """Return the most that the peer of `taker` takes, where the other one was told that it may send more."""
        header = 60 if self.six else 40
        return taker.send_mss + header if other.advertised_mss > taker.send_mss else 0

    # -- legs

    def cut(self) -> int:
        """Take the present leg away, and return A: what the correspondent has acknowledged of the client's stream."""
        self.tables.end_turn(self.place)
        if self._leg_ends is not None:
            self._forget(self._leg_ends)
            self._leg_ends = None
        leg, self.leg = self.leg, None
        if leg is not None:
            with contextlib.suppress(OSError):
                tcp_repair.forget(leg)
        up, _ = self.tables.streams(self.place)
        return max(_position(up, self.kept.up_origin), self.kept.floor)

    def take_up(self, received: int) -> tuple[Pair, bytes, bool]:
        """Return how it stands for a client that has `received` bytes: the pair, bytes that we have to say, our FIN.

        A FIN that an earlier leg has acknowledged does not come again: it is ours to repeat. RemoteProtocolError where
        the bytes cannot come any more.
        """
        kept, pair = self.kept, self.tables.read(self.place, six=self.six)
        down = pair.streams[CORRESPONDENT]
        held = kept.own_at if kept.own else _position(down, kept.down_origin)
        if not held <= received <= down.sent - kept.down_origin:
            raise RemoteProtocolError(f"bytes from {received} are not held", reason="position")
        missing = kept.own[received - kept.own_at :] if kept.own else b""
        return pair, missing, bool(down.flags & StreamFlag.FIN_ACKED)

    def numbers_at(self, position: int, received: int) -> Numbers:
        """Return the near connection's numbers at these places of the two streams."""
        kept = self.kept
        return Numbers((kept.up_origin + position) & 0xFFFFFFFF, (kept.down_origin + received) & 0xFFFFFFFF)

    def attach(
        self, leg: socket.socket, received: int, position: int, answer: bytes, before: Callable[["Spliced"], None]
    ) -> None:
        """Go on on another leg: the correspondent's stream from `received`, the client's from `position`.

        Raises RemoteProtocolError where bytes from `received` on cannot come any more, NotSpliced where this leg
        cannot be spliced.
        """
        kept = self.kept
        pair, missing, finished = self.take_up(received)
        leg_ends = ends(leg)
        ways = self._way(self._near_ends), self._way(leg_ends)
        self.tables.attach_all()
        if not {*ways} <= self.tables.attached:
            raise NotSpliced("interface")
        self._leg_ends = leg_ends
        near = self.numbers_at(position, received + len(missing) + finished)
        said = len(answer) + len(missing) + finished
        halves = self._halves(leg, ways, near, tcp_repair.numbers(leg), said)
        pair.leg_limit = tcp_repair.window_edge(leg, near.expects - said)
        before_client = pair.halves[CLIENT]
        # TSval never goes back, whichever leg it comes from: the correspondent would drop it (RFC 7323 §5).
        halves[CLIENT].ts_last = before_client.ts_last
        halves[CLIENT].ts_base = (before_client.ts_last + 1) & 0xFFFFFFFF
        halves[CORRESPONDENT].own = pair.halves[CORRESPONDENT].own
        halves[CORRESPONDENT].flags |= pair.halves[CORRESPONDENT].flags & HalfFlag.OWN
        kept.own, kept.own_at = missing, received
        pair.halves, pair.leg_sent, pair.quiet = halves, near.sends, False
        self.leg = leg
        self.tables.write_leg(self.place, pair)
        self._enter(self._leg_ends, CLIENT)
        before(self)
        _say(leg, answer + missing)
        if finished:
            leg.shutdown(socket.SHUT_WR)

    def adopt(self, leg: socket.socket | None) -> None:
        """Go on with what a predecessor has left, its note and the maps being there.

        Without the leg where its client was not told that it may go on.
        """
        self._leg_ends = ends(leg) if leg is not None else None
        # In this order: the program sees an acknowledgement of our answer before the socket does.
        if leg is not None and not tcp_state.unacknowledged(leg) and self.tables.owes(self.place, CLIENT):
            tcp_state.reset(leg)  # the predecessor died before it had said that the client may go on
            self.cut()
            leg = None
        self.leg = leg
        for whose in (CLIENT, CORRESPONDENT):
            if not self.tables.owes(self.place, whose):
                self.park(whose)

    def is_lost(self, whose: int) -> bool:
        """Say whether a peer never took what the proxy itself has said, so that its socket has given up."""
        sock = self.leg if whose == CLIENT else self.near
        if sock is None or not self.tables.owes(self.place, whose):
            return False
        return tcp_state.progress(sock).state == tcp_state.CLOSE

    def park(self, whose: int) -> None:
        """Let a connection's socket be a reservation from now on."""
        sock = self.leg if whose == CLIENT else self.near
        if whose == CLIENT:
            self.kept.own = b""
        if sock is None:
            return
        if tcp_state.unread(sock):
            # It was in the kernel's hands when the queues were read: acknowledged, and in neither stream.
            raise BlockingIOError("bytes have come in beside the splice")
        tcp_repair.park(sock, self._stands(whose))

    def _stands(self, whose: int) -> Numbers:
        """Return what a connection's socket would send next, and expect."""
        pair = self.tables.read(self.place, six=self.six)
        up, down = (stream.acked & 0xFFFFFFFF for stream in pair.streams)
        if whose == CORRESPONDENT:
            return Numbers(up, down)
        back = pair.halves[CORRESPONDENT]
        return Numbers((down + back.seq_delta) & 0xFFFFFFFF, (up + back.ack_delta) & 0xFFFFFFFF)

    # -- ends

    def reset(self) -> None:
        """End it now: both peers are told, by RST."""
        if self.over:
            return
        numbers = {whose: self._stands(whose) for whose in (CLIENT, CORRESPONDENT)}
        socks = {CLIENT: self.leg, CORRESPONDENT: self.near}
        self.leg = None
        self.let_go()
        for whose, sock in socks.items():
            if sock is None:
                continue
            with contextlib.suppress(OSError):
                tcp_repair.revive(sock, numbers[whose], self.kept.near)
            tcp_state.reset(sock)

    def release(self) -> None:
        """Forget it: it has ended by itself, and nothing of it is under way any more."""
        if self.over:
            return
        self.let_go()
        for sock in (self.leg, self.near):
            if sock is not None:
                with contextlib.suppress(OSError):
                    tcp_repair.forget(sock)
        self.leg = None

    def let_go(self) -> None:
        """Let its packets be nobody's, and its place another one's."""
        self.over = True
        for place in (self._near_ends, self._leg_ends):
            if place is not None:
                self._forget(place)
        self.tables.give_back(self.place)

    def _enter(self, place: Ends, whose: int) -> None:
        self.tables.enter(tuple_key(*place), self.place, whose)

    def _forget(self, place: Ends) -> None:
        self.tables.forget(tuple_key(*place))

    def _way(self, place: Ends) -> int:
        """Return the interface by which packets leave for a peer."""
        way = route_to(place[0][0], place[1][0])
        if way is None or way.interface == LOOPBACK:
            raise NotSpliced("local")
        if not has_ethernet_header(socket.if_indextoname(way.interface)):
            raise NotSpliced("interface")
        return way.interface


def _position(stream: Stream, origin: int) -> int:
    """Return how many bytes of a stream are acknowledged; its FIN is none."""
    return stream.acked - origin - bool(stream.flags & StreamFlag.FIN_ACKED)


def _say(leg: socket.socket, data: bytes) -> None:
    if data and leg.send(data) != len(data):
        raise BlockingIOError("the client takes nothing")
