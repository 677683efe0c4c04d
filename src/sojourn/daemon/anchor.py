"""`sojourn anchor`: the anchor's machine wired to this kernel, and nothing else.

SIP over TLS (UDP and TCP where allowed) ──┐                     ┌── data path (a process of its own)
control socket, SIGHUP                   ──┼── Anchor (machine) ─┼── device, routes, NAT (anchor_system)
                                           │                     └── records (SQLite), log
"""

import asyncio
import errno
import logging
import os
import signal
import sys
import time
from collections.abc import Callable

import structlog

from sojourn.api.server import Server
from sojourn.control.config import REALM, AnchorConfig
from sojourn.control.roaming_log import RoamingLog
from sojourn.control.subscribers import algorithms
from sojourn.daemon import socks_anchor
from sojourn.daemon.anchor_api import register
from sojourn.daemon.anchor_keeping import Keeping
from sojourn.daemon.anchor_metrics import register as register_metrics
from sojourn.daemon.anchor_system import AnchorSystem
from sojourn.daemon.anchor_watch import AnchorWatch
from sojourn.daemon.anchor_watch import register as register_watch
from sojourn.daemon.driver import Driver, SleepWatch, Tasks, now
from sojourn.daemon.ending import Ending
from sojourn.daemon.inquiry import Inquiry
from sojourn.daemon.socks_proxy import SocksProxy
from sojourn.daemon.tenure import tenure
from sojourn.datapath.client import DataPathClient
from sojourn.errors import ConfigError, SojournError
from sojourn.linux import device
from sojourn.linux.failures import explained
from sojourn.linux.keeper import raise_descriptors
from sojourn.linux.sip_listener import SipListener
from sojourn.model import Endpoint
from sojourn.sip.digest_server import DigestServer
from sojourn.sip.registrar import Limits, Registrar
from sojourn.sip.server import Send
from sojourn.store import keys
from sojourn.store.config_dir import ConfigDir
from sojourn.store.journal import Journal
from sojourn.store.sqlite import SqliteStore
from sojourn.upmt import events
from sojourn.upmt.anchor import (
    Anchor,
    AnchorCommand,
    AnchorEvent,
    Associated,
    Keep,
    NotKept,
    SipArrived,
    SubscriberChanged,
    Trust,
)
from sojourn.upmt.commands import AnyCommand, Report, Resumed
from sojourn.upmt.leases import Leases, Terms
from sojourn.upmt.policy_push import PushSender
from sojourn.upmt.pushing_anchor import PushingAnchor
from sojourn.upmt.records import PortForward, Subscriber
from sojourn.upmt.vipa import VipaPool

REPORT_EVERY = 10.0

_log = structlog.get_logger(__name__)


class AnchorDaemon:
    """One anchor. `run` returns the exit code."""

    def __init__(self, directory: ConfigDir, socket_path: str) -> None:
        self.directory = directory
        self.config: AnchorConfig = directory.anchor()
        self.identity = keys.load(directory)
        self.store = SqliteStore(str(directory.database))
        records = self.store.load()
        self.forwards: dict[tuple[int, int], PortForward] = {(f.protocol, f.public_port): f for f in records.forwards}
        self.system = AnchorSystem(self.config)
        self.pool = VipaPool(self.config.pool, self.config.pool6)
        self.registrar = Registrar(DigestServer(REALM, os.urandom(32), algorithms(self.config)), _limits(self.config))
        self.machine = Anchor(
            self.registrar,
            Leases(self.pool, self._terms(), os.urandom, records.subscribers.values()),
            records.subscribers,
            os.urandom,
            time.time() - now(),  # noqa: TID251 - leases outlive this boot: their ends are dates
            plain=self.config.plain_tunnels,
        )
        self._pushing = PushingAnchor(self.machine, PushSender(self.config.address, os.urandom))
        self.driver: Driver[AnchorEvent, AnchorCommand] = Driver(self._pushing, self._execute)
        self.journal = Journal(directory.anchor_log)
        self.log = RoamingLog(self.journal.write)
        self.log.restore(self.journal.lines())
        self.inquiry = Inquiry(self.submit)
        self.data_path: DataPathClient | None = None
        self.ending = Ending()
        self._server = Server(socket_path, {"role": "anchor", "config_dir": str(directory.path)})
        self._tasks = Tasks(self.ending.fail)
        self._stood = False
        """A predecessor's device was there when we started: flows may depend on it."""
        self._ready = False
        self._watch = AnchorWatch(self, self._tasks)
        self._sip = SipListener(self._arrived, lambda _origin: None)
        self._kept = Keeping(
            self.store, self._send, lambda flush: asyncio.get_running_loop().call_soon(flush), self._when_done
        )
        self.socks: SocksProxy | None = None

    # -- life

    async def run(self) -> int:
        """Work until told to end."""
        self.ending.listen()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload_soon)
        register(self._server, self)
        register_metrics(self._server, self, self._tasks)
        register_watch(self._server, self._watch)
        await self._server.start()
        try:
            self._stood = device.exists(self.config.device)
            if await self.ending.unless_told(self._set_up()):
                self._ready = True
                sys.stderr.write("sojourn anchor: ready\n")
                self._tasks.start(SleepWatch(self._woke).run(), "sleep watch")
                self._tasks.start(self._report(), "report")
                await self.ending.wait()
        except BaseException as error:
            self.ending.fail(error)
            raise
        finally:
            await self._close()
        if self.ending.failed is not None:
            raise self.ending.failed
        return 0

    async def _set_up(self) -> None:
        # With its port forwards from the start: without them a caller would be refused meanwhile.
        self.system.forwards = self._forwards()
        await self.system.up()
        self.data_path = await DataPathClient.start(
            self.directory.path / "anchor.datapath",
            emit=self._from_data_path,
            epochs=self.directory.anchor_epochs,
            log=_log,
            on_superseded=self._superseded,
        )
        self.data_path.submit([self.system.setup()])
        for command in self.machine.start(self.data_path.epochs_void):
            self._execute(command)
        if self.data_path.adopted is not None:
            self.driver.feed(self.data_path.adopted)
        self.apply_forwards()
        self._offer()
        self._listen()
        self._tasks.start(self._sip.run(), "SIP")
        if self.config.socks.port is not None:
            users = socks_anchor.RecordedUsers(self.machine.subscribers, self.change)
            self.socks = await socks_anchor.start(self.directory, self.config, users)
            self._tasks.start(self.socks.run(), "SOCKS")

    def change(self, subscriber: Subscriber) -> None:
        """Replace a subscriber's record, in the store and in the machine."""
        self.store.put(subscriber)
        self.driver.feed(SubscriberChanged(subscriber))
        if subscriber.revoked and self.socks is not None:
            self.socks.sessions.end_all(subscriber.user)

    def end(self, subscriber: Subscriber) -> None:
        """End an association, by the administrator's order."""
        self.driver.feed(SubscriberChanged(subscriber, ended=True))
        unix = time.time()  # noqa: TID251 - a date for people
        self.log.add(unix, "ended", network=subscriber.name, decision=subscriber.vipa, reason="by the administrator")

    def _listen(self) -> None:
        """Bind the SIP ports. A family that this machine lacks is passed over, a port that is taken is not."""
        config, bound = self.config, 0
        for address in config.listen:
            try:
                self._sip.tls(address, config.sip_port, self.directory.anchor_certificate, self.directory.anchor_key)
                if config.sip_plain:
                    self._sip.tcp(address, config.sip_plain_port)
                    self._sip.udp(address, config.sip_plain_port)
                bound += 1
            except OSError as error:
                if error.errno == errno.EADDRINUSE or (not bound and address == config.listen[-1]):
                    where = f"{self.directory.anchor_toml}: listen"
                    why = f"{address} cannot be bound ({error.strerror})"
                    fix = "`ss -lntup` shows who has the port; or change `listen` or `sip_port`."
                    raise ConfigError(where, why, fix) from error
                _log.warning("not listening", address=address, why=error.strerror)

    def _superseded(self) -> None:
        """Another control has adopted our data path: end, and touch nothing that is now its own."""
        self.ending.fail(SojournError("another `sojourn anchor` has taken over here; this one ends"))

    async def _close(self) -> None:
        self.driver.close()
        self._kept.flush()
        await self._tasks.close()
        self._sip.close()
        stays = self._stays()
        if self.socks is not None:
            self.socks.close(clean=not stays)
        if self.data_path is not None:
            ours = self.data_path.adopted is None and not self._ready
            await self.data_path.close(stop=ours or not stays)
        if not stays:
            self._warn_of_flows()
            await self.system.down()
        await self._server.close()
        self.store.close()

    def _stays(self) -> bool:
        """Say whether what flows stand on is left for the next start: a successor's, or one after a failure.

        A start that failed leaves what it has found, and nothing of its own.
        """
        return self._stood if self.ending.failed is not None and not self._ready else not self.ending.clean

    def _warn_of_flows(self) -> None:
        unix = time.time()  # noqa: TID251 - leases end at a date
        known = self.machine.subscribers.values()
        there = sum(one.vipa is not None and (one.lease_until or 0.0) > unix for one in known)
        if there and self._ready:
            fix = "restart by SIGUSR2, `systemctl restart` or `sojourn anchor --replace`, which keep them"
            _log.warning("stopped: the flows of these hosts end here", hosts=there, to_keep_them=fix)

    def _reload_soon(self) -> None:
        self._tasks.start(self.reload(), "reload")

    async def reload(self) -> None:
        """Read anchor.toml again (SIGHUP). What cannot change while hosts are associated stays as it is."""
        try:
            config = self.directory.anchor()
        except ConfigError as error:
            _log.error("reload refused", error=str(error))
            return
        fixed = ("pool", "pool6", "device", "listen", "sip_port", "tunnel_port", "sip_plain", "sip_plain_port",
                 "metrics")  # fmt: skip
        kept = [name for name in fixed if getattr(config, name) != getattr(self.config, name)]
        if kept:
            _log.warning("these need a restart", keys=kept)
        self.config = self.system.config = config
        self.registrar.limits = _limits(config)
        self.machine.plain.allowed = config.plain_tunnels
        await self.system.look()
        if self.data_path is not None:
            self.data_path.submit([self.system.setup()])
        self.apply_forwards()
        self._offer()
        _log.info("reloaded")

    def _offer(self) -> None:
        """Offer the hosts what anchor.toml says (PolicyPush); those that are there are told at once."""
        for send in self._pushing.offer(self.config.offered, now()):
            self._execute(send)

    # -- what happens

    def _arrived(self, origin: int, source: Endpoint, transport: str, data: bytes) -> None:
        self._kept.begin()
        try:
            self.driver.feed(SipArrived(origin, source, transport, data))
        except ConfigError:  # told in `Keeping.keep`
            self.driver.feed(NotKept())

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_EVERY)
            self.submit(Report(tunnels=False))

    def _woke(self, slept: float) -> None:
        self.submit(Resumed(slept))

    def _from_data_path(self, event: events.AnyEvent) -> None:
        self.inquiry.see(event)
        self._watch.see(event)
        if not isinstance(event, events.Counters):
            self.driver.feed(event)

    # -- what is ordered

    def _execute(self, command: AnchorCommand) -> None:
        match command:
            case Send():
                self._kept.send(command)
            case Trust(origin, source):
                self._sip.trust(origin, source)
            case Keep():
                self._kept.keep(command)
                if command.lasting:  # else no lease has changed
                    self._forward_again()
            case Associated():
                self.log.add(
                    time.time(),  # noqa: TID251 - a date for people
                    command.what,
                    network=command.name,
                    decision=command.vipa,
                    reason=f"from {command.source.address}",
                )
                _log.info(command.what, host=command.name, vipa=command.vipa)
            case _:
                self.submit(command)

    def _forward_again(self) -> None:
        try:
            self.apply_forwards()
        except OSError as error:  # nft: no reason to turn hosts away
            _log.error("port forwards stay as they were", error=str(error))

    def _send(self, command: Send) -> None:
        assert isinstance(command.origin, int)
        self._sip.send(command.origin, command.destination, command.data)

    def submit(self, command: AnyCommand) -> None:
        """Order the data path."""
        if self.data_path is not None:
            self.data_path.submit([command])

    def _when_done(self, call: Callable[[], None]) -> None:
        if self.data_path is None or self.data_path.closed:
            call()
        else:
            self.data_path.when_done(call)

    def apply_forwards(self) -> None:
        """Make the NAT's port forwards fit the records, the configuration and the present leases."""
        self.system.forwards = self._forwards()
        self.system.apply()

    def _forwards(self) -> list[tuple[PortForward, str]]:
        wanted = {(f.protocol, f.public_port): f for f in self.config.forwards} | self.forwards
        owners = ((forward, self.machine.subscribers.get(forward.user)) for forward in wanted.values())
        return [(forward, owner.vipa) for forward, owner in owners if owner is not None and owner.vipa is not None]

    def _terms(self) -> Terms:
        config, pool = self.config, VipaPool(self.config.pool, self.config.pool6)
        inner = tuple(address for address in pool.anchor if address is not None)
        endpoints = tuple(Endpoint(address, config.tunnel_port) for address in self.system.outer_addresses())
        return Terms(endpoints, inner, self.system.resolver(), mtu=self.system.mtu)


def _limits(config: AnchorConfig) -> Limits:
    return Limits(config.expires.minimum, config.expires.default, config.expires.maximum)


def run(config_dir: str, socket_path: str, *, replace: bool = False) -> int:
    """Run an anchor in the foreground until it is told to end; return the exit code.

    `replace`: take over from the one that runs in this directory, without a break.
    """
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)

    raise_descriptors()  # each host has a connection of its own

    async def main() -> int:
        return await AnchorDaemon(ConfigDir(config_dir), socket_path).run()

    try:
        with tenure(ConfigDir(config_dir).path, "anchor", replace=replace):
            return asyncio.run(main())
    except OSError as error:
        raise explained(error) from error
