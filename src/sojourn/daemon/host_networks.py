"""The networks of a mobile host: found, described, probed for portals and counted, each by an adapter of its own.

netlink ─────────────┐            ┌── HostControl (NetworkUp, NetworkUnderstood, PortalProbed...)
D-Bus, Wi-Fi table ──┼── the book ┤
data path's counters ┘            └── host.usage, `sojourn networks`
"""

import asyncio
import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import structlog
from msgspec.structs import replace

from sojourn.api.messages import ApiError, ErrorKind
from sojourn.control.config import HostConfig
from sojourn.control.host_control import ControlEvent
from sojourn.control.network_facts import NetworkBook, NetworkFacts
from sojourn.control.network_use import NetworkUse
from sojourn.control.portal_answer import Finding
from sojourn.control.portals import PortalProbed, ProbeWanted
from sojourn.control.usage import Usage, UsageState
from sojourn.daemon.driver import Tasks
from sojourn.daemon.put_aside import PutAside
from sojourn.datapath.client import DataPathClient
from sojourn.errors import ConfigError
from sojourn.linux import network_dns, portal, wireless
from sojourn.linux.described import DescriptionWatcher
from sojourn.linux.netlink import NetworkWatcher
from sojourn.linux.routes import HostRouting
from sojourn.model import Network, TunnelId
from sojourn.store import config_dir
from sojourn.upmt.events import TunnelMeasured
from sojourn.upmt.events_network import (
    AnyNetworkFact,
    NetworkChanged,
    NetworkDescribed,
    NetworkDown,
    NetworkUnderstood,
    NetworkUp,
)

FORGET_AFTER = 60.0
"""Seconds for which the routes and rules of a network that left are kept."""
SAVE_EVERY = 5.0
"""Seconds of counting that a power failure may cost."""
SIGNAL_EVERY = 5.0
PROBE_PATIENCE = 8.0

_log = structlog.get_logger(__name__)


class HostNetworks:
    """What the host knows of its networks. `feed` hands events to control."""

    def __init__(
        self,
        config: HostConfig,
        routing: HostRouting,
        tasks: Tasks,
        feed: Callable[[ControlEvent], None],
        usage_file: Path,
        on_wake: Callable[[], None],
    ) -> None:
        self.config = config
        self.book = NetworkBook(config.networks)
        self.present: dict[str, Network] = {}
        """The networks that are up, as the kernel has them."""
        self._routing = routing
        self._tasks = tasks
        self._feed = feed
        self._on_wake = on_wake
        self._usage_file = usage_file
        days = {name: network.cap_day for name, network in config.networks.items()}
        self._usage = Usage(_stored(usage_file), days)
        self._source: int | None = None
        """The data path (its process) that counts now."""
        self._counting: set[TunnelId] = set()
        """Tunnels that have answered since they were opened: what is told of others may be an old one's."""
        self._probes: dict[str, list[asyncio.Future[Finding]]] = {}
        self._forgetting: dict[str, asyncio.TimerHandle] = {}
        self._put_aside = PutAside(usage_file.with_name("host.excluded"))
        self._watcher: NetworkWatcher | None = None
        self._tidied = False
        """What a dead predecessor left of networks that are not there any more was removed."""

    def start(self) -> None:
        """Begin to watch."""
        self._count_used()
        self._tasks.start(self._watch(), "networks")
        self._tasks.start(DescriptionWatcher(self._described, self._sleeps).run(), "system bus")
        self._tasks.start(self._signals(), "Wi-Fi signal")
        self._tasks.start(self._save_often(), "usage")

    def close(self) -> None:
        """Write down what is not yet."""
        for handle in self._forgetting.values():
            handle.cancel()
        self._save()

    # -- what the kernel says

    async def _watch(self) -> None:
        names = {network.interface or name: name for name, network in self.config.networks.items()}
        ignored = {self.config.device, *(n.interface or m for m, n in self.config.networks.items() if not n.use)}
        async with NetworkWatcher(ignore=ignored, names=names) as watcher:
            self._watcher = watcher
            async for fact in watcher:
                await self._network(fact)

    async def _network(self, fact: AnyNetworkFact) -> None:
        """Prepare the kernel for a network before its tunnel is opened.

        The rules of one that left stay a while: most come back, and the first packet then waits for less.
        """
        if self._put_aside.hides(fact):
            return
        if isinstance(fact, NetworkDown):
            self._left(fact)
            return
        if (forgetting := self._forgetting.pop(fact.network.name, None)) is not None:
            forgetting.cancel()
        try:
            if not self._tidied and self._watcher is not None:
                await self._routing.set_networks(self._watcher.networks.values())
                self._tidied = True
            await self._routing.set_network(fact.network)
        except OSError as error:  # The address has just gone: a fact will tell.
            _log.warning("network not prepared", network=fact.network.name, why=str(error))
            return
        self.present[fact.network.name] = fact.network
        network = self.understood(fact.network)
        self._feed(NetworkUp(network) if isinstance(fact, NetworkUp) else NetworkChanged(network, fact.why))

    def _left(self, fact: NetworkDown) -> None:
        self.present.pop(fact.name, None)
        self._usage.closed(_counted_as(fact.name))
        self._feed(fact)

        def forget() -> None:
            self._forgetting.pop(fact.name, None)
            self._tasks.start(self._routing.drop_network(fact.name), f"forget {fact.name}")

        self._forgetting[fact.name] = asyncio.get_running_loop().call_later(FORGET_AFTER, forget)

    # -- what the user puts aside

    def aside(self) -> list[tuple[Network, NetworkUse]]:
        """Return the networks that are there, and not used by the user's will."""
        return self._put_aside.rows()

    def known_as(self, word: object) -> str:
        """Return the name of a network that is there, used or not, by name or label. Raises ApiError."""
        there = [*self.present.values(), *(network for network, _ in self.aside())]
        name = self.book.named(str(word), there)
        if name is None:
            names = ", ".join(network.name for network in there) or "none"
            raise ApiError(f"there is no network {str(word)[:64]!r} now", f"There are: {names}.", ErrorKind.USAGE)
        return name

    async def use(self, name: str, use: NetworkUse) -> NetworkUse:
        """Do with a network what the user wants from now on; return what it was before."""
        before = self._put_aside.use_of(name)
        if use is NetworkUse.ON:
            network = self._put_aside.take_back(name)
            if network is not None:
                await self._network(NetworkUp(network))
        else:
            network = self.present.get(name)
            if network is not None:
                self._left(NetworkDown(name, f"{use} by the user", wanted=True))
            self._put_aside.put(name, use, network)
        return before

    # -- what others say

    def understood(self, network: Network) -> Network:
        """Add what the owner and NetworkManager say of a network to what the kernel knows."""
        facts = self.book.facts(network)
        return replace(network, kind=facts.kind, metered=facts.metered)

    def facts(self, network: Network) -> NetworkFacts:
        """Return what rules look at."""
        return self.book.facts(network)

    def named(self, word: object) -> str | None:
        """Return the name of the network that a user means: its name, or a label that only one has."""
        return self.book.named(str(word), self.present.values())

    def known(self) -> frozenset[str]:
        """Return the words that mean a network: configured ones, those that are up, and their labels."""
        facts = [self.book.facts(network) for network in list(self.present.values())]
        words = {word for one in facts for word in (one.name, one.interface, one.label) if word}
        return frozenset(words | set(self.config.networks))

    def _described(self, fact: NetworkDescribed) -> None:
        if self.book.describe(fact.interface, fact.description):
            self._feed(fact)
            self._tell(fact.interface)

    def _tell(self, interface: str) -> None:
        """Let control know that more, or other things, are known of an interface's network."""
        for network in list(self.present.values()):
            if network.interface == interface:
                self._feed(NetworkUnderstood(self.understood(network)))

    async def _signals(self) -> None:
        """Read the Wi-Fi signal of interfaces that nobody on D-Bus describes."""
        while True:
            for interface, seen in wireless.read().items():
                known = self.book.description(interface)
                if known.ssid is None:
                    self._described(NetworkDescribed(interface, replace(known, signal=seen.signal)))
            await asyncio.sleep(SIGNAL_EVERY)

    def _sleeps(self, before: bool) -> None:
        if before:
            self._save()
        else:
            self._on_wake()

    # -- portals

    def probe(self, network: Network) -> None:
        """Ask over a network whether it is captive."""
        self._tasks.start(self._probe(network), f"portal of {network.name}")

    async def _probe(self, network: Network) -> None:
        finding = await portal.probe(network, self.config.portal, await self._servers(network))
        _log.debug("portal probed", network=network.name, found=str(finding.verdict), portal=finding.portal)
        self._feed(PortalProbed(network, finding))
        for waiting in self._probes.pop(network.name, []):
            if not waiting.done():
                waiting.set_result(finding)

    async def ask_portal(self, name: str) -> Finding | None:
        """Probe a network now and return what was found; None when no answer came in time."""
        waiting: asyncio.Future[Finding] = asyncio.get_running_loop().create_future()
        self._probes.setdefault(name, []).append(waiting)
        self._feed(ProbeWanted(name))
        try:
            return await asyncio.wait_for(waiting, PROBE_PATIENCE)
        except TimeoutError:
            return None

    async def resolve(self, name: str, network: Network) -> list[str]:
        """Return a name's addresses as this network's DNS servers know them. Raises OSError."""
        return await network_dns.resolve(name, network, await self._servers(network))

    async def _servers(self, network: Network) -> list[str]:
        return await network_dns.servers_of(network, self.book.description(network.interface).dns)

    # -- what the data path counts

    def answered(self, tunnel: TunnelId) -> None:
        """Note that a tunnel works: from now on its counters are those of the network that it runs over."""
        self._counting.add(tunnel)

    def closed(self, tunnel: TunnelId) -> None:
        """Note that a tunnel is closed."""
        self._counting.discard(tunnel)

    def measured(self, network: Network, event: TunnelMeasured, data_path: DataPathClient) -> None:
        """Count what a network's tunnel has carried."""
        process = data_path.pid
        if not process or event.tunnel not in self._counting:
            return
        if process != self._source:
            self._usage.source(process, adopted=self._source is None and data_path.adopted is not None)
            self._source = process
        before = self.facts(network).over_cap
        if self._usage.count(_counted_as(network.name), ":" in network.address, event, _today()):
            self._count_used()
            if self.facts(network).over_cap != before:
                _log.warning("data cap reached", network=network.name)
                self._tell(network.interface)

    def _count_used(self) -> None:
        self.book.used = self._usage.used(_today())

    async def _save_often(self) -> None:
        while True:
            await asyncio.sleep(SAVE_EVERY)
            if self._usage.changed:
                await asyncio.to_thread(_store, self._usage_file, self._usage.remembered())
            over = {name for name, network in self.present.items() if self.facts(network).over_cap}
            self._count_used()
            for name in over:  # a new month has begun
                if name in self.present and not self.facts(self.present[name]).over_cap:
                    self._tell(self.present[name].interface)

    def _save(self) -> None:
        if self._usage.changed:
            _store(self._usage_file, self._usage.remembered())

    # -- for people

    def row(self, network: Network) -> dict[str, Any]:
        """Return what `status` and `networks` say beyond the tunnel."""
        facts = self.facts(network)
        return {
            "label": facts.label,
            "kind": facts.kind,
            "metered": facts.metered,
            "signal": facts.signal,
            "security": next((word for word in facts.security if word != "trusted"), None),
            "trusted": "trusted" in facts.security,
            "technology": facts.technology,
            "operator": facts.operator,
            "roaming": facts.roaming,
            "used_bytes": facts.used,
            "cap_bytes": facts.cap,
            "over_cap": facts.over_cap,
        }


def _counted_as(name: str) -> str:
    """IPv6 of an interface counts as its network's."""
    return name.removesuffix("-6")


def _today() -> datetime.date:
    return datetime.date.today()


def _stored(file: Path) -> UsageState:
    try:
        return msgspec.json.decode(file.read_bytes(), type=UsageState)
    except (OSError, msgspec.DecodeError):
        return UsageState()


def _store(file: Path, state: UsageState) -> None:
    try:
        config_dir.write(file, msgspec.json.encode(state), private=True)
    except ConfigError as error:  # a full disk costs counting, never the daemon
        _log.warning("usage not written", why=str(error))
