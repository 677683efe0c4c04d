"""`sojourn host`: the mobile host's machines wired to this kernel, and nothing else.

networks ───────┐                          ┌── data path (a process of its own)
SIP transport ──┼── HostControl (machine) ─┼── device, routes, DNS (host_system)
control socket ─┘                          └── roaming log, state file
"""

import asyncio
import contextlib
import logging
import sys
import time
from collections import deque

import structlog
from msgspec.structs import replace

from sojourn.api.server import Server
from sojourn.control.config import HostConfig
from sojourn.control.entries import DECISIONS
from sojourn.control.host_control import ControlCommand, ControlEvent, Entry
from sojourn.control.portals import ProbePortal
from sojourn.control.roaming_log import RoamingLog
from sojourn.daemon import host_machines
from sojourn.daemon.driver import Driver, SleepWatch, Tasks
from sojourn.daemon.ending import Ending
from sojourn.daemon.host_api import register
from sojourn.daemon.host_memory import HostMemory
from sojourn.daemon.host_metrics import register as register_metrics
from sojourn.daemon.host_networks import HostNetworks
from sojourn.daemon.host_owners import HostOwners
from sojourn.daemon.host_owners import register as register_owners
from sojourn.daemon.host_past import HostPast
from sojourn.daemon.host_past import register as register_past
from sojourn.daemon.host_peers import HostPeers
from sojourn.daemon.host_policies import HostPolicies
from sojourn.daemon.host_system import HostSystem
from sojourn.daemon.host_watch import HostWatch
from sojourn.daemon.host_watch import register as register_watch
from sojourn.daemon.inquiry import Inquiry
from sojourn.daemon.network_api import register as register_networks
from sojourn.daemon.policy_api import register as register_policies
from sojourn.daemon.policy_edit_api import register as register_policy_edits
from sojourn.daemon.tenure import tenure
from sojourn.daemon.undo import Undo
from sojourn.datapath.client import DataPathClient
from sojourn.errors import SojournError
from sojourn.linux.failures import explained
from sojourn.linux.sip_client import SipClient, sip_client
from sojourn.model import Endpoint
from sojourn.store.config_dir import ConfigDir
from sojourn.store.journal import Journal
from sojourn.upmt import events
from sojourn.upmt.association import (
    ChannelClosed,
    ChannelOpened,
    CredentialIssued,
    Leave,
    Left,
    SendSip,
    SipReceived,
)
from sojourn.upmt.commands import AnyCommand, CloseTunnel, MoveFlows, Report, Resumed, Role, RowState, SetRules, Setup
from sojourn.upmt.host_events import CloseChannel, HandoverWanted, LeaseGranted, OpenChannel, Remember
from sojourn.upmt.lease import Lease
from sojourn.upmt.policy_push import PushReceived

LEAVE_PATIENCE = 2.0
"""Seconds that a clean stop waits for the anchor to confirm the end of the association."""
REPORT_EVERY = 5.0

_log = structlog.get_logger(__name__)


class HostDaemon:
    """One mobile host. `run` returns the exit code."""

    def __init__(self, directory: ConfigDir, socket_path: str) -> None:
        self.directory = directory
        self.config: HostConfig = directory.host()
        self._memory = HostMemory(directory, with_anchor=bool(self.config.anchor))
        self.system = HostSystem(self.config)
        self.policies = HostPolicies(directory)
        self.peers = HostPeers(self)
        self.control = host_machines.make(
            self.config, self._memory, self.policies, lambda network: self.networks.facts(network)
        )
        self.driver: Driver[ControlEvent, ControlCommand] = Driver(self.control, self._execute)
        self.journal = Journal(directory.host_log)
        self.log = RoamingLog(self.journal.write)
        self.log.restore(self.journal.lines())
        self.measured: dict[int, events.TunnelMeasured] = {}
        self.inquiry = Inquiry(self.submit)
        self.data_path: DataPathClient | None = None
        self.ending = Ending()
        self._server = Server(socket_path, {"role": "host", "config_dir": str(directory.path)})
        self._tasks = Tasks(self.ending.fail)
        self.owners = HostOwners(self.config.device, self._tasks)
        self._channels: dict[int, SipClient] = {}
        self._held: deque[AnyCommand] | None = deque()
        """Orders for the data path that wait until the device is there; None once it is."""
        self._moves: list[asyncio.Future[events.FlowsMoved]] = []
        self._ordered = False
        """The data path was ordered to move flows since this was cleared."""
        self._left = asyncio.Event()
        self._sleep = SleepWatch(self._woke)
        self.undo = Undo()
        self.networks = HostNetworks(
            self.config, self.system.routing, self._tasks, self.driver.feed, directory.path / "host.usage",
            lambda: self._sleep.look(woken=True),
        )  # fmt: skip
        self._watch = HostWatch(self, self._tasks)
        self._past = HostPast(self, directory.path)

    @property
    def carries(self) -> bool:
        """Say whether there can be flows: with an association, or with peers."""
        return self.control.host.lease is not None or self.peers.identity is not None

    async def rows(self) -> tuple[RowState, ...]:
        """Return the data path's rows of now; none where there can be none. Raises TimeoutError."""
        return (await self.inquiry.snapshot()).rows if self.carries else ()

    # -- life

    async def run(self) -> int:
        """Work until told to end."""
        self.ending.listen()
        register(self._server, self)
        register_networks(self._server, self)
        register_policies(self._server, self)
        register_policy_edits(self._server, self)
        register_owners(self._server, self.owners)
        register_metrics(self._server, self, self._tasks)
        register_watch(self._server, self._watch)
        self.peers.register(self._server)
        register_past(self._server, self._past)
        await self._server.start()
        try:
            if await self.ending.unless_told(self._start_data_path()):
                sys.stderr.write("sojourn host: ready\n")
                if self.peers.identity is not None:
                    await self._set_up_home()
                else:
                    await self.peers.leave()
                self.networks.start()
                self.policies.start(
                    self._tasks, self.config, self.networks.book, self.control, self.driver.feed, self.note
                )
                self._tasks.start(self._sleep.run(), "sleep watch")
                self._tasks.start(self._report(), "report")
                self._past.start(self._tasks)
                await self.ending.wait()
                if self.ending.clean:
                    await self._leave()
        except BaseException as error:
            self.ending.fail(error)
            raise
        finally:
            await self._close()
        if self.ending.failed is not None:
            raise self.ending.failed
        return 0

    async def _start_data_path(self) -> None:
        self.data_path = await DataPathClient.start(
            self.directory.path / "host.datapath",
            emit=self._from_data_path,
            epochs=self.directory.host_epochs,
            log=_log,
            on_superseded=self._superseded,
        )
        await self.owners.start(self.data_path)
        self._tell_owners()

    def _superseded(self) -> None:
        """Another control has adopted our data path: end, and touch nothing that is now its own."""
        self.ending.fail(SojournError("another `sojourn host` has taken over here; this one ends"))

    async def _leave(self) -> None:
        """Give the Vipa back, if the anchor can be told."""
        if self.control.host.lease is None:
            return
        self.driver.feed(Leave())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._left.wait(), LEAVE_PATIENCE)

    async def _close(self) -> None:
        self.driver.close()
        await self._tasks.close()
        self.networks.close()
        self._past.close()
        for channel in list(self._channels.values()):
            channel.close()
        self.owners.close()
        clean = self.ending.clean
        if self.data_path is not None:
            await self.data_path.close(stop=clean)
        if clean:  # else the flows go on for a minute: whoever starts next adopts them (daemon/ending.py)
            await self.system.down()
        await self._server.close()

    # -- what happens

    async def _report(self) -> None:
        """Ask for measurements of idle tunnels, too: what `status` shows is never old."""
        while True:
            await asyncio.sleep(REPORT_EVERY)
            self.submit(Report())

    def _tell_owners(self) -> None:
        """Tell which rules are direct now: their flows are let by at connect, before a source address is chosen."""
        direct = self.control.decide.direct_rules()
        rules = tuple(row.rule for row in self.control.decide.rules) or direct
        self.owners.rules(rules, (rule.label for rule in direct))

    def _woke(self, slept: float) -> None:
        _log.info("woke up", slept_s=round(slept, 1))
        self.driver.feed(Resumed(slept))

    def _from_data_path(self, event: events.AnyEvent) -> None:
        self._past.see(event)
        match event:
            case events.State():
                self.inquiry.see(event)
            case events.Counters():
                self.inquiry.see(event)
                return
            case events.OriginUnknown():
                self.owners.unknown(event.origin)
                return
            case events.FlowsMoved() if self._moves:
                self._moves.pop(0).set_result(event)
            case events.TunnelMeasured():
                self.measured[event.tunnel] = event
                held = self.control.host.network_of(event.tunnel)
                if held is not None and self.data_path is not None:
                    self.networks.measured(held.network, event, self.data_path)
            case events.TunnelTested() | events.TunnelRecovered():
                self.networks.answered(event.tunnel)
        self.peers.see(event)
        self.driver.feed(event)
        self._watch.see(event)

    # -- what is ordered

    def _execute(self, command: ControlCommand) -> None:
        match command:
            case Entry():
                self.note(command)
            case OpenChannel():
                self._open_channel(command)
            case CloseChannel(channel):
                if (client := self._channels.pop(channel, None)) is not None:
                    client.close()
            case SendSip(channel, data):
                if (client := self._channels.get(channel)) is not None:
                    client.send(data)
            case CredentialIssued(secret):
                self._memory.issued(secret)
            case LeaseGranted(lease, changed):
                if changed:
                    self._held = deque() if self._held is None else self._held
                    self._tasks.start(self._set_up(lease), "set up")
            case Remember(state):
                self._memory.write_state(state)
            case Left(told):
                self._left.set()
                if not told:
                    after = "it keeps this host's address until the lease ends, and gives it back to it"
                    _log.warning("the anchor could not be told that this host leaves", therefore=after)
            case ProbePortal(network):
                self.networks.probe(network)
            case PushReceived(push):
                self.policies.pushed(push)
            case _:
                if isinstance(command, CloseTunnel):
                    self.networks.closed(command.tunnel)
                elif isinstance(command, SetRules):
                    self._tell_owners()
                self._ordered = self._ordered or isinstance(command, MoveFlows)
                self.submit(command)

    def note(self, entry: Entry) -> None:
        """Write a line down; a decision with what was known when it was made."""
        known = self.control.cause if entry.event in DECISIONS else None
        self.log.add(
            time.time(), entry.event, network=entry.network, decision=entry.words(), reason=entry.reason,  # noqa: TID251
            gap_ms=entry.gap_ms, flows=entry.flows, known=known,
        )  # fmt: skip
        self._watch.noted(entry)
        _log.info(entry.event, network=entry.network, reason=entry.reason, details=entry.details)

    def take_peers(self, config: HostConfig) -> None:
        """Go by the peers of another configuration from now on."""
        self.config = replace(self.config, peers=config.peers, rendezvous=config.rendezvous)

    async def hand_over(self, order: HandoverWanted) -> dict[str, int]:
        """Carry out the user's order; return how many rows here had which result."""
        moved: asyncio.Future[events.FlowsMoved] = asyncio.get_running_loop().create_future()
        self._moves.append(moved)
        self._ordered = False
        self.driver.feed(order)
        try:
            if not self._ordered:
                return {}
            event = await asyncio.wait_for(moved, 3.0)
        except TimeoutError:
            return {}
        finally:
            if moved in self._moves:
                self._moves.remove(moved)
        counts: dict[str, int] = {}
        for row in event.counts:
            for result, count in row.items():
                counts[str(result)] = counts.get(str(result), 0) + count
        return counts

    def submit(self, command: AnyCommand) -> None:
        """Order the data path; before it can take orders they wait."""
        if self._held is not None:
            self._held.append(command)
        elif self.data_path is not None:
            self.data_path.submit([command])

    async def _set_up_home(self) -> None:
        """Be there for peers, with or without a lease."""
        first = await self.peers.set_up()
        held, self._held = self._held or deque(), None
        if self.data_path is not None:
            self.data_path.submit([*first, *held])

    async def _set_up(self, lease: Lease) -> None:
        await self.system.up(lease)
        self.owners.device_up()
        if self.data_path is None or (self.control.host.lease is not lease and self._outdated(lease)):
            return
        setup = Setup(
            Role.HOST, self.config.device, lease.mtu, inner_addresses=lease.inner_addresses,
            plain=self.config.tunnels == "plain", zero_checksum6=self.config.zero_checksum6,
        )  # fmt: skip
        held, self._held = self._held or deque(), None
        self.data_path.submit([setup, *held])

    def _outdated(self, lease: Lease) -> bool:
        """Say whether another set-up is on its way; a refresh changes the secret only."""
        newest = self.control.host.lease
        return newest is None or (newest.vipa, newest.mtu) != (lease.vipa, lease.mtu)

    # -- the SIP channel

    def _open_channel(self, command: OpenChannel) -> None:
        channel = command.channel
        transport = self.config.signalling.transport

        def opened(local: Endpoint) -> None:
            self.driver.feed(ChannelOpened(channel, local, transport != "udp", transport.upper()))

        def closed(why: str) -> None:
            self._channels.pop(channel, None)
            self.driver.feed(ChannelClosed(channel, why))

        def received(data: bytes) -> None:
            self.driver.feed(SipReceived(channel, data))

        client = sip_client(
            transport,
            command.anchor,
            spki=bytes.fromhex(self.config.spki),
            source=command.address,
            interface=command.interface,
            on_open=opened,
            on_message=received,
            on_close=closed,
        )
        self._channels[channel] = client
        self._tasks.start(client.run(), f"channel {channel}")


def run(config_dir: str, socket_path: str, *, replace: bool = False) -> int:
    """Run a mobile host in the foreground until it is told to end; return the exit code.

    `replace`: take over from the one that runs in this directory, without a break.
    """
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)

    async def main() -> int:
        return await HostDaemon(ConfigDir(config_dir), socket_path).run()

    try:
        with tenure(ConfigDir(config_dir).path, "host", replace=replace):
            return asyncio.run(main())
    except OSError as error:
        raise explained(error) from error
