"""Two mobile hosts without an anchor, each with two networks behind NATs of their own, and rendezvous nodes.

        wifi 192.168.1.2 - nat 198.51.100.1 -+                       +- nat 198.51.100.3 - wifi 192.168.1.2
    a <                                       +- core - nodes         +                                      > b
        cell 10.64.0.2   - nat 198.51.100.2 -+   203.0.113.9 ...     +- nat 198.51.100.4 - cell 10.64.0.2

Both kinds of NAT: the Wi-Fi's of a and the cellular of b let in whatever comes for a mapped port (full cone); the
other two give each destination another port and let in nothing but its answers (symmetric).
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

from sojourn.api.client import Client
from sojourn.api.messages import ApiError
from sojourn.lab import namespaces
from sojourn.lab.namespaces import LabError

NODES: Final = ("203.0.113.9", "203.0.113.10", "203.0.113.11")
STORE: Final = ("203.0.113.9", 6379)
"""Where the nodes' redis-server is."""
OUTSIDE: Final = {
    ("a", "wifi"): "198.51.100.1", ("a", "cell"): "198.51.100.2",
    ("b", "wifi"): "198.51.100.3", ("b", "cell"): "198.51.100.4",
}  # fmt: skip
INSIDE: Final = {"wifi": "192.168.1", "cell": "10.64.0"}
EASY: Final = (("a", "wifi"), ("b", "cell"))
READY_TIMEOUT: Final = 30.0

_NAT = """\
table ip n {{
  chain out {{ type nat hook postrouting priority 100; oifname "out" masquerade{how}; }}
  chain in {{ type nat hook prerouting priority -100; {into} }}
}}
"""


class Roaming:
    """The namespaces and the daemons in them. As a context it leaves nothing."""

    def __init__(self, folder: Path, prefix: str) -> None:
        self.folder, self.prefix = folder, prefix
        self.processes: list[subprocess.Popen[str]] = []
        self.nodes: dict[str, subprocess.Popen[str]] = {}
        """Rendezvous nodes by address, where `start_nodes` has started them."""
        self.homes: dict[str, str] = {}
        self.roles = ["core", "node", "a", "b", *(f"nat-{host}-{net}" for host, net in OUTSIDE)]

    def __enter__(self) -> Self:
        try:
            self.build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def name(self, role: str) -> str:
        """Return the name of a role's namespace."""
        return f"{self.prefix}-{role}"

    # -- the small internet

    def build(self) -> None:
        """Make the namespaces, links and NATs."""
        for role in self.roles:
            namespaces.add(self.name(role))
        self._link("core", "node", "node", "core")
        namespaces.sysctl(self.name("core"), net__ipv4__ip_forward=1)
        namespaces.ip(self.name("core"), ["addr add 203.0.113.1/24 dev node"])
        namespaces.ip(self.name("node"), [
            *(f"addr add {node}/24 dev core" for node in NODES), "route add default via 203.0.113.1",
        ])  # fmt: skip
        for (host, net), outside in OUTSIDE.items():
            self._access(host, net, outside)
        for role in self.roles:
            namespaces.settle(self.name(role))

    def _access(self, host: str, net: str, outside: str) -> None:
        nat, inside = f"nat-{host}-{net}", INSIDE[net]
        at_core = nat[:15]
        self._link(host, nat, net, host)
        self._link(nat, "core", "out", at_core)
        namespaces.ip(self.name(nat), [
            f"addr add {inside}.1/24 dev {host}", f"addr add {outside}/32 dev out",
            "route add 10.9.9.9/32 dev out", "route add default via 10.9.9.9 dev out",
        ])  # fmt: skip
        namespaces.ip(
            self.name("core"), [f"addr add 10.9.9.9/32 dev {at_core}", f"route add {outside}/32 dev {at_core}"]
        )
        namespaces.sysctl(self.name(nat), net__ipv4__ip_forward=1)
        easy = (host, net) in EASY
        into = f'iifname "out" meta l4proto udp dnat to {inside}.2;' if easy else ""
        text = _NAT.format(how="" if easy else " fully-random", into=into)
        namespaces.run(self.name(nat), "nft", "-f", "-", stdin=text)

    def _link(self, one: str, other: str, at_one: str, at_other: str) -> None:
        namespaces.join(self.name(one), at_one, self.name(other), at_other)

    def carry(self, host: str, net: str) -> None:
        """Have the link of a network up, without an address: it is none yet, as Wi-Fi before DHCP.

        The kernel lets a link's other end send up to a second after the carrier came (linkwatch), and what is lost of
        ARP meanwhile is asked again after another one.
        """
        namespaces.ip(self.name(host), [f"link set dev {net} up"])
        for role in (host, f"nat-{host}-{net}"):
            namespaces.settle(self.name(role))

    def attach(self, host: str, net: str) -> None:
        """Give a host an address in one of its networks."""
        self.carry(host, net)
        inside, metric = INSIDE[net], 100 if net == "wifi" else 200
        namespaces.ip(self.name(host), [
            f"addr add {inside}.2/24 dev {net}",
            f"route add default via {inside}.1 dev {net} metric {metric}",
        ])  # fmt: skip

    def detach(self, host: str, net: str) -> None:
        """Take a host's network away: address, routes and carrier."""
        namespaces.ip(self.name(host), [f"addr flush dev {net}", f"link set dev {net} down"])

    # -- daemons

    def start(self, role: str, noun: str, *options: str, name: str = "") -> subprocess.Popen[str]:
        """Run a daemon and wait until it is ready."""
        log = self.folder / f"{name or role}-{noun}.log"
        argv = [sys.executable, "-m", "sojourn", noun, *options]
        with log.open("w") as said:
            process = subprocess.Popen(
                namespaces.entering(self.name(role), argv), stderr=said, stdout=said, text=True, cwd=self.folder
            )
        self.processes.append(process)
        until(lambda: "ready" in log.read_text() or process.poll() is not None, READY_TIMEOUT, f"{noun} is ready")
        if process.poll() is not None:
            raise LabError(f"sojourn {noun} ended: {log.read_text()[-600:]}")
        return process

    def start_node(self, address: str = NODES[0]) -> subprocess.Popen[str]:
        """Start a rendezvous node."""
        return self.start("node", "rendezvous", "--listen", address, "--socket", self.socket(address), name=address)

    def start_nodes(self) -> bool:
        """Start a node at each of `NODES`; say whether they share their triggers: where a redis-server is installed."""
        shared = shutil.which("redis-server") is not None
        if shared:
            self._start_store()
        for address in NODES:
            folder = self.folder / f"node-{address}"
            folder.mkdir()
            store = f'store = ["redis://{STORE[0]}:{STORE[1]}"]\n' if shared else ""
            (folder / "rendezvous.toml").write_text(f'listen = ["{address}"]\n{store}')
            options = ("--config-dir", str(folder), "--socket", self.socket(address))
            self.nodes[address] = self.start("node", "rendezvous", *options, name=address)
        return shared

    def _start_store(self) -> None:
        words = ["--bind", STORE[0], "--port", str(STORE[1]), "--save", "", "--appendonly", "no"]
        argv = namespaces.entering(self.name("node"), ["redis-server", *words, "--protected-mode", "no"])
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, text=True, cwd=self.folder)
        self.processes.insert(0, process)  # ended last: the nodes speak to it

        def listens() -> bool:
            return f":{STORE[1]}" in namespaces.run(self.name("node"), "ss", "-Hltn")

        until(listens, READY_TIMEOUT, "redis-server listens")

    def kill_node(self, address: str) -> None:
        """Kill a node as a power failure would."""
        self.nodes[address].kill()
        self.nodes[address].wait()

    def configure(
        self, *hosts: str, nodes: tuple[str, ...] = NODES[:1], before: str = "", after: str = "", direct: bool = False
    ) -> None:
        """Make hosts each other's peers, as their owners would: by the line that `peers show` prints.

        `before`, `after`: further top-level keys and tables of each host.toml that is not there yet.
        """
        lines: dict[str, list[str]] = {}
        for host in hosts:
            directory = self.folder / host
            directory.mkdir(exist_ok=True)
            if not (directory / "host.toml").exists():
                head = f'name = "{host}"\norder = ["wifi", "cell", "*"]\n{before}\n[portal]\nurl = ""\n{after}\n'
                (directory / "host.toml").write_text(head)
            if "[rendezvous]" not in (text := (directory / "host.toml").read_text()):
                listed = ", ".join(f'"{node}"' for node in nodes)
                (directory / "host.toml").write_text(f"{text}\n[rendezvous]\nnodes = [{listed}]\n")
            shown = json.loads(command("peers", "show", "--config-dir", str(directory), "--json"))
            lines[host], self.homes[host] = shown["line"].split()[1:], shown["home"]
        for host in hosts:
            for other in set(hosts) - {host}:
                line = [*lines[other], "--direct"] if direct else lines[other]
                command(*line, "--config-dir", str(self.folder / host), "--socket", self.socket(host))

    def start_host(self, host: str) -> subprocess.Popen[str]:
        """Start `sojourn host`."""
        return self.start(host, "host", "--config-dir", str(self.folder / host), "--socket", self.socket(host))

    def socket(self, role: str) -> str:
        """Return the path of a daemon's control socket."""
        return str(self.folder / f"{role}.sock")

    def call(self, role: str, verb: str, **arguments: object) -> Any:  # noqa: ANN401 - what the daemon answers
        """Ask a daemon."""
        return Client(self.socket(role)).call(verb, **arguments)

    def works(self, host: str, net: str) -> bool:
        """Say whether a node answers a host over a network."""
        try:
            networks = self.call(host, "peers")["networks"]
        except ApiError:
            return False
        return net in networks and networks[net]["state"] == "works"

    def reachable_over(self, host: str, *nets: str) -> bool:
        """Say whether a host sends over one of these networks, and a node answers there."""
        return any(self.works(host, net) and self.call(host, "peers")["network"] == net for net in nets)

    def move(self, host: str, net: str) -> None:
        """Move by order, as `sojourn handover --all --to NET` does."""
        self.call(host, "handover", to=net, all=True)

    def inside(self, host: str, *argv: str, seconds: float = 20.0) -> "subprocess.CompletedProcess[str]":
        """Run a command on a host."""
        return subprocess.run(
            namespaces.entering(self.name(host), list(argv)), capture_output=True, text=True, timeout=seconds
        )

    def close(self) -> None:
        """End the daemons, the hosts first, and remove the namespaces."""
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        namespaces.delete([self.name(role) for role in self.roles])


def command(*words: str) -> str:
    """Run the command line here and return what it prints; LabError if it fails."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "sojourn", *words], capture_output=True, text=True, timeout=30, env=environment
    )
    if done.returncode:
        raise LabError(f"sojourn {' '.join(words[:3])} failed: {done.stderr.strip()}")
    return done.stdout


def until(true: Callable[[], bool], seconds: float, what: str = "it") -> None:
    """Wait for something; LabError if it does not happen."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise LabError(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)
