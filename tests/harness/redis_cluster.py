"""Real redis-servers, three with cluster mode on, each with a third of the slots; they can be killed and started again.

Nothing is written to disk: one that was killed comes back empty, as far as triggers go, and knows its slots.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

SLOTS = 16384


class RedisCluster:
    """`count` servers on one address. `prefix`: before each command, to be in a network namespace."""

    def __init__(self, folder: Path, ports: Sequence[int], host: str = "127.0.0.1", prefix: Sequence[str] = ()) -> None:
        if shutil.which("redis-server") is None:
            pytest.fail("redis-server is missing: `make` installs it (APT_TEST)", pytrace=False)
        self.folder, self.ports, self.host, self.prefix = folder, tuple(ports), host, tuple(prefix)
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def urls(self) -> list[str]:
        return [f"redis://{self.host}:{port}" for port in self.ports]

    def start(self, masters: int | None = None) -> None:
        """Start all and make them a cluster; those after so many masters are replicas of the first."""
        for port in self.ports:
            self.start_one(port)
        count = len(self.ports) if masters is None else masters
        share = SLOTS // count + 1
        for index, port in enumerate(self.ports[:count]):
            last = min((index + 1) * share, SLOTS) - 1
            assert self.cli(port, "cluster", "addslotsrange", str(index * share), str(last)) == "OK"
            assert self.cli(port, "cluster", "set-config-epoch", str(index + 1)) == "OK"
        for port in self.ports[1:]:
            assert self.cli(port, "cluster", "meet", self.host, str(self.ports[0])) == "OK"
        for port in self.ports:
            self._until(port, "cluster_state:ok", f"cluster_known_nodes:{len(self.ports)}", "cluster_slots_ok:16384")
        for port in self.ports[count:]:
            assert self.cli(port, "cluster", "replicate", self.cli(self.ports[0], "cluster", "myid")) == "OK"

    def wait_for_copies(self, port: int, keys: int) -> None:
        """Wait until a replica has so many keys of its master."""
        end = time.monotonic() + 20
        while int(self.cli(port, "dbsize") or 0) < keys:
            assert time.monotonic() < end, self.cli(port, "info", "replication")
            time.sleep(0.05)

    def start_one(self, port: int) -> None:
        """Start one server, or start it again."""
        folder = self.folder / str(port)
        folder.mkdir(parents=True, exist_ok=True)
        options = {
            "port": str(port), "bind": self.host, "dir": str(folder), "save": "", "appendonly": "no",
            "cluster-enabled": "yes", "cluster-require-full-coverage": "no", "cluster-node-timeout": "2000",
            "protected-mode": "no", "daemonize": "no", "logfile": str(folder / "log"),
        }  # fmt: skip
        argv = [
            *self.prefix,
            "redis-server",
            *(word for name, value in options.items() for word in (f"--{name}", value)),
        ]
        self.processes[port] = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._until(port, "cluster_state:")

    def kill(self, port: int) -> None:
        """End one server at once."""
        process = self.processes.pop(port)
        process.kill()
        process.wait()

    def revive(self, ports: Sequence[int]) -> None:
        """Start those again that a test which failed has left dead."""
        for port in ports:
            if port not in self.processes:
                self.start_one(port)

    def freeze(self, port: int, frozen: bool) -> None:
        """Let one server hang, or go on."""
        self.processes[port].send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def stop(self) -> None:
        for port in list(self.processes):
            self.kill(port)

    def cli(self, port: int, *words: str) -> str:
        """Return what redis-cli prints."""
        argv = [*self.prefix, "redis-cli", "-h", self.host, "-p", str(port), *words]
        return subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False).stdout.strip()

    def _until(self, port: int, *texts: str) -> None:
        end = time.monotonic() + 20
        while not all(text in (info := self.cli(port, "cluster", "info")) for text in texts):
            assert time.monotonic() < end, f"{port} is not ready: {info}"
            time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """Return ports that are free now, those of the cluster's bus 10,000 above them included.

    Another process that asks in the same moment begins elsewhere.
    """
    found: list[int] = []
    for port in range(21000 + os.getpid() % 160 * 50, 30000):
        try:
            for each in (port, port + 10000):
                with socket.create_server(("127.0.0.1", each)):
                    pass
        except OSError:
            continue
        found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no free ports")
