"""`sojourn socks`: a SOCKS5 and HTTP proxy on this machine whose connections survive changes of network. No root.

    application ── SOCKS5, or HTTP CONNECT and absolute URIs (told by the first byte) ── MobileSession ── proxy
                     │                                       └ a host daemon runs here: its tunnels carry them
                     ├── BIND ── Listening: one call, which moves like any other connection
                     └── UDP ASSOCIATE ── Datagrams

The user name of either names the application: policies decide by it.
"""

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections import Counter
from typing import Final, TypeVar

import structlog
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from sojourn.api.server import Server
from sojourn.control.metrics_config import MetricsConfig
from sojourn.control.steering import named
from sojourn.daemon import socks_api
from sojourn.daemon.anchor_metrics import EntranceMeter
from sojourn.daemon.driver import Tasks
from sojourn.daemon.ending import Ending
from sojourn.daemon.metering import meter
from sojourn.daemon.socks_direct import Direct
from sojourn.daemon.socks_udp import UdpRelay
from sojourn.daemon.socks_wanted import NotServed, Wanted, understand
from sojourn.errors import ConfigError, RemoteProtocolError
from sojourn.linux import keeper, tcp_state
from sojourn.linux.sip_transport import endpoint
from sojourn.model import Endpoint, Flow
from sojourn.msocks.socks5 import Address, Code, Command
from sojourn.socket.calls import Listening
from sojourn.socket.client import SocksClient
from sojourn.socket.datagrams import Datagrams
from sojourn.socket.mobile import Unreachable, connected, flow_to, key_of
from sojourn.socket.session import MobileSession
from sojourn.store.config_dir import ConfigDir

T = TypeVar("T")

HANDSHAKE: Final = 10.0
MAX_CLIENTS: Final = 4096
MAX_STRANGERS: Final = 512
"""Connections that have not asked for anything yet."""
ACCEPT_PAUSE: Final = 0.2


class Entrance:
    """One local proxy. `run` returns the exit code."""

    def __init__(
        self, directory: ConfigDir, listen: Endpoint, port: int, socket_path: str | None, host_socket: str
    ) -> None:
        self._listen = listen
        self._ending = Ending()
        self._tasks = Tasks(self._ending.fail)
        self.client = SocksClient(directory, port, self._tasks)
        self.mobile = self.client.mobile
        self.direct = Direct(host_socket)
        self.served: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        """What was refused or went wrong, by reason."""
        self.strangers = 0
        self._clients = 0
        self._nobody = X25519PrivateKey.generate()
        self._server = None if socket_path is None else Server(socket_path, {"role": "socks"})

    async def run(self) -> int:
        """Serve until told to end."""
        self._ending.listen()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.client.policies.reload)
        keeper.raise_descriptors()
        listening = _listen(self._listen)
        if self._server is not None:
            socks_api.register(self._server, self)
            meter(self._server, self._tasks, MetricsConfig(), EntranceMeter(self.mobile))
            await self._server.start()
        try:
            self.client.start()
            self._tasks.start(self._accept(listening), "entrance")
            where = Address(*listening.getsockname()[:2])
            sys.stderr.write(f"sojourn socks: ready, SOCKS5 and HTTP proxy at {where}\n")
            await self._ending.wait()
        finally:
            listening.close()
            self.client.close()
            self.direct.close()
            await self._tasks.close()
            if self._server is not None:
                await self._server.close()
        if self._ending.failed is not None:
            raise self._ending.failed
        return 0

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(listening)
            except OSError:
                self.refused["accept"] += 1
                await asyncio.sleep(ACCEPT_PAUSE)
                continue
            if self._clients >= MAX_CLIENTS or self.strangers >= MAX_STRANGERS:
                self.refused["crowded"] += 1
                sock.close()
                continue
            self._clients += 1
            self._tasks.start(self._serve(sock), "client")

    async def _serve(self, sock: socket.socket) -> None:
        handed_over = False
        try:
            tcp_state.prepare(sock)
            wanted = await self._understand(sock)
            if wanted is not None:
                handed_over = await self._carry(sock, wanted)
        except NotServed as error:
            self.refused[error.reason] += 1
        except RemoteProtocolError as error:
            self.refused[error.reason] += 1
        except TimeoutError:
            self.refused["timeout"] += 1
        except OSError:
            self.refused["broken"] += 1
        finally:
            self._clients -= 1
            if not handed_over:
                sock.close()

    async def _understand(self, sock: socket.socket) -> Wanted | None:
        self.strangers += 1
        try:
            async with asyncio.timeout(HANDSHAKE):
                return await understand(sock, self._nobody)
        finally:
            self.strangers -= 1

    async def _carry(self, sock: socket.socket, wanted: Wanted) -> bool:
        """Do what is wanted; say whether somebody else closes the connection now."""
        self.served[Command(wanted.command).name.lower()] += 1
        try:
            if await self.direct.there():
                return await self._directly(sock, wanted)
            flow = flow_to(endpoint(sock.getpeername()), wanted.to)
            if self.mobile.wanted(flow, wanted.to, named(wanted.name)) and wanted.command == Command.CONNECT:
                self.mobile.forget(flow)
                return await self._directly(sock, wanted)
            match wanted.command:
                case Command.BIND:
                    return await self._bind(sock, wanted, flow)
                case Command.UDP_ASSOCIATE:
                    await self._associate(sock, wanted, flow)
                    return False
                case _:
                    return await self._connect(sock, wanted, flow)
        except Unreachable as error:
            self.refused[Code(error.code).name.lower() if error.code in set(Code) else "proxy"] += 1
            await _send(sock, wanted.failed(error.code))
            return False

    async def _connect(self, sock: socket.socket, wanted: Wanted, flow: Flow) -> bool:
        opened, line = await connected(self.mobile, flow, wanted.to)
        try:
            await _send(sock, wanted.opened(opened.reply.address))
        except BaseException:
            opened.sock.close()
            self.mobile.forget(flow)
            raise
        session = MobileSession(self.mobile, sock, key_of(opened), line, flow, wanted.to)
        session.give(wanted.first)
        session.relay.start(opened.sock, opened.machine.rest)
        self.mobile.start(session)
        return True

    async def _bind(self, sock: socket.socket, wanted: Wanted, flow: Flow) -> bool:
        """Listen at the proxy for one call; the application hears where, and then who called."""
        listening = Listening(self.mobile, flow, wanted.to)
        try:
            await listening.begin()
            await _send(sock, wanted.opened(listening.address, last=False))
            call = await _unless_gone(sock, asyncio.ensure_future(listening.call()))
        except BaseException:
            listening.close()
            raise
        await _send(sock, wanted.opened(call.caller))
        session = call.carry(self.mobile, sock, flow)
        session.give(wanted.first)
        return True

    async def _associate(self, sock: socket.socket, wanted: Wanted, flow: Flow) -> None:
        """Pass datagrams for as long as the application's connection stands."""
        local, client = endpoint(sock.getsockname()).address, endpoint(sock.getpeername()).address
        association = Datagrams(self.mobile, flow, local, client)
        try:
            await _send(sock, wanted.opened(association.address))
            await _unless_gone(sock, asyncio.ensure_future(association.run()))
        finally:
            association.close()

    async def _directly(self, sock: socket.socket, wanted: Wanted) -> bool:
        """Open it plainly: somebody else keeps it alive, or a policy says so."""
        if wanted.command == Command.CONNECT:
            return await self.direct.serve(sock, wanted)
        if wanted.command == Command.BIND:  # whoever is reachable there listens there itself
            raise Unreachable(Code.COMMAND_NOT_SUPPORTED)
        local, client = endpoint(sock.getsockname()).address, endpoint(sock.getpeername()).address
        relay = UdpRelay(self.direct.opener, "", local, client)
        try:
            await _send(sock, wanted.opened(relay.address))
            with contextlib.suppress(ConnectionError):
                await _unless_gone(sock, asyncio.get_running_loop().create_future())
        finally:
            relay.close()
        return False


async def _send(sock: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, data)


async def _unless_gone(sock: socket.socket, work: "asyncio.Future[T]") -> T:
    """Return what comes of `work`, unless the application closes its connection first (ConnectionError)."""
    going = asyncio.ensure_future(asyncio.get_running_loop().sock_recv(sock, 1))
    try:
        await asyncio.wait((work, going), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ConnectionError("the application has gone")
        return work.result()
    finally:
        for task in (work, going):
            task.cancel()
        await asyncio.gather(work, going, return_exceptions=True)


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


def run(config_dir: str, listen: Endpoint, port: int, socket_path: str | None, host_socket: str) -> int:
    """Run the entrance in the foreground until it is told to end; return the exit code."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)

    async def main() -> int:
        return await Entrance(ConfigDir(config_dir), listen, port, socket_path, host_socket).run()

    return asyncio.run(main())
