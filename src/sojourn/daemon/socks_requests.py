"""What a client may ask for, once it is known who it is: CONNECT, BIND, UDP ASSOCIATE, and our CONTROL."""

import asyncio
import os
import socket
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from sojourn.daemon.driver import now
from sojourn.daemon.socks_listeners import Caught, Listeners
from sojourn.daemon.socks_open import NotOpened
from sojourn.daemon.socks_udp import UdpRelay
from sojourn.errors import RemoteProtocolError
from sojourn.linux import tcp_state
from sojourn.linux.sip_transport import endpoint
from sojourn.linux.splice import mss_for
from sojourn.msocks.frames import SESSION_BYTES, End, Ping, Reconnect
from sojourn.msocks.server import Heard, Refused
from sojourn.msocks.socks5 import Address, Code, Command, Reply, Request

if TYPE_CHECKING:
    from sojourn.daemon.socks_proxy import SocksProxy, Stranger

BIND_TIMEOUT: Final = 300.0
"""Seconds that a listener waits for the one call that it is for."""
CONTROL_IDLE: Final = 150.0
"""Seconds without a heartbeat after which a control connection is over."""
PER_USER: Final = 256
"""Listeners, associations and control connections of one user at a time."""


class Requests:
    """Serves requests of one proxy's clients."""

    def __init__(self, proxy: "SocksProxy") -> None:
        self._proxy = proxy
        self.listeners = Listeners()
        self._extra: dict[str, int] = {}
        self._pending: dict[bytes, tuple[bytes, asyncio.Future[Caught], asyncio.Event]] = {}
        """Sessions that wait for their call: key, the call, and that they wait no more."""

    async def serve(self, stranger: "Stranger", request: Request) -> None:
        """Serve one request; the connection is the session's when it is served."""
        user = stranger.dialogue.user
        proxy = self._proxy
        try:
            if not proxy.sessions.table.room_for(user) or self._extra.get(user, 0) >= PER_USER:
                raise NotOpened(Code.NOT_ALLOWED, "limit")
            if request.command == Command.CONNECT:
                await self._connect(stranger, request.address)
                return
            serve = {
                Command.BIND: self._bind, Command.UDP_ASSOCIATE: self._associate, Command.CONTROL: self._control,
            }.get(request.command)  # type: ignore[call-overload]  # fmt: skip
            if serve is None or (request.command == Command.CONTROL) > stranger.dialogue.ours:
                raise NotOpened(Code.COMMAND_NOT_SUPPORTED, "command")
            self._extra[user] = self._extra.get(user, 0) + 1
            try:
                await serve(stranger, request.address)
            finally:
                self._extra[user] -= 1
                if not self._extra[user]:
                    del self._extra[user]
        except NotOpened as error:
            proxy.refused[error.reason] += 1
            unknown = error.reason == "name" and stranger.dialogue.ours
            code = Code.NO_SUCH_NAME if unknown else error.code
            await _send(stranger, stranger.dialogue.reply(Reply(code)))

    async def _connect(self, stranger: "Stranger", to: Address) -> None:
        mss = mss_for(stranger.sock) if self._proxy.sessions.splices is not None else None
        near = await self._proxy.opener.connect(stranger.dialogue.user, to, mss)
        self._begin(stranger, near, near.getsockname())
        self._proxy.served["connect"] += 1

    def _begin(
        self, stranger: "Stranger", near: socket.socket, bound: tuple[str, int], session_id: bytes | None = None
    ) -> None:
        """Hand a client and what was opened for it to a session; `session_id`: the name that it knows already."""
        dialogue = stranger.dialogue
        try:
            session = self._proxy.sessions.make(stranger, near, dialogue.key, session_id)
        except OSError as error:
            near.close()
            raise NotOpened(Code.FAILURE, "resources") from error
        place = endpoint(bound)
        id = session.entry.id if dialogue.key else bytes(SESSION_BYTES)
        answer = dialogue.reply(Reply(Code.SUCCEEDED, Address(place.address, place.port)), id)
        stranger.handed_over = True
        try:
            self._proxy.sessions.begin(session, stranger.sock, answer, dialogue.rest)
        except OSError:
            stranger.sock.close()
            session.close()

    async def _bind(self, stranger: "Stranger", expected: Address) -> None:
        """Listen for one call, and carry it; the client hears where we listen, and then who called.

        A client of our method is told its session beforehand: when it moves in the moment of the call it can ask.
        """
        dialogue = stranger.dialogue
        local = endpoint(stranger.sock.getsockname()).address
        id = os.urandom(SESSION_BYTES)
        if dialogue.ours and expected.host in ("0.0.0.0", "::"):
            listener = self.listeners.join(dialogue.user, local, expected.port)
            try:
                near, caller = await self._called(stranger, id, listener.sock, listener.wait())
            finally:
                self.listeners.leave(listener)
            callers: frozenset[str] = frozenset()
        else:
            listening, callers = await self._proxy.opener.listen(dialogue.user, expected, local)
            with listening:
                calling = asyncio.get_running_loop().sock_accept(listening)
                near, caller = await self._called(stranger, id, listening, asyncio.ensure_future(calling))
        source = endpoint(caller)
        if callers and source.address not in callers:
            near.close()
            raise NotOpened(Code.NOT_ALLOWED, "caller")
        tcp_state.prepare(near, idle_s=300)
        self._begin(stranger, near, caller, id)
        self._proxy.served["bind"] += 1

    async def _called(
        self, stranger: "Stranger", id: bytes, listening: socket.socket, call: "asyncio.Future[Caught]"
    ) -> Caught:
        """Say where we listen, and wait for the call. OSError when the client goes away first."""
        place, dialogue = endpoint(listening.getsockname()), stranger.dialogue
        reply = Reply(Code.SUCCEEDED, Address(place.address, place.port))
        over = asyncio.Event()
        self._pending[id] = (dialogue.key, call, over)
        try:
            await _send(stranger, dialogue.reply(reply, id, last=False))
            async with asyncio.timeout(BIND_TIMEOUT):
                return await _first(call, _gone(stranger))
        except TimeoutError as error:
            raise NotOpened(Code.TTL_EXPIRED, "nobody called") from error
        finally:
            call.cancel()
            del self._pending[id]
            over.set()

    async def not_called(self, asked: Reconnect, proof: bytes) -> bool:
        """Let a client that asks for a session that no call has begun wait no more: it will listen anew.

        Return whether that was too late: a call had been taken for it, and its session has begun when this returns.
        """
        key, call, over = self._pending.get(asked.session, (b"", None, None))
        if call is None or over is None or not key or not asked.proved(key, proof) or call.cancel():
            return False
        await over.wait()
        return True

    async def _associate(self, stranger: "Stranger", _expected: Address) -> None:
        """Relay datagrams for as long as the connection stands."""
        local = endpoint(stranger.sock.getsockname()).address
        try:
            relay = UdpRelay(self._proxy.opener, stranger.dialogue.user, local, stranger.source)
        except OSError as error:
            raise NotOpened(Code.FAILURE, "resources") from error
        self._proxy.served["udp"] += 1
        try:
            await _send(stranger, stranger.dialogue.reply(Reply(Code.SUCCEEDED, relay.address)))
            await _gone(stranger)
        finally:
            self._proxy.refused["datagram"] += relay.refused
            relay.close()

    async def _control(self, stranger: "Stranger", _address: Address) -> None:
        """Answer heartbeats, and end sessions that a client is done with."""
        dialogue, loop = stranger.dialogue, asyncio.get_running_loop()
        self._proxy.served["control"] += 1
        await _send(stranger, dialogue.reply(Reply(Code.SUCCEEDED)))
        events = dialogue.feed(b"")
        while True:
            for event in events:
                match event:
                    case Heard(Ping(number, b"")):
                        pong = Ping(number, self._proxy.challenges.make(now()))
                        await _send(stranger, dialogue.record(pong))
                    case Heard(End(session)):
                        self._proxy.sessions.end(session, dialogue.user)
                    case Refused(reason):
                        raise RemoteProtocolError("nonsense on a control connection", reason=reason)
            async with asyncio.timeout(CONTROL_IDLE):
                data = await loop.sock_recv(stranger.sock, 4096)
            if not data:
                return
            events = dialogue.feed(data)


async def _send(stranger: "Stranger", data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(stranger.sock, data)


async def _gone(stranger: "Stranger") -> None:
    """Return when the client has closed its connection; what it says meanwhile is nothing that we asked for."""
    while await asyncio.get_running_loop().sock_recv(stranger.sock, 4096):
        pass


async def _first(calling: "asyncio.Future[Caught]", gone: Coroutine[Any, Any, None]) -> Caught:
    """Wait for a call, unless the client goes away first (OSError). A call that is there is taken in any case."""
    going = asyncio.ensure_future(gone)
    try:
        await asyncio.wait((calling, going), return_when=asyncio.FIRST_COMPLETED)
        if not calling.done() or calling.cancelled():
            raise ConnectionError("the client has gone")
        return calling.result()
    finally:
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)
