"""What a scenario's events act on: the lab, its daemons, and a record of when what was done to which network.

Every action takes effect before it returns. In a bare lab (no Sojourn) a planned move is a change of the default
route, and orders to daemons do nothing: that is what the same events do to ordinary flows.
"""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from sojourn.lab import namespaces, topology
from sojourn.lab.daemons import Daemons
from sojourn.lab.processes import now
from sojourn.lab.topology import Lab

UP, SILENT, GONE, LOSSY = "up", "silent", "gone", "lossy"
MAKE_WAY = 10.0
"""Seconds that a daemon which is replaced may take to end."""
HOST, ASLEEP = "host", "asleep"
"""The host's own condition stands among those of the networks."""


class Condition(Struct, frozen=True):
    """From when on a network was in what state."""

    at: float
    network: str
    state: str


def outages(conditions: Sequence[Condition], end: float) -> list[tuple[float, float]]:
    """Return the times in which nothing could have got through: no network at all, or the host asleep."""
    states: dict[str, str] = {}
    found: list[tuple[float, float]] = []
    since: float | None = None
    for condition in sorted(conditions, key=lambda it: it.at):
        states[condition.network] = condition.state
        networks = [state for name, state in states.items() if name != HOST]
        out = states.get(HOST) == ASLEEP or all(state in (GONE, SILENT) for state in networks)
        if out and since is None:
            since = condition.at
        elif not out and since is not None:
            found.append((since, condition.at))
            since = None
    return [*found, (since, end)] if since is not None else found


class Sample(Struct, frozen=True):
    """How many bytes each of the mobile host's access interfaces had carried, both ways, by a time."""

    at: float
    carried: dict[str, int]


class Stage:
    """The handle that events get."""

    def __init__(self, lab: Lab, daemons: Daemons | None) -> None:
        self.lab = lab
        self.daemons = daemons
        self.conditions: list[Condition] = []
        self.samples: list[Sample] = []
        self.watched_pid = os.getpid()
        """A process in the mobile host's namespace, whose /proc shows that namespace's interfaces."""
        for name in lab.links:
            self._is(name, UP)

    @property
    def networks(self) -> list[str]:
        """The access networks, in the host's order of preference."""
        return list(self.lab.links)

    def _is(self, network: str, state: str) -> None:
        self.conditions.append(Condition(now(), network, state))

    def sample(self) -> None:
        """Take a reading of the interfaces' counters."""
        text = Path(f"/proc/{self.watched_pid}/net/dev").read_text()
        carried = {}
        for line in text.splitlines()[2:]:
            name, _, numbers = line.partition(":")
            words = numbers.split()
            if name.strip() in self.lab.links:
                carried[name.strip()] = int(words[0]) + int(words[8])
        self.samples.append(Sample(now(), carried))

    def active(self) -> str:
        """Return the network that carried most since the last reading but two."""
        self.sample()
        before, after = self.samples[max(0, len(self.samples) - 3)].carried, self.samples[-1].carried
        return max(self.networks, key=lambda name: after.get(name, 0) - before.get(name, 0))

    def move(self, network: str) -> None:
        """Move all flows by order, while both networks work."""
        if self.daemons is not None:
            self.daemons.hand_over(network)
        else:
            link = self.lab.links[network]
            self.lab.run(
                topology.MOBILE_HOST, "ip", "route", "replace", "default", "via", link.gateway, "dev", network,
                "metric", "50",
            )  # fmt: skip

    def move_away(self) -> str:
        """Move all flows to a network that does not carry them now; return its name."""
        active = self.active()
        target = next(name for name in self.networks if name != active)
        self.move(target)
        return target

    def pull(self, network: str) -> None:
        """Take the carrier away."""
        self.lab.links[network].set_carrier(False)
        self._is(network, GONE)

    def plug(self, network: str) -> None:
        """Give the carrier back."""
        self.lab.links[network].set_carrier(True)
        self._is(network, UP)

    def silence(self, network: str) -> None:
        """Drop everything, tell nobody."""
        self.lab.links[network].set_silent(True)
        self._is(network, SILENT)

    def heal(self, network: str) -> None:
        """End silence and loss."""
        link = self.lab.links[network]
        link.set_silent(False)
        link.set_loss(0.0)
        self._is(network, UP)

    def lose(self, network: str, share: float) -> None:
        """Lose this share of packets in each direction."""
        self.lab.links[network].set_loss(share)
        self._is(network, LOSSY)

    def leave(self, *networks: str) -> None:
        """Let networks go away altogether: carrier, address, routes."""
        for network in networks or self.networks:
            self.lab.links[network].leave()
            self._is(network, GONE)

    def arrive(self, *networks: str) -> None:
        """Let networks come (again)."""
        for network in networks or self.networks:
            self.lab.links[network].arrive()
            self._is(network, UP)

    def readdress(self, network: str) -> str:
        """Give the host another address on a network; return it."""
        link = self.lab.links[network]
        head, _, last = link.address.rpartition(".")
        link.change_address(f"{head}.{int(last) % 200 + 20}")
        return link.address

    def regateway(self, network: str) -> str:
        """Replace a network's gateway; return its address."""
        link = self.lab.links[network]
        head, _, last = link.gateway.rpartition(".")
        link.change_gateway(f"{head}.{251 if last != '251' else 1}")
        return link.gateway

    def rebind(self, network: str, *, public: bool = False) -> None:
        """Give all of a NAT's mappings other ports, and another public address too if asked."""
        link = self.lab.links[network]
        link.rebind(public=f"{link.network.public.rpartition('.')[0]}.9" if public else None)

    def suspend(self) -> None:
        """Stop every process of the mobile host, as suspend does, and let the NATs forget it."""
        self._is(HOST, ASLEEP)
        namespaces.send_signal(self._host_processes(), signal.SIGSTOP)
        for link in self.lab.links.values():
            link.forget_mappings()

    def resume(self) -> None:
        """Let the mobile host's processes go on."""
        self._is(HOST, UP)
        namespaces.send_signal(self._host_processes(), signal.SIGCONT)

    def _host_processes(self) -> list[int]:
        return namespaces.pids(self.lab.namespace(topology.MOBILE_HOST))

    def kill_data_path(self, role: str) -> None:
        """Kill -9 the data-path process of the host or the anchor."""
        if self.daemons is not None:
            self.daemons.kill_data_path(role)

    def kill_anchor(self) -> None:
        """Kill -9 the anchor's control process."""
        if self.daemons is not None:
            self.daemons.kill_anchor()

    def restart_anchor(self, *options: str) -> None:
        """Start the anchor again, and wait until it is ready."""
        if self.daemons is not None:
            self.daemons.start_anchor(*options)

    def anchor_makes_way(self) -> None:
        """End the anchor as a service manager does before it starts another one (SIGUSR2)."""
        if self.daemons is not None and self.daemons.anchor is not None:
            self.daemons.anchor.signal(signal.SIGUSR2)
            self.daemons.anchor.wait(MAKE_WAY)

    def kill_host(self) -> None:
        """Kill -9 the host's control process."""
        if self.daemons is not None and self.daemons.host is not None:
            self.daemons.host.kill()

    def restart_host(self) -> None:
        """Start the host again, and wait until it is ready."""
        if self.daemons is not None:
            self.daemons.start_host()
