"""What an application asks of the local entrance, in whichever protocol it speaks (the first byte tells)."""

import asyncio
import socket
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from sojourn.errors import RemoteProtocolError
from sojourn.msocks import http, socks5
from sojourn.msocks.server import Asked, Event, Login, Refused, Say, ServerDialogue
from sojourn.msocks.socks5 import NOWHERE, Address, Code, Command, Reply

COMMANDS: Final = (Command.CONNECT, Command.BIND, Command.UDP_ASSOCIATE)
_STATUS: Final = {Code.NOT_ALLOWED: (403, "Forbidden"), Code.HOST_UNREACHABLE: (504, "Gateway Timeout")}


class NotServed(RemoteProtocolError):
    """It was told so already, and the connection is to be closed; `reason` is what is counted."""


class Wanted:
    """What an application has asked for, and how it is answered."""

    def __init__(
        self, command: int, to: Address, name: str, *, first: bytes, socks: ServerDialogue | None, tunnel: bool
    ) -> None:
        self.command, self.to, self.name, self.first = command, to, name, first
        self._socks, self._tunnel = socks, tunnel

    def opened(self, where: Address = NOWHERE, *, last: bool = True) -> bytes:
        """Return what tells the application that it may go on. Not `last`: another answer will follow (BIND)."""
        if self._socks is not None:
            answer = self._socks.reply(Reply(Code.SUCCEEDED, where), last=last)
            self.first = self._socks.rest
            return answer
        return http.ESTABLISHED if self._tunnel else b""

    def failed(self, code: int) -> bytes:
        """Return what tells it that it may not."""
        code = Code.HOST_UNREACHABLE if code == Code.NO_SUCH_NAME else code
        if self._socks is not None:
            return self._socks.reply(Reply(code))
        return http.failure(*_STATUS.get(code, (502, "Bad Gateway")))  # type: ignore[call-overload]


async def understand(sock: socket.socket, nobody: X25519PrivateKey) -> Wanted | None:
    """Read what an application asks for; None: it went before it had asked. Raises RemoteProtocolError, OSError."""
    data = await asyncio.get_running_loop().sock_recv(sock, 2048)
    if not data:
        return None
    if data[0] == socks5.VERSION:
        return await _socks(sock, data, nobody)
    if not data[:1].isalpha():
        raise NotServed("neither SOCKS5 nor HTTP", reason="version")
    return await _http(sock, data)


async def _socks(sock: socket.socket, data: bytes, nobody: X25519PrivateKey) -> Wanted | None:
    loop = asyncio.get_running_loop()
    dialogue = ServerDialogue(nobody, bytes(range(32)), (socks5.PASSWORD, socks5.NO_LOGIN))
    while data:
        events: list[Event] = dialogue.feed(data)
        while events:
            match events.pop(0):
                case Say(answer):
                    await loop.sock_sendall(sock, answer)
                case Login():  # whoever is on this machine may use it: the name is a name
                    events += dialogue.login(True)
                case Refused(reason, answer):
                    await loop.sock_sendall(sock, answer)
                    raise NotServed("a client of the entrance was sent away", reason=reason)
                case Asked(request) if request.command in COMMANDS:
                    name, first = dialogue.user, dialogue.rest
                    return Wanted(request.command, request.address, name, first=first, socks=dialogue, tunnel=True)
                case Asked():
                    await loop.sock_sendall(sock, dialogue.reply(Reply(Code.COMMAND_NOT_SUPPORTED)))
                    raise NotServed("a command that nobody knows", reason="command")
        data = await loop.sock_recv(sock, 2048)
    return None


async def _http(sock: socket.socket, data: bytes) -> Wanted | None:
    loop, head = asyncio.get_running_loop(), bytearray(data)
    try:
        while (taken := http.take_request(head)) is None:
            if not (data := await loop.sock_recv(sock, 2048)):
                return None
            head += data
    except RemoteProtocolError:
        await loop.sock_sendall(sock, http.failure(400, "Bad Request"))
        raise
    request, length = taken
    first = request.head + bytes(head[length:])
    tunnel = not request.head
    return Wanted(Command.CONNECT, request.address, request.user, first=first, socks=None, tunnel=tunnel)
