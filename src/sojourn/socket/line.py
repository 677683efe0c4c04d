"""One network as a client of the proxy sees it: a control connection that beats while bytes flow.

    down ── connecting ── up ── silent (like down: its sessions move; another connection is tried)

A network is silent when a heartbeat has no answer for max(PATIENCE, srtt + 4 rttvar) and nothing else was heard over
it: no byte on its sessions, no acknowledgement. Under traffic that is noticed BEAT + PATIENCE after the last sign of
life. Each answer brings a fresh challenge, so that a session can come back over any network within one round trip of
its connection's.

srtt and rttvar are those of heartbeats. What policies and people are told of the round trip is the kernel's, which
knows what was sent twice (RFC 6298 §3); loss is what was sent again, on the way out.

Timers: CONNECT_TIMEOUTS; BEAT or (nothing flows) IDLE_BEAT between heartbeats; LOOK while an answer is awaited; RETRY
after failures.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterable
from typing import Final
from weakref import WeakKeyDictionary

from msgspec import Struct

from sojourn.errors import RemoteProtocolError, SojournError
from sojourn.linux import tcp_state
from sojourn.linux.clock import now
from sojourn.linux.receive import receive
from sojourn.model import Endpoint, Network
from sojourn.msocks import frames, socks5
from sojourn.msocks.client import Account, Heard, Replied, Say, SetUp
from sojourn.msocks.socks5 import Command, Reply, Request

BEAT: Final = 0.05
"""Seconds between heartbeats while bytes flow."""
IDLE_BEAT: Final = 20.0
MEASURE_BEAT: Final = 1.0
"""The same while nothing flows, but a policy wants to know how long the way is."""
PATIENCE: Final = 0.15
IDLE_PATIENCE: Final = 5.0
LOOK: Final = 0.02
IDLE_LOOK: Final = 0.1
OWN_LATENESS: Final = 0.03
"""Seconds that this process may be late itself before it is forgiven: a busy machine is no silent network."""
CONNECT_TIMEOUTS: Final = (2.0, 4.0, 8.0)
"""Of the first attempts and all further ones: a SYN that a silent network has swallowed is sent again more and more
rarely, and a network that has come back shall not wait for that; a very long way gets its time a little later."""
RETRY: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Pauses after failed attempts."""
CONTROL: Final = Request(Command.CONTROL, socks5.NOWHERE)


class Traffic(Struct, frozen=True):
    """What goes over a network now."""

    sessions: int
    busy: bool
    """Bytes flow, or wait to, or somebody waits for an answer."""
    heard: int
    """Grows with every byte that is heard or acknowledged."""
    measured: bool = False
    """A policy goes by the round trip."""


class Opened:
    """A connection that a set-up has come to its end on."""

    def __init__(self, sock: socket.socket, machine: SetUp, reply: Reply, session: bytes) -> None:
        self.sock = sock
        self.machine = machine
        self.reply = reply
        self.session = session


class Segments:
    """Segments that went out over one network, and those of them that were lost; connections come and go."""

    def __init__(self) -> None:
        self.sent = self.lost = 0
        self._seen: WeakKeyDictionary[socket.socket, tuple[int, int]] = WeakKeyDictionary()

    def count(self, socks: Iterable[socket.socket]) -> tuple[int, int, int, int]:
        """Add what these connections have sent since they were counted last; return the sums as loss.py wants them."""
        for sock in socks:
            with contextlib.suppress(OSError):
                seen = tcp_state.path_seen(sock)
                sent, lost = self._seen.get(sock, (0, 0))
                self.sent += seen.sent - sent
                self.lost += seen.lost - lost
                self._seen[sock] = seen.sent, seen.lost
        return self.sent, self.sent - self.lost, 0, 0


async def dial(network: Network, proxy: Endpoint) -> socket.socket:
    """Return a connection to the proxy that leaves by this network. Raises OSError."""
    six = ":" in proxy.address
    sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_STREAM)
    try:
        tcp_state.prepare(sock)
        bind_to(sock, network, six=six)
        await asyncio.get_running_loop().sock_connect(sock, (proxy.address, proxy.port))
    except BaseException:
        sock.close()
        raise
    return sock


def bind_to(sock: socket.socket, network: Network, *, six: bool) -> None:
    """Let a socket of one family leave by this network. Raises OSError."""
    with contextlib.suppress(PermissionError):  # since Linux 5.7 no right is needed
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, network.interface.encode())
    if (":" in network.address) == six:
        sock.bind((network.address, 0))


async def set_up(network: Network, proxy: Endpoint, account: Account, request: Request) -> Opened:
    """Open a session or a control connection. Raises OSError, RemoteProtocolError."""
    sock = await dial(network, proxy)
    try:
        machine = SetUp(account, os.urandom(32), request)
        await asyncio.get_running_loop().sock_sendall(sock, machine.begin())
        replied = await next_reply(sock, machine)
        return Opened(sock, machine, replied.reply, replied.session)
    except BaseException:
        sock.close()
        raise


async def next_reply(sock: socket.socket, machine: SetUp) -> Replied:
    """Go on with a set-up until the proxy replies. Raises OSError, RemoteProtocolError."""
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(sock, 4096):
        for event in machine.feed(data):
            match event:
                case Say(answer):
                    await loop.sock_sendall(sock, answer)
                case Replied():
                    return event
    raise ConnectionError("the proxy has closed")


class Line:
    """See the module. `run` is a task; it ends when it is cancelled (the network is gone)."""

    def __init__(
        self,
        network: Network,
        proxy: Endpoint,
        account: Account,
        *,
        traffic: Callable[[], Traffic],
        changed: Callable[["Line"], None],
        challenge: Callable[[bytes], None],
    ) -> None:
        """Prepare it; `changed` is called when it comes up, goes down, fails for another reason, or is measured."""
        self.network = network
        self.up = False
        self.since = 0.0
        """When it came up last."""
        self.rtt = self.rttvar = 0.0
        self.segments = Segments()
        self._srtt = self._rttvar = 0.0
        """Of heartbeats: the proxy's own time is in them."""
        self.silences = 0
        self.silent_for: float | None = None
        """Why it went down last: seconds of silence; None: something else."""
        self.why = "connecting"
        """Why it is not up."""
        self.wake = asyncio.Event()
        """Somebody wants to use it now."""
        self._proxy, self._account = proxy, account
        self._traffic, self._changed, self._challenge = traffic, changed, challenge
        self._line: Opened | None = None

    async def run(self) -> None:
        """Keep a control connection, for ever."""
        failures = 0
        while True:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUTS[min(failures, len(CONNECT_TIMEOUTS) - 1)]):
                    self._line = await set_up(self.network, self._proxy, self._account, CONTROL)
                failures = 0
                await self._beat(self._line)
            except (OSError, TimeoutError, SojournError) as error:
                self.why = str(error) or "no answer from the proxy"
            finally:
                self._drop()
            self._changed(self)
            await asyncio.sleep(RETRY[min(failures, len(RETRY) - 1)])
            failures += 1

    def counted(self, legs: Iterable[socket.socket]) -> tuple[int, int, int, int]:
        """Return how many segments went out, and how many of them arrived (and none that came in: nobody tells)."""
        return self.segments.count([*legs, self._line.sock] if self._line is not None else legs)

    def end(self, session: bytes) -> None:
        """Tell the proxy that a session is over."""
        if self._line is not None and self.up:
            with contextlib.suppress(OSError):
                self._line.sock.send(self._line.machine.record(frames.End(session)))

    def _drop(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.sock.close()
        self.up = False

    async def _beat(self, line: Opened) -> None:
        """Send heartbeats until one is not answered in time (ConnectionError)."""
        self._srtt = tcp_state.path_seen(line.sock).rtt
        self._rttvar, self.silent_for, number = self._srtt / 2, None, 0
        while True:
            self.wake.clear()
            sent, traffic = now(), self._traffic()
            line.sock.send(line.machine.record(frames.Ping(number)))
            await self._pong(line, number, sent, traffic)
            number = (number + 1) % (1 << 32)
            await self._pause(sent)

    async def _pause(self, sent: float) -> None:
        """Wait for the next beat: soon while bytes flow, else until they begin to."""
        while not (traffic := self._traffic()).busy:
            wait = sent + (MEASURE_BEAT if traffic.measured else IDLE_BEAT) - now()
            if wait <= 0:
                return
            # Relays do not tell when bytes flow, so one looks, unless there is no session that could begin.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(wait, IDLE_LOOK) if traffic.sessions else wait):
                    await self.wake.wait()
                return
        await asyncio.sleep(max(0.0, sent + BEAT - now()))

    async def _pong(self, line: Opened, number: int, sent: float, traffic: Traffic) -> None:
        last = sent
        while True:
            looked = now()
            patience = (
                max(PATIENCE, self._srtt + 4 * self._rttvar) if traffic.busy else IDLE_PATIENCE + 1.5 * self._srtt
            )
            wait = max(0.005, min(last + patience - looked, LOOK if traffic.busy else IDLE_LOOK))
            try:
                async with asyncio.timeout(wait):
                    data = await receive(line.sock, 4096)
            except TimeoutError:
                at, more = now(), self._traffic()
                late = at - looked - wait
                if more.heard != traffic.heard or (more.busy and not traffic.busy):
                    last = at
                elif late > OWN_LATENESS:
                    last += late
                elif at >= last + patience:
                    self.silences += 1
                    self.silent_for = at - last
                    raise ConnectionError("silent") from None
                traffic = more
                continue
            if not data:
                raise ConnectionError("the proxy has closed the control connection")
            if self._heard(line, data, number, sent):
                return

    def _heard(self, line: Opened, data: bytes, number: int, sent: float) -> bool:
        """Take in what came on the control connection; say whether it answers the heartbeat `number`."""
        answered = False
        for event in line.machine.feed(data):
            match event:
                case Heard(frames.Ping(of, challenge)) if challenge:
                    self._challenge(challenge)
                    answered = answered or of == number
                case _:
                    raise RemoteProtocolError("nonsense on a control connection", reason="record")
        if answered:
            self._measured(now() - sent, line)
        return answered

    def _measured(self, rtt: float, line: Opened) -> None:
        """Take in a heartbeat's round trip (RFC 6298 §2's filter), and what the kernel has found."""
        self._rttvar += (abs(rtt - self._srtt) - self._rttvar) / 4
        self._srtt += (rtt - self._srtt) / 8
        seen = tcp_state.path_seen(line.sock)
        self.rtt, self.rttvar = seen.rtt or self._srtt, seen.rttvar
        if not self.up:
            self.up, self.since, self.why = True, now(), ""
        self._changed(self)
