"""The SOCKS proxy as part of an anchor, and alone (`sojourn anchor --only socks`)."""

import asyncio
import hashlib
import logging
import signal
import sys
from collections.abc import Callable, MutableMapping
from typing import Any

import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from sojourn.api.server import Arguments, Peer, Server
from sojourn.control.config import AnchorConfig
from sojourn.control.socks_access import DISGUISED, Access
from sojourn.control.socks_config import SOCKS_PORT
from sojourn.daemon.anchor_metrics import ProxyMeter
from sojourn.daemon.anchor_system import REFUSED
from sojourn.daemon.driver import Tasks
from sojourn.daemon.ending import Ending
from sojourn.daemon.metering import meter
from sojourn.daemon.socks_proxy import SocksProxy
from sojourn.daemon.tenure import tenure
from sojourn.errors import ConfigError
from sojourn.linux import keeper
from sojourn.linux.failures import explained
from sojourn.linux.uplink import own_addresses
from sojourn.store.config_dir import ConfigDir, read
from sojourn.store.sqlite import SqliteStore
from sojourn.upmt.records import Subscriber

_log = structlog.get_logger(__name__)


class RecordedUsers:
    """The proxy's users as the anchor's records have them."""

    def __init__(self, known: MutableMapping[str, Subscriber], change: Callable[[Subscriber], None]) -> None:
        """`change` stores a record and lets whoever holds `known` put it there."""
        self._known = known
        self._change = change

    def find(self, user: str) -> Subscriber | None:
        """Return the record of a user who may use the proxy."""
        known = self._known.get(user)
        return known if known is not None and not known.revoked and known.socks_secret else None

    def bind(self, user: str, static: bytes) -> None:
        """Note the client key that this user came with first."""
        self._change(msgspec.structs.replace(self._known[user], socks_static=static))


async def start(directory: ConfigDir, config: AnchorConfig, users: RecordedUsers) -> SocksProxy:
    """Make the proxy and let it listen. Raises ConfigError."""
    text = read(directory.socks_key, "Restore it from a backup.", private=True).decode()
    static = X25519PrivateKey.from_private_bytes(bytes.fromhex(text))
    own = await own_addresses()
    pools = tuple(pool for pool in (config.pool, config.pool6) if pool is not None)
    access = Access(config.socks, (*REFUSED, *DISGUISED), own, config.allow)
    proxy = SocksProxy(config.socks, static, users, access, pools)
    try:
        line = await asyncio.to_thread(keeper.connect, directory.socks_holder)
    except OSError as error:
        _log.warning("SOCKS sessions will not survive a crash of this process", why=str(error))
        line = None
    proxy.splice(hashlib.sha256(str(directory.path).encode()).hexdigest()[:12])
    _log.info("SOCKS", **{key: proxy.status()[key] for key in ("mode", "why")})
    try:
        proxy.start(config.listen, line)
    except OSError as error:
        proxy.close(clean=False)
        where, fix = f"{directory.anchor_toml}: socks.port", "`ss -lntp` shows who has it; or choose another one."
        raise ConfigError(where, f"{config.socks.port} cannot be had ({error.strerror})", fix) from error
    return proxy


class SocksDaemon:
    """A proxy without an anchor: no device, no NAT, no root needed."""

    def __init__(self, directory: ConfigDir, socket_path: str) -> None:
        config = directory.anchor()
        port = config.socks.port or SOCKS_PORT
        self.config = msgspec.structs.replace(config, socks=msgspec.structs.replace(config.socks, port=port))
        self.directory = directory
        self.store = SqliteStore(str(directory.database))
        self.known = self.store.load().subscribers
        self.ending = Ending()
        self.proxy: SocksProxy | None = None
        self._tasks = Tasks(self.ending.fail)
        self._server = Server(socket_path, {"role": "anchor", "config_dir": str(directory.path)})
        self._server.register("status", self._status)

    async def run(self) -> int:
        """Work until told to end."""
        self.ending.listen()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        await self._server.start()
        try:
            self.proxy = await start(self.directory, self.config, RecordedUsers(self.known, self._change))
            self._tasks.start(self.proxy.run(), "SOCKS")
            meter(self._server, self._tasks, self.config.metrics, ProxyMeter(self.proxy))
            sys.stderr.write("sojourn anchor: ready (SOCKS only)\n")
            await self.ending.wait()
        finally:
            await self._tasks.close()
            if self.proxy is not None:
                self.proxy.close(clean=self.ending.clean)
            await self._server.close()
            self.store.close()
        if self.ending.failed is not None:
            raise self.ending.failed
        return 0

    def _change(self, subscriber: Subscriber) -> None:
        self.store.put(subscriber)
        self.known[subscriber.user] = subscriber

    def _reload(self) -> None:
        """Read the records again (SIGHUP): tokens made and revoked since."""
        found = self.store.load().subscribers
        self.known.clear()
        self.known.update(found)
        for subscriber in found.values():
            if subscriber.revoked and self.proxy is not None:
                self.proxy.sessions.end_all(subscriber.user)

    async def _status(self, _arguments: Arguments, _peer: Peer) -> dict[str, Any]:
        assert self.proxy is not None
        return {"version": 1, "state": "running", "address": self.config.address, "hosts": [], "flows": 0,
                "socks": self.proxy.status()}  # fmt: skip


def run(config_dir: str, socket_path: str, *, replace: bool = False) -> int:
    """Run the proxy alone in the foreground until it is told to end; return the exit code."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)

    async def main() -> int:
        return await SocksDaemon(ConfigDir(config_dir), socket_path).run()

    try:
        with tenure(ConfigDir(config_dir).path, "anchor", replace=replace):
            return asyncio.run(main())
    except OSError as error:
        raise explained(error) from error
