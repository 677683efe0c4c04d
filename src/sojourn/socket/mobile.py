"""All sessions of one client that moves, and the networks that it has: `Steering` decides, here it is done.

What is opened goes over the network where policies place it, once that works. A session moves when its network goes
or falls silent, when its leg breaks, when a policy or the user says so, and goes on at the exact byte.
"""

import asyncio
import contextlib
import ipaddress
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, Final, Protocol

from sojourn.control.measures import PathMeasured
from sojourn.control.steering import UNKNOWN_ADDRESS, Steering
from sojourn.errors import RemoteProtocolError, SojournError
from sojourn.linux.clock import now
from sojourn.linux.relay import Over
from sojourn.model import TCP, Endpoint, Flow, Network, Origin, TunnelId
from sojourn.msocks.client import NO_CHALLENGE, Account
from sojourn.msocks.frames import CHALLENGE_LIFE
from sojourn.msocks.socks5 import Address, Code, Command, Request
from sojourn.policy.rules import Policy
from sojourn.socket.line import Line, Opened, Traffic, set_up
from sojourn.socket.session import Key, MobileSession
from sojourn.upmt.events import TunnelMeasured
from sojourn.upmt.host_events import (
    HandoverWanted,
    PathBlocked,
    PathFailed,
    PathGone,
    PathOpened,
    PathSilent,
    PathTested,
)

HELD_FOR: Final = 20.0
"""Seconds for which somebody who opens waits while a policy holds it..."""
NO_NETWORK_FOR: Final = 3.0
"""...and while no network answers."""
ATTEMPT: Final = 30.0
LOOK: Final = 0.05
MEASURED_EVERY: Final = 0.2
REFUSED: Final = ("user", "limit", "refused")


class Tasks(Protocol):
    """Runs work whose failure ends the program (daemon/driver.py)."""

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run `work` beside everything else."""
        ...


class Unreachable(SojournError):
    """What was asked for could not be opened; `code` is the proxy's, or says that there is no proxy."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the proxy says {code}")
        self.code = code


def flow_to(local: Endpoint, to: Address) -> Flow:
    """Return the flow by which policies know what leads from an application's end to a destination."""
    try:
        remote = str(ipaddress.ip_address(to.host))
    except ValueError:
        remote = UNKNOWN_ADDRESS
    return Flow(TCP, local, Endpoint(remote, to.port))


class Mobile:
    """See the module. Everything runs in one event loop."""

    def __init__(self, proxy: Endpoint, account: Account, steering: Steering, tasks: Tasks) -> None:
        self.proxy, self.account, self.steering, self.tasks = proxy, account, steering, tasks
        self.sessions: dict[bytes, MobileSession] = {}
        self.by_flow: dict[Flow, MobileSession] = {}
        self.lines: dict[str, Line] = {}
        self.moved = 0
        self.on_moved: Callable[[MobileSession, str], None] = lambda _session, _before: None
        """Is told of each session that goes on over another leg, with the network of the one before."""
        self._running: dict[str, asyncio.Task[None]] = {}
        self._using: dict[Line, int] = {}
        """How many wait for an answer over a network."""
        self._works: set[str] = set()
        self._said: dict[str, str] = {}
        self._measured_at: dict[str, float] = {}
        self._news = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._challenge = (NO_CHALLENGE, 0.0)

    # -- networks

    def network_up(self, network: Network) -> None:
        """Take a network into use, or note that it has another address now."""
        self._close_line(network.name)
        line = Line(
            network, self.proxy, self.account,
            traffic=lambda: self._traffic(line), changed=self._changed, challenge=self._keep_challenge,
        )  # fmt: skip
        self.lines[network.name] = line
        self._running[network.name] = asyncio.ensure_future(line.run())
        self.decided(self.steering.handle(PathOpened(network), now()))
        self._leave(network.name)

    def network_down(self, name: str, why: str) -> None:
        """Take a network out of use; its sessions move."""
        if self._close_line(name):
            self.decided(self.steering.handle(PathGone(name, why), now()))
            self._leave(name)

    def line_of(self, flow: Flow) -> Line | None:
        """Return the network that carries a flow, if it works; None: it waits."""
        line = self.lines.get(self.steering[flow].placement.network or "")
        return line if line is not None and line.up else None

    def _close_line(self, name: str) -> bool:
        line = self.lines.pop(name, None)
        self._works.discard(name)
        self._said.pop(name, None)
        if line is None:
            return False
        line.up = False
        self._running.pop(name).cancel()
        return True

    def _changed(self, line: Line) -> None:
        name = line.network.name
        if self.lines.get(name) is not line:
            return
        if line.up:
            self._answers(line)
        elif name in self._works:
            self._works.discard(name)
            silent = line.silent_for
            fact = PathFailed(name, line.why) if silent is None else PathSilent(name, silent)
            self.decided(self.steering.handle(fact, now()))
            self._leave(name)
        elif self._said.get(name) != line.why:
            self._said[name] = line.why
            self.decided(self.steering.handle(PathBlocked(name, line.why), now()))

    def _answers(self, line: Line) -> None:
        name, at = line.network.name, now()
        if name not in self._works:
            self._works.add(name)
            self._said.pop(name, None)
            self.decided(self.steering.handle(PathTested(name, line.rtt), at))
        elif self.steering.measured and at - self._measured_at.get(name, 0.0) >= MEASURED_EVERY:
            self._measured_at[name] = at
            mine = self._on(line)
            counts = line.counted(session.relay.leg for session in mine if session.relay.leg is not None)
            measured = TunnelMeasured(
                TunnelId(0), line.rtt, line.rttvar, None, None, None, 0,
                sum(one.session.into.head for one in mine), sum(one.session.out.head for one in mine), 0, 0,
                counts=counts,
            )  # fmt: skip
            self.decided(self.steering.handle(PathMeasured(name, measured), at))

    def _leave(self, name: str) -> None:
        """Let the sessions of a network continue, over it or another: their connections are of no use any more."""
        for session in list(self.sessions.values()):
            if session.line.network.name == name:
                session.move()

    def _on(self, line: Line) -> list[MobileSession]:
        name = line.network.name
        return [session for session in self.sessions.values() if session.line.network.name == name]

    def _traffic(self, line: Line) -> Traffic:
        mine = self._on(line)
        busy = any([session.busy() for session in mine]) or bool(self._using.get(line))
        measured = self.steering.measured and bool(self.sessions)
        return Traffic(len(mine), busy, sum(session.progress() for session in mine), measured)

    @contextlib.contextmanager
    def using(self, line: Line) -> Iterator[None]:
        """Have a network watched closely: somebody waits for an answer over it."""
        self._using[line] = self._using.get(line, 0) + 1
        line.wake.set()
        try:
            yield
        finally:
            self._using[line] -= 1
            if not self._using[line]:
                del self._using[line]

    # -- decisions

    def decided(self, flows: Iterable[Flow]) -> None:
        """Carry out what was decided: these flows are placed elsewhere now."""
        for flow in flows:
            if (session := self.by_flow.get(flow)) is not None:
                session.placed()
        self._news.set()
        self._news.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (deadline := self.steering.deadline()) is not None:
            self._timer = asyncio.get_running_loop().call_later(max(deadline - now(), 0.01), self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.decided(self.steering.tick(now()))

    def replace_policies(self, policies: tuple[Policy, ...]) -> None:
        """Go by other policies from now on."""
        self.decided(self.steering.replace(policies, now()))

    def order(self, wanted: HandoverWanted) -> int:
        """Carry out the user's order; return how many sessions move by it."""
        if wanted.network is not None and ((line := self.lines.get(wanted.network)) is None or not line.up):
            raise SojournError(f"the network {wanted.network!r} does not work now")
        before = self.moving()
        self.decided(self.steering.handle(wanted, now()))
        return len(self.moving() - before)

    def moving(self) -> set[Flow]:
        """Return the flows that are not where they are placed."""
        return {flow for flow, one in self.by_flow.items() if one.rejoining is not None}

    async def something_new(self, at_most: float) -> None:
        """Wait until a network or a decision has changed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most):
                await self._news.wait()

    # -- challenges

    def challenge(self) -> bytes:
        """Return a challenge that is fresh enough, or one that will be answered by another."""
        challenge, at = self._challenge
        return challenge if now() - at < CHALLENGE_LIFE / 2 else NO_CHALLENGE

    def _keep_challenge(self, challenge: bytes) -> None:
        self._challenge = (challenge, now())

    # -- sessions

    def wanted(self, flow: Flow, to: Address, origin: Origin | None) -> bool:
        """Place what somebody wants to open; say whether it is to go directly, without the proxy."""
        hosts = (to.host.lower(),) if flow.remote.address == UNKNOWN_ADDRESS else ()
        return self.steering.opened(flow, origin, hosts, now()).placement.direct

    async def open(self, flow: Flow, request: Request) -> tuple[Opened, Line]:
        """Ask the proxy for something over the network where `flow` is placed. Raises Unreachable."""
        began = now()
        while True:
            if self.steering[flow].placement.blocked:
                raise Unreachable(Code.NOT_ALLOWED)
            line = self.line_of(flow)
            opened = await self._attempt(line, request) if line is not None else None
            if opened is not None and line is not None:
                if opened.reply.code == Code.SUCCEEDED:
                    return opened, line
                opened.sock.close()
                raise Unreachable(opened.reply.code)
            held = any(line.up for line in self.lines.values())
            if now() >= began + (HELD_FOR if held else NO_NETWORK_FOR):
                raise Unreachable(Code.NETWORK_UNREACHABLE)
            await self.something_new(LOOK)

    async def _attempt(self, line: Line, request: Request) -> Opened | None:
        """Try once; None: the network has failed meanwhile, or the proxy does not answer over it."""
        attempt = asyncio.ensure_future(set_up(line.network, self.proxy, self.account, request))
        until = now() + ATTEMPT
        try:
            with self.using(line):
                while not attempt.done() and line.up and now() < until:
                    await asyncio.wait({attempt}, timeout=LOOK)
            return attempt.result() if attempt.done() else None
        except RemoteProtocolError as error:
            if error.reason in REFUSED:
                raise Unreachable(Code.NOT_ALLOWED) from error
            return None
        except OSError:
            return None
        finally:
            attempt.cancel()

    def start(self, session: MobileSession) -> None:
        """Enter a session whose relay has started."""
        self.sessions[session.key.id] = session
        self.by_flow[session.flow] = session
        if not session.line.up:
            session.move()
        else:
            session.placed()
        session.line.wake.set()

    def forget(self, flow: Flow) -> None:
        """Forget a flow that came to nothing."""
        self.steering.ended(flow, now())

    def has_moved(self, session: MobileSession, before: str) -> None:
        """Note that a session goes on over another leg."""
        self.moved += 1
        self.on_moved(session, before)

    def finished(self, session: MobileSession, how: Over) -> None:
        """Forget a session that is over; the proxy is told, unless it sees the end by itself."""
        if self.sessions.pop(session.key.id, None) is None:
            return
        del self.by_flow[session.flow]
        lines = [session.line, *self.lines.values()]
        self.forget(session.flow)
        if how is Over.DONE:
            return  # what it has to pass on it passes on
        line = next((line for line in lines if line.up), None)
        if line is not None:
            line.end(session.key.id)

    def status(self) -> dict[str, Any]:
        """Say how the networks are and what each carries, for metrics."""
        lines, sessions = list(self.lines.values()), list(self.sessions.values())
        networks = [
            {"name": line.network.name, "state": "up" if line.up else "down",
             "rtt_ms": round(line.rtt * 1000, 1) if line.up else None}
            for line in lines
        ]  # fmt: skip
        carried = [{"network": session.line.network.name} for session in sessions]
        return {"networks": networks, "sessions": carried, "moved": self.moved}

    def close(self) -> None:
        """End everything."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._running.values():
            task.cancel()
        for session in list(self.sessions.values()):
            session.end()


async def connected(mobile: Mobile, flow: Flow, to: Address) -> tuple[Opened, Line]:
    """Open a connection whose flow is placed already, or forget the flow. Raises Unreachable."""
    try:
        return await mobile.open(flow, Request(Command.CONNECT, to))
    except BaseException:
        mobile.forget(flow)
        raise


def key_of(opened: Opened) -> Key:
    """Return what continues the session that was opened."""
    return Key(opened.session, opened.machine.key)
