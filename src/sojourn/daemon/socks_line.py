"""One network as a client of the proxy sees it: a control connection that beats while bytes flow.

    down ── connecting ── up ── silent (like down: its sessions move; another connection is tried)

A network is silent when a heartbeat has no answer for PATIENCE + 1.5 RTT and nothing else was heard over it:
no byte on its sessions, no acknowledgement. Each answer brings a fresh challenge, so that a session can
come back over any network within one round trip of its connection's.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import Final

from sojourn.daemon.driver import now
from sojourn.errors import RemoteProtocolError, SojournError
from sojourn.linux import tcp_state
from sojourn.model import Endpoint, Network
from sojourn.msocks import frames, socks5
from sojourn.msocks.client import Account, Heard, Replied, Say, SetUp
from sojourn.msocks.socks5 import Command, Reply, Request

BEAT: Final = 0.08
"""Seconds between heartbeats while bytes flow."""
IDLE_BEAT: Final = 20.0
PATIENCE: Final = 0.16
IDLE_PATIENCE: Final = 5.0
CONNECT_TIMEOUT: Final = 8.0
RETRY: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Pauses after failed attempts."""
CONTROL: Final = Request(Command.CONTROL, socks5.NOWHERE)


class Opened:
    """A connection that a set-up has come to its end on."""

    def __init__(self, sock: socket.socket, machine: SetUp, reply: Reply, session: bytes, rtt: float) -> None:
        self.sock = sock
        self.machine = machine
        self.reply = reply
        self.session = session
        self.rtt = rtt


async def dial(network: Network, proxy: Endpoint) -> socket.socket:
    """Return a connection to the proxy that leaves by this network. Raises OSError."""
    six = ":" in proxy.address
    sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_STREAM)
    try:
        tcp_state.prepare(sock)
        with contextlib.suppress(PermissionError):  # since Linux 5.7 no right is needed
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, network.interface.encode())
        if (":" in network.address) == six:
            sock.bind((network.address, 0))
        await asyncio.get_running_loop().sock_connect(sock, (proxy.address, proxy.port))
    except BaseException:
        sock.close()
        raise
    return sock


async def set_up(network: Network, proxy: Endpoint, account: Account, request: Request) -> Opened:
    """Open a session or a control connection. Raises OSError, RemoteProtocolError."""
    loop, began = asyncio.get_running_loop(), now()
    sock = await dial(network, proxy)
    try:
        rtt = now() - began
        machine = SetUp(account, os.urandom(32), request)
        await loop.sock_sendall(sock, machine.begin())
        while data := await loop.sock_recv(sock, 4096):
            for event in machine.feed(data):
                match event:
                    case Say(answer):
                        await loop.sock_sendall(sock, answer)
                    case Replied(reply, session):
                        return Opened(sock, machine, reply, session, rtt)
        raise ConnectionError("the proxy has closed")
    except BaseException:
        sock.close()
        raise


class Line:
    """See the module. `run` is a task; it ends when it is cancelled (the network is gone)."""

    def __init__(
        self,
        network: Network,
        proxy: Endpoint,
        account: Account,
        *,
        traffic: Callable[[], tuple[bool, int]],
        changed: Callable[["Line"], None],
        challenge: Callable[[bytes], None],
    ) -> None:
        """`traffic`: whether the network's sessions are in use, and a number that grows with what is heard on them."""
        self.network = network
        self.up = False
        self.since = 0.0
        """When it came up last."""
        self.rtt = 0.0
        self.silences = 0
        self.why = "connecting"
        """Why it is not up."""
        self._proxy, self._account = proxy, account
        self._traffic, self._changed, self._challenge = traffic, changed, challenge
        self._line: Opened | None = None

    async def run(self) -> None:
        """Keep a control connection, for ever."""
        failures = 0
        while True:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    self._line = await set_up(self.network, self._proxy, self._account, CONTROL)
                failures = 0
                await self._beat(self._line)
            except (OSError, TimeoutError, SojournError) as error:
                self.why = str(error) or type(error).__name__
            finally:
                self._drop()
            await asyncio.sleep(RETRY[min(failures, len(RETRY) - 1)])
            failures += 1

    def end(self, session: bytes) -> None:
        """Tell the proxy that a session is over."""
        if self._line is not None and self.up:
            with contextlib.suppress(OSError):
                self._line.sock.send(self._line.machine.record(frames.End(session)))

    def _drop(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.sock.close()
        if self.up:
            self.up = False
            self._changed(self)

    async def _beat(self, line: Opened) -> None:
        """Send heartbeats until one is not answered in time (ConnectionError)."""
        self.rtt, number = line.rtt, 0
        while True:
            sent, (busy, heard) = now(), self._traffic()
            line.sock.send(line.machine.record(frames.Ping(number)))
            patience = (PATIENCE if busy else IDLE_PATIENCE) + 1.5 * self.rtt
            await self._pong(line, number, sent, heard, patience)
            number = (number + 1) % (1 << 32)
            await self._pause(sent)

    async def _pause(self, sent: float) -> None:
        """Wait for the next beat: soon while bytes flow, else when they begin to."""
        while not self._traffic()[0] and now() < sent + IDLE_BEAT:  # noqa: ASYNC110 - relays do not tell when bytes flow
            await asyncio.sleep(BEAT)
        await asyncio.sleep(max(0.0, sent + BEAT - now()))

    async def _pong(self, line: Opened, number: int, sent: float, heard: int, patience: float) -> None:
        loop, last = asyncio.get_running_loop(), sent
        while True:
            try:
                async with asyncio.timeout(max(0.005, min(last + patience - now(), BEAT))):
                    data = await loop.sock_recv(line.sock, 4096)
            except TimeoutError:
                _, more = self._traffic()
                if more != heard:
                    heard, last = more, now()
                elif now() >= last + patience:
                    self.silences += 1
                    raise ConnectionError("silent") from None
                continue
            if not data:
                raise ConnectionError("the proxy has closed the control connection")
            for event in line.machine.feed(data):
                match event:
                    case Heard(frames.Ping(answered, challenge)) if challenge:
                        self._challenge(challenge)
                        if answered == number:
                            self._answered(now() - sent)
                            return
                    case _:
                        raise RemoteProtocolError("nonsense on a control connection", reason="record")

    def _answered(self, rtt: float) -> None:
        self.rtt = rtt if not self.up else self.rtt + (rtt - self.rtt) / 8
        if not self.up:
            self.up, self.since, self.why = True, now(), ""
            self._changed(self)
