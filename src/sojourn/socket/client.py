"""A whole client of the proxy: configuration, policies, networks and sessions.

`sojourn socks` has one, and so has each program that uses `sojourn.socket` where no host daemon runs.
"""

import time

from sojourn.control.config import Credentials, HostConfig
from sojourn.control.decide_paths import Preferences
from sojourn.control.entries import DECISIONS, Entry
from sojourn.control.network_facts import NetworkBook
from sojourn.control.roaming_log import RoamingLog
from sojourn.control.steering import Steering
from sojourn.errors import ConfigError
from sojourn.linux.clock import local_time, now
from sojourn.linux.netlink import NetworkWatcher
from sojourn.linux.resolve import resolved
from sojourn.model import Endpoint
from sojourn.msocks.client import Account
from sojourn.policy.rules import Policy
from sojourn.socket.mobile import Mobile, Tasks
from sojourn.socket.policies import ClientPolicies
from sojourn.store.config_dir import ConfigDir
from sojourn.upmt.events_network import NetworkDown


class SocksClient:
    """See the module. Make it in a running event loop, then `start`."""

    def __init__(self, directory: ConfigDir, port: int, tasks: Tasks) -> None:
        """`port`: the anchor's SOCKS port. Raises ConfigError."""
        config = directory.host()
        self.anchor = config.anchor
        account = account_of(config, directory.read_credentials(), str(directory.credentials))
        self.policies = ClientPolicies(directory)
        self.policies.changed = self._policies_changed
        proxy = Endpoint(resolved(config.anchor, f"{directory.host_toml}: anchor")[0], port)
        names = {network.interface or name: name for name, network in config.networks.items()}
        self._watcher = NetworkWatcher(ignore={config.device, "lo"}, names=names)
        self._unused = {name for name, network in config.networks.items() if not network.use}
        self.networks = NetworkBook(config.networks)
        self.log = RoamingLog()
        self.steering = Steering(
            Preferences(self.policies.book.order), self.policies.book.policies,
            describe=self.networks.facts, local_time=local_time, note=self.note, questions=self.policies.questions,
        )  # fmt: skip
        self.mobile = Mobile(proxy, account, self.steering, tasks)
        self._tasks = tasks
        self.policies.note = self.note
        self.policies.say_what_is_left_out()

    def start(self) -> None:
        """Begin to watch networks and host.toml."""
        self._tasks.start(self._watch(), "networks")
        self._tasks.start(self.policies.watch(), "host.toml")

    def close(self) -> None:
        """End every session."""
        self.mobile.close()

    def note(self, entry: Entry) -> None:
        """Write a line into the roaming log."""
        known = self.steering.decide.facts(now()) if entry.event in DECISIONS else None
        self.log.add(
            time.time(), entry.event, network=entry.network, decision=entry.words(), reason=entry.reason,  # noqa: TID251
            gap_ms=entry.gap_ms, flows=entry.flows, known=known,
        )  # fmt: skip

    def _policies_changed(self, policies: tuple[Policy, ...], reason: str) -> None:
        self.note(Entry("policies", None, reason))
        self.mobile.replace_policies(policies)

    async def _watch(self) -> None:
        async with self._watcher as watcher:
            async for fact in watcher:
                if isinstance(fact, NetworkDown):
                    self.mobile.network_down(fact.name, fact.reason)
                elif (network := getattr(fact, "network", None)) is not None and network.name not in self._unused:
                    self.mobile.network_up(network)


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
