"""Sessions of a client that moves: opened over the best network, and continued over another when that one fails.

A session is moved when its network goes or falls silent, when its leg breaks, when the user says so, and,
after SETTLED seconds, when a better network is there. It then goes on at the exact byte (linux/relay.py).
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable
from typing import Any, Final

from sojourn.daemon.driver import Tasks, now
from sojourn.daemon.socks_line import Line, Opened, dial, set_up
from sojourn.errors import RemoteProtocolError, SojournError
from sojourn.linux import tcp_state
from sojourn.linux.relay import Over, Relay
from sojourn.linux.stream_file import private_session
from sojourn.model import Endpoint, Network
from sojourn.msocks.client import NO_CHALLENGE, Account, Answered, Return, Say
from sojourn.msocks.frames import CHALLENGE_LIFE, Reconnect, Status
from sojourn.msocks.socks5 import Address, Code, Command, Request

BUFFER_BYTES: Final = 1 << 20
BUSY: Final = 1.0
"""Seconds after its last byte for which a session counts as in use."""
SETTLED: Final = 3.0
REJOIN_TIMEOUT: Final = 4.0
PAUSE: Final = 0.1
GIVE_UP: Final = 7200.0
"""Seconds without any proxy after which a session is given up."""


class Unreachable(SojournError):
    """What was asked for could not be opened; `code` is the proxy's, or says that there is no proxy."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the proxy says {code}")
        self.code = code


class MobileSession:
    """One session: an application's connection on this side."""

    def __init__(
        self, owner: "Mobile", near: socket.socket, opened: Opened, line: Line, name: str, to: Address
    ) -> None:
        self.owner, self.line = owner, line
        self.id, self.key = opened.session, opened.machine.key
        self.application, self.to = name, to
        self.generation = 0
        self.moves = 0
        self.rejoining: asyncio.Task[None] | None = None
        self.wish: Line | None = None
        self.pinned = False
        """The user has said where it goes: it stays there while that network works."""
        self.active_at = now()
        self._seen = -1
        self.session = private_session(BUFFER_BYTES)
        self.relay = Relay(near, self.session, returns=True, on_leg_lost=self._lost, on_over=self._over)

    def progress(self) -> int:
        """Return a number that grows with every byte that is heard from the other end, or acknowledged by it."""
        unacknowledged = tcp_state.unacknowledged(self.relay.leg) if self.relay.leg is not None else 0
        return self.session.into.head + self.session.out.sent - unacknowledged

    def busy(self) -> bool:
        """Say whether bytes flow, or wait to."""
        moved = self.session.into.head + self.session.out.head
        if moved != self._seen or self.session.out.head != self.session.out.kept:
            self._seen, self.active_at = moved, now()
            self.session.out.confirm(self.session.out.sent - self._waiting())
        return now() - self.active_at < BUSY

    def _waiting(self) -> int:
        return tcp_state.unacknowledged(self.relay.leg) if self.relay.leg is not None else self.session.out.sent

    def move(self, line: Line | None = None) -> None:
        """Continue on another connection: over `line`, or the best there is."""
        self.wish = line
        if self.rejoining is None and not self.relay.over:
            self.rejoining = asyncio.ensure_future(self._rejoin())
            self.rejoining.add_done_callback(self._rejoined)

    def _lost(self) -> None:
        self.move()

    def _over(self, how: Over) -> None:
        if self.rejoining is not None:
            self.rejoining.cancel()
        self.owner.finished(self, how)

    def _rejoined(self, task: "asyncio.Task[None]") -> None:
        self.rejoining = None
        if not task.cancelled() and task.exception() is not None:
            self.owner.tasks.start(_fail(task.exception()), "session")

    async def _rejoin(self) -> None:
        until = now() + GIVE_UP
        while now() < until:
            line = self.wish if self.wish is not None and self.wish.up else self.owner.best()
            self.wish = None
            if line is not None:
                with contextlib.suppress(OSError, TimeoutError, RemoteProtocolError):
                    async with asyncio.timeout(REJOIN_TIMEOUT):
                        if await self._try(line):
                            return
            await asyncio.sleep(PAUSE)
        self.end()

    async def _try(self, line: Line) -> bool:
        """Continue over one network; say whether that is the end of it, one way or the other."""
        loop = asyncio.get_running_loop()
        sock = await dial(line.network, self.owner.proxy)
        try:
            self.generation += 1
            received = self.relay.cut()
            order = Reconnect(self.id, self.generation, received, self.owner.challenge())
            machine = Return(self.key, order)
            await loop.sock_sendall(sock, machine.begin())
            while data := await loop.sock_recv(sock, 4096):
                for event in machine.feed(data):
                    match event:
                        case Say(answer):
                            await loop.sock_sendall(sock, answer)
                        case Answered(resumed, _):
                            return self._answered(sock, line, resumed.status, resumed.received, machine.rest)
            raise ConnectionError("the proxy has closed")
        except BaseException:
            if self.relay.leg is not sock:
                sock.close()
            raise

    def _answered(self, sock: socket.socket, line: Line, status: int, position: int, rest: bytes) -> bool:
        if status == Status.STALE:
            sock.close()
            return False
        if status != Status.RESUMED:
            sock.close()
            self.relay.finish() if status == Status.ENDED else self.end()
            return True
        self.line = line
        self.moves += 1
        self.owner.moved += 1
        self._put(rest)
        self.relay.attach(sock, position)
        return True

    def _put(self, rest: bytes) -> None:
        """Take what of the stream came in one piece with the answer."""
        if self.session.ends or self.session.into.free < len(rest):
            raise ConnectionError("bytes that have to wait")  # the next generation goes back to before them
        while rest:
            space = self.session.into.space()
            count = min(len(space), len(rest))
            space[:count] = rest[:count]
            self.session.into.took(count)
            rest = rest[count:]

    def end(self) -> None:
        """End it now, by a reset at both ends."""
        self.relay.close(reset=True)
        self._over(Over.RESET)


async def _fail(error: BaseException | None) -> None:
    if error is not None:
        raise error


class Mobile:
    """All sessions of one client, and the networks that it has."""

    def __init__(self, proxy: Endpoint, account: Account, rank: Callable[[Network], int], tasks: Tasks) -> None:
        """`rank`: the place of a network in the owner's order, the best first."""
        self.proxy, self.account, self.tasks = proxy, account, tasks
        self.sessions: dict[bytes, MobileSession] = {}
        self.lines: dict[str, Line] = {}
        self.moved = 0
        self._rank = rank
        self._running: dict[str, asyncio.Task[None]] = {}
        self._challenge = (NO_CHALLENGE, 0.0)

    # -- networks

    def network_up(self, network: Network) -> None:
        """Take a network into use, or note that it has another address now."""
        self.network_down(network.name)
        line = Line(
            network, self.proxy, self.account,
            traffic=lambda: self._traffic(network.name), changed=self._changed, challenge=self._keep_challenge,
        )  # fmt: skip
        self.lines[network.name] = line
        self._running[network.name] = asyncio.ensure_future(line.run())

    def network_down(self, name: str) -> None:
        """Take a network out of use; its sessions move."""
        line = self.lines.pop(name, None)
        if line is not None:
            self._running.pop(name).cancel()
            line.up = False
            self._leave(line)

    def best(self) -> Line | None:
        """Return the best network that works now."""
        return min((line for line in self.lines.values() if line.up), key=self._place, default=None)

    async def settle(self) -> None:
        """Move sessions to a better network when it has been there for a while; a task."""
        while True:
            await asyncio.sleep(0.5)
            best = self.best()
            if best is None or now() - best.since < SETTLED:
                continue
            for session in self.sessions.values():
                if session.line is not best and self._place(best) < self._place(session.line) and not session.pinned:
                    session.move(best)

    def _place(self, line: Line) -> int:
        return self._rank(line.network)

    def _changed(self, line: Line) -> None:
        if not line.up:
            self._leave(line)

    def _leave(self, line: Line) -> None:
        for session in list(self.sessions.values()):
            if session.line is line:
                session.move()

    def _traffic(self, name: str) -> tuple[bool, int]:
        mine = [session for session in self.sessions.values() if session.line.network.name == name]
        return any([session.busy() for session in mine]), sum(session.progress() for session in mine)

    # -- challenges

    def challenge(self) -> bytes:
        """Return a challenge that is fresh enough, or one that will be answered by another."""
        challenge, at = self._challenge
        return challenge if now() - at < CHALLENGE_LIFE / 2 else NO_CHALLENGE

    def _keep_challenge(self, challenge: bytes) -> None:
        self._challenge = (challenge, now())

    # -- sessions

    async def open(self, to: Address, name: str) -> tuple[Opened, Line]:
        """Open a connection through the proxy over the best network. Raises Unreachable."""
        lines = sorted((line for line in self.lines.values() if line.up), key=self._place)
        for line in lines:
            with contextlib.suppress(OSError, TimeoutError, RemoteProtocolError):
                async with asyncio.timeout(30.0):
                    opened = await set_up(line.network, self.proxy, self.account, Request(Command.CONNECT, to))
                if opened.reply.code == Code.SUCCEEDED:
                    return opened, line
                opened.sock.close()
                raise Unreachable(opened.reply.code)
        raise Unreachable(Code.NETWORK_UNREACHABLE)

    def start(
        self, near: socket.socket, opened: Opened, line: Line, name: str, to: Address, first: bytes = b""
    ) -> MobileSession:
        """Carry an application's connection; `first` are bytes that it has sent already."""
        session = MobileSession(self, near, opened, line, name, to)
        self.sessions[session.id] = session
        out = session.session.out
        out.space()[: len(first)] = first
        out.took(len(first))
        session.relay.start(opened.sock, opened.machine.rest)
        if not line.up:
            session.move()
        return session

    def finished(self, session: MobileSession, how: Over) -> None:
        """Forget a session that is over; the proxy is told, unless it sees the end by itself."""
        self.sessions.pop(session.id, None)
        if how is Over.DONE:
            return  # what it has to pass on it passes on
        line = session.line if session.line.up else self.best()
        if line is not None:
            line.end(session.id)

    def move_all(self, name: str, sessions: Iterable[MobileSession] | None = None) -> int:
        """Move sessions to the network `name` and keep them there while it works; return how many."""
        line = self.lines.get(name)
        if line is None or not line.up:
            raise SojournError(f"the network {name!r} does not work now")
        chosen = [one for one in sessions or list(self.sessions.values()) if one.line is not line]
        for session in chosen:
            session.pinned = True
            session.move(line)
        return len(chosen)

    def status(self) -> dict[str, Any]:
        """Say what goes on, for `status`."""
        return {
            "networks": [
                {
                    "name": line.network.name,
                    "interface": line.network.interface,
                    "address": line.network.address,
                    "state": "up" if line.up else "down",
                    "why": line.why,
                    "rtt_ms": round(line.rtt * 1000, 1) if line.up else None,
                }
                for line in self.lines.values()
            ],
            "sessions": [
                {
                    "application": session.application,
                    "remote": str(session.to),
                    "network": session.line.network.name,
                    "moves": session.moves,
                    "bytes_in": session.session.into.head,
                    "bytes_out": session.session.out.head,
                }
                for session in self.sessions.values()
            ],
            "moved": self.moved,
        }

    def close(self) -> None:
        """End everything."""
        for task in self._running.values():
            task.cancel()
        for session in list(self.sessions.values()):
            session.end()
