"""Two mobile hosts without an anchor, each with two networks behind NATs of their own, and rendezvous nodes.

        wifi 192.168.1.2 - nat 198.51.100.1 -+                       +- nat 198.51.100.3 - wifi 192.168.1.2
    a <                                       +- core - node          +                                      > b
        cell 10.64.0.2   - nat 198.51.100.2 -+   203.0.113.9:1801    +- nat 198.51.100.4 - cell 10.64.0.2

Delay, one way, is on each host's links and applies in both directions.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sojourn.api.client import Client
from sojourn.api.messages import ApiError
from sojourn.lab import namespaces

NODE = "203.0.113.9"
OUTSIDE = {
    ("a", "wifi"): "198.51.100.1", ("a", "cell"): "198.51.100.2",
    ("b", "wifi"): "198.51.100.3", ("b", "cell"): "198.51.100.4",
}  # fmt: skip
INSIDE = {"wifi": "192.168.1", "cell": "10.64.0"}


class RoamLab:
    """The namespaces and the daemons in them. `close` leaves nothing."""

    def __init__(self, folder: Path, *, delay_ms: float = 0.0, nodes: int = 1) -> None:
        self.prefix = f"sjtrm{os.getpid() % 10000}-"
        self.folder = folder
        self.processes: list[subprocess.Popen[str]] = []
        self.homes: dict[str, str] = {}
        self._delay = delay_ms
        self.roles = ["core", "node", "a", "b", *(f"nat-{host}-{net}" for host, net in OUTSIDE)]

    def name(self, role: str) -> str:
        return self.prefix + role

    def build(self) -> None:
        """Make the namespaces, links, NATs and the node."""
        for role in self.roles:
            namespaces.add(self.name(role))
        self._link("core", "node", "node", "core")
        namespaces.sysctl(self.name("core"), net__ipv4__ip_forward=1)
        namespaces.ip(self.name("core"), ["addr add 203.0.113.1/24 dev node"])
        namespaces.ip(self.name("node"), [f"addr add {NODE}/24 dev core", "route add default via 203.0.113.1"])
        for (host, net), outside in OUTSIDE.items():
            nat, inside = f"nat-{host}-{net}", INSIDE[net]
            self._link(host, nat, net, host)
            self._link(nat, "core", "out", nat[:15])
            namespaces.ip(self.name(nat), [
                f"addr add {inside}.1/24 dev {host}", f"addr add {outside}/32 dev out",
                "route add 10.9.9.9/32 dev out", "route add default via 10.9.9.9 dev out",
            ])  # fmt: skip
            namespaces.ip(self.name("core"), [f"addr add 10.9.9.9/32 dev {nat[:15]}",
                                              f"route add {outside}/32 dev {nat[:15]}"])  # fmt: skip
            namespaces.sysctl(self.name(nat), net__ipv4__ip_forward=1)
            rule = 'table ip n { chain p { type nat hook postrouting priority 100; oifname "out" masquerade; }; }'
            namespaces.run(self.name(nat), "nft", "-f", "-", stdin=rule + "\n")
            if self._delay:
                for where, device in ((host, net), (nat, host)):
                    namespaces.run(self.name(where), "tc", "qdisc", "add", "dev", device, "root", "netem", "limit",
                                   "10000", "delay", f"{self._delay}ms")  # fmt: skip
        for role in self.roles:
            namespaces.settle(self.name(role))

    def _link(self, one: str, other: str, at_one: str, at_other: str) -> None:
        namespaces.execute(["ip", "link", "add", at_one, "netns", self.name(one), "type", "veth",
                            "peer", "name", at_other, "netns", self.name(other)])  # fmt: skip
        namespaces.ip(self.name(one), [f"link set dev {at_one} up"])
        namespaces.ip(self.name(other), [f"link set dev {at_other} up"])

    def attach(self, host: str, net: str) -> None:
        """Give a host an address in one of its networks."""
        inside = INSIDE[net]
        metric = 100 if net == "wifi" else 200
        namespaces.ip(self.name(host), [
            f"link set dev {net} up", f"addr add {inside}.2/24 dev {net}",
            f"route add default via {inside}.1 dev {net} metric {metric}",
        ])  # fmt: skip

    def detach(self, host: str, net: str) -> None:
        """Take a host's network away: address, routes and carrier."""
        namespaces.ip(self.name(host), [f"addr flush dev {net}", f"link set dev {net} down"])

    # -- daemons

    def start(self, role: str, *argv: str) -> subprocess.Popen[str]:
        """Run a daemon and wait until it is ready."""
        log = self.folder / f"{role}-{argv[0]}.log"
        with log.open("w") as said:
            process = subprocess.Popen(
                namespaces.entering(self.name(role), [sys.executable, "-m", "sojourn", *argv]),
                stderr=said, stdout=said, text=True, cwd=self.folder,
            )  # fmt: skip
        self.processes.append(process)
        until(lambda: "ready" in log.read_text() or process.poll() is not None, 30)
        assert process.poll() is None, log.read_text()
        return process

    def start_node(self) -> subprocess.Popen[str]:
        """Start the rendezvous node."""
        return self.start("node", "rendezvous", "--listen", NODE, "--socket", self.socket("node"))

    def configure(self, *hosts: str, extra: str = "") -> None:
        """Make the hosts each other's peers, as their owners would: by the line that `peers show` prints."""
        lines = {}
        for host in hosts:
            directory = self.folder / host
            directory.mkdir(exist_ok=True)
            (directory / "host.toml").write_text(
                f'name = "{host}"\norder = ["wifi", "cell", "*"]\n{extra}\n'
                f'[rendezvous]\nnodes = ["{NODE}"]\n[portal]\nurl = ""\n'
            )
            shown = json.loads(sojourn("peers", "show", "--config-dir", str(directory), "--json"))
            lines[host], self.homes[host] = shown["line"].split()[1:], shown["home"]
        for host in hosts:
            for other in hosts:
                if other != host:
                    sojourn(*lines[other], "--config-dir", str(self.folder / host), "--socket", self.socket(host))

    def start_host(self, host: str) -> subprocess.Popen[str]:
        """Start `sojourn host`."""
        directory = str(self.folder / host)
        return self.start(host, "host", "--config-dir", directory, "--socket", self.socket(host))

    def socket(self, role: str) -> str:
        return str(self.folder / f"{role}.sock")

    def call(self, role: str, verb: str, **arguments: Any) -> Any:  # noqa: ANN401
        return Client(self.socket(role)).call(verb, **arguments)

    def reachable_over(self, host: str, net: str) -> bool:
        """Say whether a host's triggers stand over a network."""
        try:
            peers = self.call(host, "peers")
        except ApiError:
            return False
        serving = [row for row in self.call(host, "status")["networks"] if row["name"] == net]
        return peers["network"] == net and bool(serving) and serving[0]["state"] == "up"

    def inside(self, host: str, *argv: str, seconds: float = 20.0) -> subprocess.CompletedProcess[str]:
        """Run a command on a host."""
        return subprocess.run(
            namespaces.entering(self.name(host), list(argv)), capture_output=True, text=True, timeout=seconds
        )

    def close(self) -> None:
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


def sojourn(*argv: str) -> str:
    """Run the command line and return what it prints."""
    done = subprocess.run([sys.executable, "-m", "sojourn", *argv], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


def until(true: Callable[[], bool], seconds: float) -> None:
    """Wait for something."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
