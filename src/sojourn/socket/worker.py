"""The thread that carries this process's sessions where no host daemon runs: an event loop with a `SocksClient`.

Why a thread in the process, and not a `sojourn socks` that runs already: a descriptor has to become writable when the
correspondent has answered and not before, with the correspondent's own error; nothing has to be started first; and
what a program may do stays what its own configuration says. What it costs: a child after fork() has to open anew.

How a descriptor is connected. The application's socket is a TCP socket from its beginning, and stays the same:

    application ── SYN ──> 127.0.0.1:P     a listener of ours whose queue is full: the socket is connecting
    the proxy has opened what was asked for:
    near (bound to P, too) ── SYN ──> application's port        a simultaneous open (RFC 9293 §3.5): connected
    it could not: the error is kept for SO_ERROR, and shutdown() wakes whoever waits

So select, epoll and asyncio see what they see with any connection, nobody else on the machine can come in between,
and an address of the loopback is all that is needed.
"""

import asyncio
import contextlib
import errno
import itertools
import logging
import os
import socket
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from sojourn.linux import tcp_state
from sojourn.linux.clock import now
from sojourn.model import Endpoint, Flow, Origin
from sojourn.msocks.socks5 import NOWHERE, Address, Code
from sojourn.socket.calls import Listening
from sojourn.socket.client import SocksClient
from sojourn.socket.mobile import Mobile, Unreachable, connected, flow_to, key_of
from sojourn.socket.session import MobileSession
from sojourn.store.config_dir import ConfigDir
from sojourn.upmt.host_events import HandoverWanted

_log = logging.getLogger(__name__)

T = TypeVar("T")
Callback = Callable[[str, str, float | None], None]
START_TIMEOUT: Final = 10.0
LISTEN_TIMEOUT: Final = 30.0
DRAIN: Final = 10.0
"""Seconds for which a process that ends waits for what its sockets still have to deliver."""
FAREWELL: Final = 2.0
"""...and for its correspondents to end, where it has ended itself."""
POLL: Final = 0.02
FIRST_LOOK: Final = 0.5
PARKING: Final = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
STANDARD: Final = socket.socket
here = threading.local()
"""`ours` is set in the worker's thread: its own sockets are ordinary ones."""
ERRORS: Final[dict[int, int]] = {
    Code.REFUSED: errno.ECONNREFUSED, Code.NETWORK_UNREACHABLE: errno.ENETUNREACH,
    Code.HOST_UNREACHABLE: errno.EHOSTUNREACH, Code.TTL_EXPIRED: errno.ETIMEDOUT, Code.NOT_ALLOWED: errno.EACCES,
}  # fmt: skip


class Attempt:
    """What becomes of one socket's connect(). The worker writes it, the application's threads read it."""

    def __init__(self, sock: socket.socket, local: Endpoint, to: Address) -> None:
        self.local, self.to = local, to
        self.error = 0
        """What SO_ERROR shows once."""
        self.done = False
        self.bound = NOWHERE
        """Where the correspondent sees us."""
        self.session: MobileSession | None = None
        self.callbacks: list[Callback] = []
        self.task: Future[None] | None = None
        self._handle: socket.socket | None = STANDARD(fileno=os.dup(sock.fileno()))
        self._process = os.getpid()

    def connected(self, session: MobileSession, bound: Address) -> None:
        """Note that it is connected."""
        self.session, self.bound = session, bound
        self._over()

    def failed(self, error: int) -> None:
        """Note that it is not, and wake whoever waits."""
        self.error = error
        handle = self._handle
        if handle is not None and self._process == os.getpid():  # a child that closes its copy ends nothing
            with contextlib.suppress(OSError):
                handle.shutdown(socket.SHUT_RDWR)
        self._over()

    def _over(self) -> None:
        self.done = True
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.close()


class Incoming:
    """One socket that listens at the proxy: where, and the calls that the application has not taken yet."""

    def __init__(self, local: tuple[str, int], wanted: Address) -> None:
        self.local, self.wanted = local, wanted
        self.address = NOWHERE
        self.callers: dict[int, tuple[Address, MobileSession]] = {}
        """By the port of our end of the connection to the application."""
        self.task: Future[None] | None = None


class Parking:
    """Where sockets knock while they are connecting: one address of the loopback for each family."""

    def __init__(self) -> None:
        self._held: dict[int, tuple[socket.socket, socket.socket]] = {}

    def address(self, family: int) -> tuple[str, int]:
        """Return where to knock. Raises OSError."""
        if family not in self._held:
            sock = _shared(family, (PARKING[socket.AddressFamily(family)], 0))
            sock.listen(0)
            # A queue for one, which is taken for ever: the kernel drops each SYN from now on. No right is needed.
            filler = _plain(family)
            filler.connect(sock.getsockname()[:2])
            self._held[family] = sock, filler
        host, port = self._held[family][0].getsockname()[:2]
        return str(host), int(port)

    def near(self, family: int) -> socket.socket:
        """Return what is to be our end of a connection to somebody who knocks. Raises OSError."""
        near = _shared(family, self.address(family))
        tcp_state.prepare(near)
        return near

    def close(self) -> None:
        """Give the addresses up."""
        for sock in itertools.chain.from_iterable(self._held.values()):
            sock.close()


class Worker:
    """See the module. Made once a process; methods are for the application's threads."""

    def __init__(self, directory: ConfigDir, port: int) -> None:
        """Start it. Raises ConfigError, OSError: then nothing runs."""
        self._directory, self._port = directory, port
        self.parking = Parking()
        self._loop = asyncio.new_event_loop()
        self._callbacks: dict[Flow, list[Callback]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._client: SocksClient | None = None
        ready: Future[None] = Future()
        self.thread = threading.Thread(target=self._run, args=(ready,), name="sojourn-socket", daemon=True)
        self.thread.start()
        ready.result(START_TIMEOUT)

    # -- in the application's threads

    def connect(self, sock: socket.socket, local: Endpoint, to: Address, origin: Origin | None) -> Attempt:
        """Connect a socket that knocks at the parking address from `local`."""
        attempt = Attempt(sock, local, to)
        attempt.task = self._begin(self._connect(attempt, sock.family, origin))
        return attempt

    def listen(self, local: tuple[str, int], wanted: Address, origin: Origin | None) -> Incoming:
        """Listen at the proxy for a socket that listens at `local`. Raises OSError."""
        incoming, begun = Incoming(local, wanted), Future[None]()
        incoming.task = self._begin(self._listen(incoming, origin, begun))
        begun.result(LISTEN_TIMEOUT)
        return incoming

    def is_direct(self, flow: Flow, origin: Origin | None, to: Address) -> bool:
        """Say whether policies let this go without the proxy."""
        mobile = self.mobile
        if not mobile.steering.decide.direct_rules():
            return False

        async def ask() -> bool:
            direct = mobile.wanted(flow, to, origin)
            mobile.forget(flow)
            return direct

        return self._begin(ask()).result(START_TIMEOUT)

    def move(self, session: MobileSession, network: str) -> None:
        """Order a session to a network. Raises SojournError where that does not work."""

        async def order() -> None:
            self.mobile.order(HandoverWanted(network, (session.flow,)))

        self._begin(order()).result(START_TIMEOUT)

    def watch(self, flow: Flow, callbacks: list[Callback]) -> None:
        """Tell of the moves of a session."""
        self._begin(self._watched(flow, callbacks)).result(START_TIMEOUT)

    @property
    def mobile(self) -> Mobile:
        """The sessions."""
        assert self._client is not None
        return self._client.mobile

    @property
    def client(self) -> SocksClient:
        """All that runs."""
        assert self._client is not None
        return self._client

    def drain(self) -> None:
        """Wait until what was given to closed sockets is delivered, as the kernel does after a process has ended."""
        self._begin(self._end()).result(2 * DRAIN)

    def _begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    # -- in the worker's

    def _run(self, ready: "Future[None]") -> None:
        here.ours = True
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._start())
        except BaseException as error:
            ready.set_exception(error)
            self._loop.close()
            return
        ready.set_result(None)
        self._loop.run_forever()

    async def _start(self) -> None:
        self._client = SocksClient(self._directory, self._port, self)
        self._client.mobile.on_moved = self._moved
        self._client.start()
        await self.mobile.something_new(FIRST_LOOK)

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run something beside; what it raises is the loop's to report."""
        task = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self) -> None:
        await self._until(lambda: all(map(_delivered, self.mobile.sessions.values())), DRAIN)
        await self._until(lambda: not any(one.relay.out_finished for one in self.mobile.sessions.values()), FAREWELL)
        self.client.close()
        self.parking.close()
        await asyncio.sleep(POLL)  # the proxy is told of what ends

    async def _until(self, is_so: Callable[[], bool], at_most: float) -> None:
        until = now() + at_most
        while not is_so() and now() < until:  # noqa: ASYNC110 - kernels' counters tell nobody when they change
            await asyncio.sleep(POLL)

    def _moved(self, session: MobileSession, before: str) -> None:
        for callback in self._callbacks.get(session.flow, ()):
            try:
                callback(before, session.line.network.name, session.gap)
            except Exception:  # it is the program's own, and must not end what carries its other sockets
                _log.exception("a callback of on_handover failed")

    async def _connect(self, attempt: Attempt, family: int, origin: Origin | None) -> None:
        mobile, flow = self.mobile, flow_to(attempt.local, attempt.to)
        try:
            mobile.wanted(flow, attempt.to, origin)
            opened, line = await connected(mobile, flow, attempt.to)
        except Unreachable as error:
            attempt.failed(ERRORS.get(error.code, errno.ECONNABORTED) if error.code != Code.NO_SUCH_NAME else -1)
            return
        except Exception:
            attempt.failed(errno.EIO)  # whatever it was, nobody waits for ever
            raise
        try:
            near = self.parking.near(family)
        except OSError as error:  # no descriptor is left
            attempt.failed(error.errno or errno.EIO)
            opened.sock.close()
            mobile.forget(flow)
            return
        session = MobileSession(mobile, near, key_of(opened), line, flow, attempt.to)
        attempt.connected(session, opened.reply.address)  # before the application wakes and asks
        try:
            await self._loop.sock_connect(session.relay.near, (attempt.local.address, attempt.local.port))
        except OSError:  # it has closed its socket meanwhile
            session.relay.near.close()
            opened.sock.close()
            mobile.forget(flow)
            return
        session.relay.start(opened.sock, opened.machine.rest)
        mobile.start(session)
        self._watch(flow, attempt.callbacks)

    async def _watched(self, flow: Flow, callbacks: list[Callback]) -> None:
        self._watch(flow, callbacks)

    def _watch(self, flow: Flow, callbacks: list[Callback]) -> None:
        for gone in [known for known in self._callbacks if known not in self.mobile.by_flow]:
            del self._callbacks[gone]
        self._callbacks[flow] = [*self._callbacks[flow], *callbacks] if flow in self._callbacks else callbacks

    async def _listen(self, incoming: Incoming, origin: Origin | None, begun: "Future[None]") -> None:
        mobile = self.mobile
        flow = flow_to(Endpoint(*incoming.local), incoming.wanted)
        mobile.wanted(flow, incoming.wanted, origin)
        listening = Listening(mobile, flow, incoming.wanted)
        try:
            try:
                await listening.begin()
            except Unreachable as error:
                number = errno.EADDRINUSE if error.code == Code.FAILURE else ERRORS.get(error.code, errno.EADDRNOTAVAIL)
                begun.set_exception(OSError(number, os.strerror(number)))
                return
            incoming.address = listening.address
            begun.set_result(None)
            while True:
                await self._called(incoming, listening, origin)
        finally:
            listening.close()

    async def _called(self, incoming: Incoming, listening: Listening, origin: Origin | None) -> None:
        """Take one call, and put it before the application's listening socket."""
        mobile, call = self.mobile, await listening.call()
        family = socket.AF_INET6 if ":" in incoming.local[0] else socket.AF_INET
        near = _plain(family)
        try:
            tcp_state.prepare(near)
            near.bind((incoming.local[0], 0))
            host, port = near.getsockname()[:2]
            flow = flow_to(Endpoint(host, port), call.caller)
            mobile.wanted(flow, call.caller, origin)
            session = MobileSession(mobile, near, call.key, call.line, flow, call.caller)
            incoming.callers[port] = (call.caller, session)
            await asyncio.get_running_loop().sock_connect(near, incoming.local)
        except OSError:
            near.close()
            call.leg.close()
            return
        session.relay.start(call.leg, call.rest)
        mobile.start(session)


def _plain(family: int) -> socket.socket:
    """Return a socket of the standard class, also where `install` has put ours in its place."""
    return STANDARD(family, socket.SOCK_STREAM)


def _delivered(session: MobileSession) -> bool:
    """Say whether the proxy has all that the application has sent."""
    out, relay = session.session.out, session.relay
    waiting = tcp_state.unacknowledged(relay.leg) - relay.out_finished if relay.leg is not None else 1
    return relay.over or (not tcp_state.unread(relay.near) and out.sent == out.head and waiting <= 0)


def _shared(family: int, address: tuple[str, int]) -> socket.socket:
    sock = _plain(family)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock
