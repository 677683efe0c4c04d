"""Listening at the proxy (BIND): calls are taken one after the other, and none is lost when the client moves.

    waiting ── a call ── next call ...
        └── its network is gone ── was there a call meanwhile? (RECONNECT) ── yes: that call
                                                                           └── no: BIND again at the same port

The proxy keeps the port for a while between two BINDs, with the calls that come meanwhile (daemon/socks_listeners.py).
"""

import asyncio
import contextlib
import socket
from typing import Final

from sojourn.errors import RemoteProtocolError
from sojourn.model import Flow
from sojourn.msocks.frames import Status
from sojourn.msocks.socks5 import NOWHERE, Address, Code, Command, Request
from sojourn.socket.line import Line, Opened, dial, next_reply
from sojourn.socket.mobile import Mobile, Unreachable, key_of
from sojourn.socket.session import REJOIN_TIMEOUT, Key, MobileSession, rejoin

PAUSE: Final = 0.1
LOOK: Final = 30.0


class Call:
    """Somebody has called: the leg that carries it, and how it goes on."""

    def __init__(self, leg: socket.socket, rest: bytes, key: Key, line: Line, caller: Address) -> None:
        self.leg, self.rest, self.key, self.line = leg, rest, key, line
        self.caller = caller
        """NOWHERE where that was told over a network that was lost in that moment."""

    def carry(self, mobile: Mobile, near: socket.socket, flow: Flow) -> MobileSession:
        """Carry it to an application's connection; `flow` is placed already."""
        session = MobileSession(mobile, near, self.key, self.line, flow, self.caller)
        session.relay.start(self.leg, self.rest)
        mobile.start(session)
        return session


class Listening:
    """One address of the proxy's. `begin`, then `call` as often as wanted, then `close`."""

    def __init__(self, mobile: Mobile, flow: Flow, expected: Address) -> None:
        """Prepare it; `flow` stands for it before policies, and is placed already.

        `expected`: who may call, or NOWHERE with the port where it wants to be called (0: any).
        """
        self._mobile, self._flow, self._expected = mobile, flow, expected
        self._opened: Opened | None = None
        self._line: Line | None = None
        self.address = NOWHERE
        """Where it is called, once it has begun."""

    @property
    def anybody(self) -> bool:
        """Say whether anybody may call: then it can be begun again at its port."""
        return self._expected.host in ("0.0.0.0", "::")

    async def begin(self) -> None:
        """Let the proxy listen. Raises Unreachable."""
        self._opened, self._line = await self._mobile.open(self._flow, Request(Command.BIND, self._expected))
        self.address = self._opened.reply.address
        if self.anybody:
            self._expected = Address(self._expected.host, self.address.port)

    async def call(self) -> Call:
        """Wait for the next call. Raises Unreachable."""
        while True:
            if self._opened is None:
                await self._begin_again()
            found = await self._wait()
            if found is None:
                found = await self._missed()
            if found is not None:
                return found

    def close(self) -> None:
        """Give it up."""
        if self._opened is not None:
            self._opened.sock.close()
            self._opened = None
        self._mobile.forget(self._flow)

    async def _begin_again(self) -> None:
        while True:
            try:
                return await self.begin()
            except Unreachable as error:
                if error.code not in (Code.NETWORK_UNREACHABLE, Code.FAILURE):
                    raise
            await self._mobile.something_new(PAUSE)

    async def _wait(self) -> Call | None:
        """Wait for a call on the connection that there is; None: it is of no use any more."""
        opened, line = self._opened, self._line
        assert opened is not None
        assert line is not None
        answer = asyncio.ensure_future(next_reply(opened.sock, opened.machine))
        try:
            while not answer.done() and line.up and self._mobile.line_of(self._flow) in (line, None):
                news = asyncio.ensure_future(self._mobile.something_new(LOOK))
                await asyncio.wait({answer, news}, return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
            reply = answer.result().reply if answer.done() else None
        except (OSError, RemoteProtocolError):
            reply = None
        finally:
            if not answer.done():
                answer.cancel()
                await asyncio.gather(answer, return_exceptions=True)
        if reply is None:
            opened.sock.close()
            return None
        self._opened = None
        if reply.code == Code.SUCCEEDED:
            return Call(opened.sock, opened.machine.rest, key_of(opened), line, reply.address)
        opened.sock.close()
        if not self.anybody or reply.code != Code.TTL_EXPIRED:
            raise Unreachable(reply.code)
        return None

    async def _missed(self) -> Call | None:
        """Ask whether there was a call that we have not heard of."""
        opened, self._opened = self._opened, None
        if opened is None:
            return None
        key = key_of(opened)
        while True:
            line = self._mobile.line_of(self._flow)
            if line is not None:
                with contextlib.suppress(OSError, TimeoutError, RemoteProtocolError), self._mobile.using(line):
                    async with asyncio.timeout(REJOIN_TIMEOUT):
                        return await self._ask(line, key)
            await self._mobile.something_new(PAUSE)

    async def _ask(self, line: Line, key: Key) -> Call | None:
        leg = await dial(line.network, self._mobile.proxy)
        try:
            answer = await rejoin(leg, key, 0, self._mobile.challenge())
        except BaseException:
            leg.close()
            raise
        if answer.resumed.status == Status.RESUMED:
            return Call(leg, b"", key, line, NOWHERE)
        leg.close()
        return None
