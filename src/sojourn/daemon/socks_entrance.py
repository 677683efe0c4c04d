"""`sojourn socks`: a SOCKS5 and HTTP proxy on this machine whose connections survive changes of network. No root.

    application ── SOCKS5, or HTTP CONNECT and absolute URIs (told by the first byte) ── MobileSession ── proxy
                                                              └ a host daemon runs here: its tunnels carry them

The user name of either names the application. Only CONNECT: what is opened is TCP that moves.
"""

import asyncio
import logging
import socket
import sys
from typing import Any, Final

import structlog
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from sojourn.api.server import Arguments, Peer, Server
from sojourn.control.config import Credentials, HostConfig
from sojourn.control.metrics_config import MetricsConfig
from sojourn.daemon.anchor_metrics import EntranceMeter
from sojourn.daemon.anchor_system import resolved
from sojourn.daemon.driver import Tasks
from sojourn.daemon.ending import Ending
from sojourn.daemon.metering import meter
from sojourn.daemon.socks_direct import Direct
from sojourn.daemon.socks_mobile import Mobile, Unreachable
from sojourn.errors import ConfigError, RemoteProtocolError
from sojourn.linux import keeper, tcp_state
from sojourn.linux.netlink import NetworkWatcher
from sojourn.model import Endpoint, Network
from sojourn.msocks import http, socks5
from sojourn.msocks.client import Account
from sojourn.msocks.server import Asked, Event, Login, Refused, Say, ServerDialogue
from sojourn.msocks.socks5 import Address, Code, Command, Reply
from sojourn.store.config_dir import ConfigDir
from sojourn.upmt.events_network import NetworkDown

HANDSHAKE: Final = 10.0
MAX_CLIENTS: Final = 4096
_STATUS: Final = {Code.NOT_ALLOWED: (403, "Forbidden"), Code.HOST_UNREACHABLE: (504, "Gateway Timeout")}


class Wanted:
    """What an application has asked for, and how it is answered."""

    def __init__(self, to: Address, name: str, *, first: bytes, socks: ServerDialogue | None, tunnel: bool) -> None:
        self.to, self.name, self.first = to, name, first
        self._socks, self._tunnel = socks, tunnel

    def opened(self) -> bytes:
        """Return what tells the application that it may go on."""
        if self._socks is not None:
            return self._socks.reply(Reply(Code.SUCCEEDED))
        return http.ESTABLISHED if self._tunnel else b""

    def failed(self, code: int) -> bytes:
        """Return what tells it that it may not."""
        if self._socks is not None:
            return self._socks.reply(Reply(code))
        return http.failure(*_STATUS.get(code, (502, "Bad Gateway")))  # type: ignore[call-overload]


class Entrance:
    """One local proxy. `run` returns the exit code."""

    def __init__(self, directory: ConfigDir, listen: Endpoint, port: int, socket_path: str | None) -> None:
        config = directory.host()
        self._listen = listen
        self._anchor = config.anchor
        self._ending = Ending()
        self._tasks = Tasks(self._ending.fail)
        account = account_of(config, directory.read_credentials(), str(directory.credentials))
        proxy = Endpoint(resolved(config.anchor)[0], port)
        names = {network.interface or name: name for name, network in config.networks.items()}
        self._watcher = NetworkWatcher(ignore={config.device, "lo"}, names=names)
        self._unused = {name for name, network in config.networks.items() if not network.use}
        self.mobile = Mobile(proxy, account, lambda network: rank(config.order, network), self._tasks)
        self._direct = Direct()
        self._clients = 0
        self._nobody = X25519PrivateKey.generate()
        self._server = None if socket_path is None else Server(socket_path, {"role": "socks"})

    async def run(self) -> int:
        """Serve until told to end."""
        self._ending.listen()
        keeper.raise_descriptors()
        listening = _listen(self._listen)
        if self._server is not None:
            self._server.register("status", self._status)
            self._server.register("handover", self._handover)
            meter(self._server, self._tasks, MetricsConfig(), EntranceMeter(self.mobile))
            await self._server.start()
        try:
            self._tasks.start(self._watch(), "networks")
            self._tasks.start(self.mobile.settle(), "settle")
            self._tasks.start(self._accept(listening), "entrance")
            where = Address(*listening.getsockname()[:2])
            sys.stderr.write(f"sojourn socks: ready, SOCKS5 and HTTP proxy at {where}\n")
            await self._ending.wait()
        finally:
            listening.close()
            self.mobile.close()
            self._direct.close()
            await self._tasks.close()
            if self._server is not None:
                await self._server.close()
        if self._ending.failed is not None:
            raise self._ending.failed
        return 0

    async def _watch(self) -> None:
        async with self._watcher as watcher:
            async for fact in watcher:
                if isinstance(fact, NetworkDown):
                    self.mobile.network_down(fact.name)
                elif (network := getattr(fact, "network", None)) is not None and network.name not in self._unused:
                    self.mobile.network_up(network)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(listening)
            if self._clients >= MAX_CLIENTS:
                sock.close()
                continue
            self._clients += 1
            self._tasks.start(self._serve(sock), "client")

    async def _serve(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        handed_over = False
        try:
            tcp_state.prepare(sock)
            async with asyncio.timeout(HANDSHAKE):
                wanted = await self._understand(sock)
            if wanted is None:
                return
            if await self._direct.there():
                handed_over = await self._direct.serve(sock, wanted.to, wanted.first, wanted.opened, wanted.failed)
                return
            try:
                opened, line = await self.mobile.open(wanted.to, wanted.name)
            except Unreachable as error:
                await loop.sock_sendall(sock, wanted.failed(error.code))
                return
            await loop.sock_sendall(sock, wanted.opened())
            handed_over = True
            self.mobile.start(sock, opened, line, wanted.name, wanted.to, wanted.first)
        except (OSError, TimeoutError, RemoteProtocolError):
            return
        finally:
            self._clients -= 1
            if not handed_over:
                sock.close()

    async def _understand(self, sock: socket.socket) -> Wanted | None:
        """Read what the application asks for, in whichever protocol it speaks."""
        data = await asyncio.get_running_loop().sock_recv(sock, 2048)
        if not data:
            return None
        return await (self._socks(sock, data) if data[0] == socks5.VERSION else self._http(sock, data))

    async def _socks(self, sock: socket.socket, data: bytes) -> Wanted | None:
        loop = asyncio.get_running_loop()
        dialogue = ServerDialogue(self._nobody, bytes(range(32)), (socks5.PASSWORD, socks5.NO_LOGIN))
        while data:
            events: list[Event] = dialogue.feed(data)
            while events:
                match events.pop(0):
                    case Say(answer):
                        await loop.sock_sendall(sock, answer)
                    case Login():  # whoever is on this machine may use it: the name is a name
                        events += dialogue.login(True)
                    case Refused(_, answer):
                        await loop.sock_sendall(sock, answer)
                        return None
                    case Asked(request) if request.command == Command.CONNECT:
                        name = dialogue.user
                        return Wanted(request.address, name, first=dialogue.rest, socks=dialogue, tunnel=True)
                    case Asked():
                        await loop.sock_sendall(sock, dialogue.reply(Reply(Code.COMMAND_NOT_SUPPORTED)))
                        return None
            data = await loop.sock_recv(sock, 2048)
        return None

    async def _http(self, sock: socket.socket, data: bytes) -> Wanted | None:
        loop, head = asyncio.get_running_loop(), bytearray(data)
        try:
            while (taken := http.take_request(head)) is None:
                if not (data := await loop.sock_recv(sock, 2048)):
                    return None
                head += data
        except RemoteProtocolError:
            await loop.sock_sendall(sock, http.failure(400, "Bad Request"))
            return None
        request, length = taken
        first = request.head + bytes(head[length:])
        return Wanted(request.address, request.user, first=first, socks=None, tunnel=not request.head)

    async def _status(self, _arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        status = self.mobile.status()
        state = "associated" if any(network["state"] == "up" for network in status["networks"]) else "offline"
        return {"version": 1, "state": state, "anchor": self._anchor, "flows": len(status["sessions"]), **status}

    async def _handover(self, arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        return {"version": 1, "moved": self.mobile.move_all(str(arguments.get("to", "")))}


def account_of(config: HostConfig, credentials: Credentials, file: str) -> Account:
    """Return who we are to the proxy. Raises ConfigError."""
    if not credentials.socks_secret or not credentials.socks_key:
        fix = "Ask for another token (`sojourn anchor token --name NAME`) and join with it."
        raise ConfigError(file, "has no key for the SOCKS proxy: this computer joined before there was one", fix)
    return Account(
        config.user,
        bytes.fromhex(credentials.socks_secret),
        bytes.fromhex(credentials.socks_static),
        bytes.fromhex(credentials.socks_key),
    )


def rank(order: tuple[str, ...], network: Network) -> int:
    """Return the place of a network in host.toml's `order`: by name, by kind, or as every other one."""
    words = [network.name, network.kind, "*"]
    return min((order.index(word) for word in words if word in order), default=len(order))


def _listen(where: Endpoint) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in where.address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((where.address, where.port))
        sock.listen(256)
    except OSError as error:
        sock.close()
        why = f"{where.address} port {where.port} cannot be had ({error.strerror})"
        raise ConfigError("--listen", why, "`ss -lntp` shows who has it; or choose another one.") from error
    return sock


def run(config_dir: str, listen: Endpoint, port: int, socket_path: str | None) -> int:
    """Run the entrance in the foreground until it is told to end; return the exit code."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)

    async def main() -> int:
        return await Entrance(ConfigDir(config_dir), listen, port, socket_path).run()

    return asyncio.run(main())
