"""Short-lived flows of twenty programs, started as fast as the machine can: which are told right, and at what cost.

    program --socket--> bc0 (TUN)    this process reads the device and asks the data path's own Classifier

Every flow is of another process; half of those fork before, and the parent is gone by then. A flow is known by its
remote port. The cost of the first packet is that of the system calls with the programs attached beyond the same
without them, and of the look that the data path takes. Needs root and a C compiler; makes a namespace of its own.
"""

import argparse
import contextlib
import ctypes
import json
import os
import select
import socket
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bench import _programs
from bench._ground import machine
from sojourn.datapath.classify import Classifier
from sojourn.errors import RemoteProtocolError
from sojourn.linux import cgroups
from sojourn.linux.owner_programs import OwnerPrograms, settings_for
from sojourn.linux.tun import Tun
from sojourn.packet import vnet
from sojourn.packet.ip import flow_key, flow_of
from sojourn.policy.names import path_of

DEVICE = "bc0"
REMOTES = ("192.0.2.1", "2001:db8::1")
FIRST_PORT = 10000
CLONE_NEWNET = 0x40000000
SETTLE = 2.0


class Ground:
    """The namespace, the device, and what came out of it."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET)")
        self.tun = Tun.open(DEVICE)
        for command in (
            f"addr add 10.9.0.2/24 dev {DEVICE}", f"-6 addr add fd09::2/64 dev {DEVICE} nodad",
            f"link set {DEVICE} up mtu 1400 txqueuelen 10000", f"route add default dev {DEVICE}",
            f"-6 route add default dev {DEVICE}",
        ):  # fmt: skip
            subprocess.run(["ip", *command.split()], check=True)
        self.root = cgroups.open_root()
        self.programs: OwnerPrograms | None = None

    def load(self) -> Classifier:
        self.programs = OwnerPrograms.load(self.root)
        self.programs.tell(settings_for(DEVICE, self.root))
        classifier = Classifier(lambda _, text: print(text), lambda _fd, _callback: None, lambda _fd: None)
        for name, fd in self.programs.descriptors.items():
            classifier.offer(name, os.dup(fd))
        return classifier

    def packets(self, patience: float) -> list[bytes]:
        """Return what is in the device's queue, waiting for the first."""
        found = []
        while select.select([self.tun.fd], [], [], patience)[0]:
            found.append(os.read(self.tun.fd, 1 << 17)[vnet.HEADER_BYTES :])
            patience = 0.0
        return found


def launch(programs: list[Path], flows: int, workers: int) -> list[int]:
    """Start all programs from several processes at a time; return those."""
    pids = []
    for worker in range(workers):
        pid = os.fork()
        if pid == 0:
            for number in range(worker, flows, workers):
                program = programs[number % len(programs)]
                turn = number // len(programs)
                words = [
                    REMOTES[turn % 2],
                    str(FIRST_PORT + number),
                    _programs.kind_of(program, turn),
                    str(turn // 2 % 2),
                ]
                os.waitpid(os.posix_spawn(program, [str(program), *words], os.environ), 0)
            os._exit(0)
        pids.append(pid)
    return pids


def run_flows(ground: Ground, classifier: Classifier, flows: int, workers: int) -> dict[str, Any]:
    """Start the programs and judge what the classifier says of each flow's first packet."""
    verdicts: Counter[str] = Counter()
    judged: set[int] = set()
    looks: list[float] = []
    with tempfile.TemporaryDirectory(prefix="sojourn-bench-") as folder:
        programs = _programs.make(Path(folder))
        began = time.monotonic()
        pids = launch(programs, flows, workers)
        last, took = began, 0.0
        while len(judged) < flows and time.monotonic() - last < SETTLE:
            for packet in ground.packets(0.05):
                with contextlib.suppress(RemoteProtocolError):
                    key = flow_key(packet)
                    number = flow_of(key).remote.port - FIRST_PORT
                    if number in judged or not 0 <= number < flows:
                        continue
                    judged.add(number)
                    start = time.perf_counter()
                    origin = classifier.classify(key)
                    looks.append(time.perf_counter() - start)
                    wanted = str(programs[number % len(programs)])
                    right = origin is not None and origin.exact and path_of(origin) == wanted
                    verdicts["right" if right else "unknown" if origin is None else "wrong"] += 1
                    last = time.monotonic()
                    took = last - began
        for pid in pids:
            os.waitpid(pid, 0)
    verdicts["lost"] = flows - len(judged)
    return {"flows": flows, **verdicts, "flows_per_second": round(flows / took), "look_us": spread(looks)}


def spread(seconds: list[float]) -> dict[str, float]:
    """Return median and 99th percentile in microseconds."""
    ordered = sorted(seconds)
    return {
        "median": round(statistics.median(ordered) * 1e6, 1),
        "p99": round(ordered[len(ordered) * 99 // 100] * 1e6, 1),
    }


def time_calls(ground: Ground, count: int) -> dict[str, list[float]]:
    """Time the first datagram of a new socket (all three calls), and later ones of one that is connected."""
    first, later = [], []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as steady:
        steady.connect((REMOTES[0], 9))
        for number in range(count):
            start = time.perf_counter()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.connect((REMOTES[0], 20000 + number % 20000))
                sock.send(b"x")
                first.append(time.perf_counter() - start)
            start = time.perf_counter()
            steady.send(b"x")
            later.append(time.perf_counter() - start)
            if number % 200 == 199:
                ground.packets(0.0)
    return {"first": first, "later": later}


def beyond(ground: Ground, count: int, rounds: int) -> dict[str, Any]:
    """Compare the calls with and without the programs, in turns, so that both meet the same machine."""
    bare: dict[str, list[float]] = {"first": [], "later": []}
    watched: dict[str, list[float]] = {"first": [], "later": []}
    for _ in range(rounds):
        for times, prepare in ((bare, _nothing), (watched, ground.load)):
            classifier = prepare()
            for name, values in time_calls(ground, count).items():
                times[name] += values
            if classifier is not None and ground.programs is not None:
                classifier.close()
                ground.programs.close()
    return {
        name: {"without": spread(bare[name]), "with": spread(watched[name]),
               "beyond_median_us": round((statistics.median(watched[name]) - statistics.median(bare[name])) * 1e6, 2)}
        for name in bare
    }  # fmt: skip


def _nothing() -> Classifier | None:
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flows", type=int, default=10000)
    parser.add_argument("--workers", type=int, default=2 * (os.cpu_count() or 1))
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    ground = Ground()
    calls = beyond(ground, given.calls, given.rounds)
    classifier = ground.load()
    told = run_flows(ground, classifier, given.flows, given.workers)
    cost = calls["first"]["beyond_median_us"] + told["look_us"]["median"]
    print(
        json.dumps(
            {
                "bench": "classify", **machine(), **told, "calls": calls,
                "first_packet_beyond_us": round(cost, 1), "later_packets_beyond_us": calls["later"]["beyond_median_us"],
            },
            indent=1,
        )
    )  # fmt: skip
    classifier.close()


if __name__ == "__main__":
    main()
