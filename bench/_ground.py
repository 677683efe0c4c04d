"""Three namespaces for throughput and latency, with nothing on the path that is not measured.

    mh (192.0.2.1) ── veth ── (192.0.2.2) an (198.18.0.1) ── veth ── (198.18.0.2) ch

The anchor forwards and masquerades. `wire=True` has the veths split super-packets before they
cross, as a network card would, with GRO at the receiver; else they pass whole.
"""

import contextlib
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench._bounded import bounded
from sojourn.lab import namespaces
from sojourn.lab.processes import Child

PREFIX = f"sjb{os.getpid() % 10000}"
MH, AN, CH = (f"{PREFIX}-{role}" for role in ("mh", "an", "ch"))
ANCHOR, TARGET = "192.0.2.2", "198.18.0.2"
HZ = os.sysconf("SC_CLK_TCK")


class Ground:
    """The namespaces and the processes started in them."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sojourn-bench-"))
        self.children: list[Child] = []

    def run(self, namespace: str, *argv: str, check: bool = True, timeout: float = 60.0) -> str:
        return namespaces.run(namespace, *argv, check=check, timeout=timeout)

    def start(self, namespace: str, name: str, *argv: str) -> Child:
        child = Child(name, namespaces.entering(namespace, argv), self.folder / f"{name}.log")
        self.children.append(child)
        return child

    def stop(self) -> None:
        for child in reversed(self.children):
            child.stop()
        self.children.clear()


@contextlib.contextmanager
def ground(wire: bool = False, limit: float = 0.0) -> Iterator[Ground]:
    """Build, yield, remove; by any end of this process, and after `limit` seconds at the latest (0: no limit)."""
    built = Ground()
    with bounded(limit, built.folder, [MH, AN, CH]):
        yield from _standing(built, wire)


def _standing(built: Ground, wire: bool) -> Iterator[Ground]:
    try:
        for name in (MH, AN, CH):
            namespaces.add(name)
        _link(MH, "mh0", "192.0.2.1/24", AN, "an0", "192.0.2.2/24")
        _link(AN, "an1", "198.18.0.1/24", CH, "ch0", f"{TARGET}/24")
        namespaces.ip(MH, ["route add default via 192.0.2.2"])
        namespaces.ip(AN, ["route add default via 198.18.0.2"])
        namespaces.sysctl(AN, net__ipv4__ip_forward=1)
        rule = 'table ip bench { chain post { type nat hook postrouting priority 100; oifname "an1" masquerade; }; }'
        namespaces.run(AN, "nft", "-f", "-", stdin=rule + "\n")
        if wire:
            for name, device in ((MH, "mh0"), (AN, "an0")):
                words = ["tso", "off", "gso", "on", "tx-udp-segmentation", "off", "gro", "on"]
                namespaces.run(name, "ethtool", "-K", device, *words)
        yield built
    finally:
        built.stop()
        namespaces.delete([MH, AN, CH])
        shutil.rmtree(built.folder, ignore_errors=True)


def _link(one: str, device: str, address: str, other: str, peer: str, peer_address: str) -> None:
    namespaces.join(one, device, other, peer)
    namespaces.ip(one, [f"addr add {address} dev {device}"])
    namespaces.ip(other, [f"addr add {peer_address} dev {peer}"])


def until(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not within {seconds:g} s")
        time.sleep(0.05)


def answers(built: Ground, target: str = TARGET) -> bool:
    """Say whether the target answers a ping from the mobile host."""
    done = subprocess.run(
        namespaces.entering(MH, ["ping", "-q", "-c1", "-W1", target]), capture_output=True, timeout=10, check=False
    )
    return done.returncode == 0


def busy_seconds() -> float:
    """Return the seconds for which all processors together have been busy since the start of the machine."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return (fields[0] + fields[1] + fields[2] + fields[5] + fields[6]) / HZ


def cpu_seconds(pid: int) -> float:
    """Return the processor seconds that a process has used."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / HZ


def median(values: list[float], digits: int = 3) -> float:
    return round(statistics.median(values), digits)


def machine() -> dict[str, Any]:
    """Say what was measured on."""
    model = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), "unknown")  # fmt: skip
    return {"processor": model, "processors": os.cpu_count(), "kernel": os.uname().release}
