"""A proxy and the client's whole half in one process: their two networks are addresses of the loopback."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from sojourn.control.decide_paths import Preferences
from sojourn.control.socks_access import Access
from sojourn.control.socks_config import SocksConfig
from sojourn.control.steering import Steering, named
from sojourn.daemon.socks_proxy import SocksProxy
from sojourn.linux.keeper import raise_descriptors
from sojourn.model import Endpoint, Network
from sojourn.msocks.client import Account
from sojourn.msocks.socks5 import Address
from sojourn.policy.rules import Policy
from sojourn.socket.mobile import Mobile, connected, flow_to, key_of
from sojourn.socket.session import MobileSession
from sojourn.upmt.records import Subscriber

NETWORKS = [Network(f"net{number}", "lo", f"127.0.0.{number}") for number in (2, 3)]
SECRET = os.urandom(32)


class OneUser:
    """The proxy's only one."""

    def __init__(self, static: bytes, secret: bytes = SECRET) -> None:
        self.known = Subscriber("ann", "ann", socks_secret=secret, socks_static=static)

    def find(self, user: str) -> Subscriber | None:
        return self.known if user == "ann" else None

    def bind(self, user: str, static: bytes) -> None:
        raise AssertionError("it is bound already")


class Beside:
    """Runs what a daemon would."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self.tasks.add(asyncio.ensure_future(work))


class Clients:
    """The client of a proxy on this machine, and its applications' connections."""

    def __init__(self, port: int, *policies: Policy) -> None:
        raise_descriptors()
        self.static, self.ours = X25519PrivateKey.generate(), X25519PrivateKey.generate()
        """The proxy's key and the client's."""
        account = Account("ann", SECRET, self.ours.private_bytes_raw(), self.static.public_key().public_bytes_raw())
        self.steering = Steering(Preferences(("net2", "net3")), policies)
        self.mobile = Mobile(Endpoint("127.0.0.1", port), account, self.steering, Beside())

    async def up(self, count: int = 2) -> None:
        for network in NETWORKS[:count]:
            self.mobile.network_up(network)
        await until(lambda: sum(line.up for line in self.mobile.lines.values()) == count)

    async def open(self, to: Address, name: str = "app") -> tuple[socket.socket, MobileSession]:
        outside, near = pair()
        flow = flow_to(Endpoint("127.0.0.1", near.getpeername()[1]), to)
        self.mobile.wanted(flow, to, named(name))
        try:
            opened, line = await connected(self.mobile, flow, to)
        except BaseException:
            near.close()
            outside.close()
            raise
        session = MobileSession(self.mobile, near, key_of(opened), line, flow, to)
        session.relay.start(opened.sock, opened.machine.rest)
        self.mobile.start(session)
        return outside, session


class Ground(Clients):
    """The proxy, too."""

    def __init__(self, *policies: Policy, config: SocksConfig | None = None) -> None:
        config = config or SocksConfig(port=free_port(), allow=("127.0.0.0/8",))
        assert config.port is not None
        super().__init__(config.port, *policies)
        self.proxy = proxy_of(config, self.static, self.ours.public_key().public_bytes_raw())

    async def up(self, count: int = 2) -> None:
        self.proxy.start(("127.0.0.1",), None)
        self.serving = asyncio.ensure_future(self.proxy.run())
        await super().up(count)

    async def down(self) -> None:
        self.mobile.close()
        self.serving.cancel()
        await asyncio.gather(self.serving, return_exceptions=True)
        self.proxy.close(clean=True)


def proxy_of(config: SocksConfig, static: X25519PrivateKey, client: bytes, secret: bytes = SECRET) -> SocksProxy:
    return SocksProxy(config, static, OneUser(client, secret), Access(config, (), ()))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        one = socket.create_connection(listening.getsockname())
        other, _ = listening.accept()
    one.setblocking(False)
    other.setblocking(False)
    return one, other


async def until(is_so: Callable[[], object]) -> None:
    async with asyncio.timeout(20.0):
        while not is_so():  # noqa: ASYNC110 - what is waited for is another's state
            await asyncio.sleep(0.01)


def run(ground_of: Callable[[], Ground], work: Callable[[Ground], Awaitable[None]]) -> None:
    async def main() -> None:
        ground = ground_of()
        await ground.up()
        try:
            async with asyncio.timeout(40.0):
                await work(ground)
        finally:
            await ground.down()

    asyncio.run(main())
