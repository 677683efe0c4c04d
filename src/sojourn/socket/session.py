"""One session of a client that moves: the application's connection here, and the leg that carries it now.

open ── carried ── (its leg breaks, its network goes, it is placed elsewhere) ── rejoining ── carried
└── held: its policy lets it wait; it has no leg meanwhile
over: both streams have ended, either side has reset it, or the proxy does not know it any more
"""

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Final

from sojourn.errors import RemoteProtocolError
from sojourn.linux import tcp_state
from sojourn.linux.clock import now
from sojourn.linux.receive import receive
from sojourn.linux.relay import Over, Relay
from sojourn.linux.stream_file import private_session
from sojourn.model import Flow
from sojourn.msocks.client import Answered, Return, Say
from sojourn.msocks.frames import Reconnect, Status
from sojourn.msocks.socks5 import Address
from sojourn.socket.line import Line, dial

if TYPE_CHECKING:
    from sojourn.socket.mobile import Mobile

BUFFER_BYTES: Final = 1 << 20
BUSY: Final = 1.0
"""Seconds after its last byte for which a session counts as in use."""
HUSH: Final = 0.001
"""Seconds between the last packet that a leg may take and the count of what it has taken."""
REJOIN_TIMEOUT: Final = 4.0
PAUSE: Final = 0.1
GIVE_UP: Final = 7200.0
"""Seconds without any proxy after which a session is given up."""


class Key:
    """What continues a session: its name, the secret of both ends, and the number of its leg."""

    __slots__ = ("generation", "id", "secret")

    def __init__(self, id: bytes, secret: bytes) -> None:
        self.id, self.secret, self.generation = id, secret, 0


async def rejoin(sock: socket.socket, key: Key, received: int, challenge: bytes) -> Answered:
    """Ask the proxy to continue a session on this connection; return its answer. What is behind it is not read.

    Raises OSError, RemoteProtocolError, and LateAnswer where it is given up although the answer has come.
    """
    loop = asyncio.get_running_loop()
    key.generation += 1
    machine = Return(key.secret, Reconnect(key.id, key.generation, received, challenge))
    try:
        await loop.sock_sendall(sock, machine.begin())
        while data := await receive(sock, machine.wants):
            for event in machine.feed(data):
                match event:
                    case Say(answer):
                        await loop.sock_sendall(sock, answer)
                    case Answered():
                        return event
    except BaseException:
        late = _late_answer(sock, machine)
        if late is not None:
            raise LateAnswer(late) from None
        raise
    raise ConnectionError("the proxy has closed")


class LateAnswer(ConnectionError):
    """A connection was given up on which the proxy has resumed the session: the stream may be behind its answer."""

    def __init__(self, answer: Answered) -> None:
        super().__init__("given up")
        self.answer = answer


def _late_answer(sock: socket.socket, machine: Return) -> Answered | None:
    """Return the answer that waits in a connection which is given up. Nothing more is taken in by it."""
    with contextlib.suppress(OSError, RemoteProtocolError):
        tcp_state.deafen(sock)
        while data := sock.recv(machine.wants):
            for event in machine.feed(data):
                if isinstance(event, Answered) and event.resumed.status == Status.RESUMED:
                    return event
    return None


class MobileSession:
    """See the module."""

    def __init__(self, owner: "Mobile", near: socket.socket, key: Key, line: Line, flow: Flow, to: Address) -> None:
        self.owner, self.line, self.key, self.flow, self.to = owner, line, key, flow, to
        self.moves = 0
        self.began = self.active_at = now()
        self.rejoining: asyncio.Task[None] | None = None
        self.gap: float | None = None
        """Seconds of its last move, from the order to the first leg that carried again."""
        self._ordered_at = 0.0
        self._seen = -1
        self.session = private_session(BUFFER_BYTES)
        self.relay = Relay(near, self.session, returns=True, on_leg_lost=self.move, on_over=self._over)

    def progress(self) -> int:
        """Return a number that grows with every byte that is heard from the other end, or acknowledged by it."""
        return self.session.into.head + self.session.out.sent - self._waiting()

    def busy(self) -> bool:
        """Say whether bytes flow, or wait to."""
        moved = self.session.into.head + self.session.out.head
        if moved != self._seen or self.session.out.head != self.session.out.kept:
            self._seen, self.active_at = moved, now()
            if self.relay.leg is not None:
                self.session.out.confirm(self.session.out.sent - self._waiting())
        return now() - self.active_at < BUSY

    def _waiting(self) -> int:
        return tcp_state.unacknowledged(self.relay.leg) if self.relay.leg is not None else 0

    def placed(self) -> None:
        """Go where policies and orders want it now."""
        placement = self.owner.steering[self.flow].placement
        if placement.blocked:
            self.end()
        elif not self._is_placed:
            self.move()

    def move(self) -> None:
        """Continue on another connection, over the network where it is placed."""
        if self.rejoining is None and not self.relay.over:
            self._ordered_at = now()
            self.rejoining = asyncio.ensure_future(self._rejoin())
            self.rejoining.add_done_callback(self._rejoined)

    def _over(self, how: Over) -> None:
        if self.rejoining is not None:
            self.rejoining.cancel()
        self.owner.finished(self, how)

    def _rejoined(self, task: "asyncio.Task[None]") -> None:
        self.rejoining = None
        if not task.cancelled() and task.exception() is not None:
            self.owner.tasks.start(_fail(task.exception()), "session")
        elif not self.relay.over and not task.cancelled() and not self._is_placed:
            self.move()

    @property
    def _is_placed(self) -> bool:
        """Whether it is carried where policies and orders want it."""
        placement = self.owner.steering[self.flow].placement
        return placement.network == self.line.network.name and self.relay.leg is not None

    async def _rejoin(self) -> None:
        until = now() + GIVE_UP
        while now() < until:
            if self.owner.steering[self.flow].placement.network is None:
                await self._cut()
            line = self.owner.line_of(self.flow)
            if line is not None:
                with contextlib.suppress(OSError, TimeoutError, RemoteProtocolError), self.owner.using(line):
                    async with asyncio.timeout(REJOIN_TIMEOUT):
                        if await self._try(line):
                            return
            await self.owner.something_new(PAUSE)
        self.end()

    async def _try(self, line: Line) -> bool:
        """Continue over one network; say whether that is the end of it, one way or the other."""
        sock = await dial(line.network, self.owner.proxy)
        try:
            answer = await rejoin(sock, self.key, await self._cut(), self.owner.challenge())
            return self._answered(sock, line, answer.resumed.status, answer.resumed.received)
        except LateAnswer as late:
            if self.relay.over:
                tcp_state.reset(sock)
                raise asyncio.CancelledError from None
            # What our kernel has acknowledged there nobody else has any more.
            self._answered(sock, line, Status.RESUMED, late.answer.resumed.received)
            await self._cut()
            return False
        except BaseException:
            if self.relay.leg is not sock:
                tcp_state.reset(sock)  # the proxy may take it for the session's leg by now, and a FIN for its end
            raise

    async def _cut(self) -> int:
        """Give the present leg up, and return how many bytes of the stream this end answers for.

        Where the proxy splices nobody else has what our kernel has acknowledged: the count must be the last word.
        """
        if self.relay.leg is not None:
            self.relay.hush()
            await asyncio.sleep(HUSH)
        return self.relay.cut()

    def _answered(self, sock: socket.socket, line: Line, status: int, position: int) -> bool:
        if status == Status.STALE:
            sock.close()
            return False
        if status != Status.RESUMED:
            sock.close()
            self.relay.finish() if status == Status.ENDED else self.end()
            return True
        before, self.line = self.line.network.name, line
        self.moves += 1
        self.relay.attach(sock, position)
        self.gap = now() - self._ordered_at
        self.owner.has_moved(self, before)
        return True

    def give(self, first: bytes) -> None:
        """Take bytes that the application has sent already."""
        self.session.out.put(first)

    def end(self) -> None:
        """End it now, by a reset at both ends."""
        self.relay.close(reset=True)
        self._over(Over.RESET)


async def _fail(error: BaseException | None) -> None:
    if error is not None:
        raise error
