"""The anchor at scale: 10 to 10,000 associations with three tunnels and ten flows each.

Prints memory per association and per flow, registrations a second (TLS handshake, digest, credential), and processor
time per packet (up and echoed down) at each size. There is no peer here: the question is whether cost stays flat.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from bench._ground import AN, ANCHOR, CH, HZ, MH, Ground, ground, machine
from sojourn.api.client import Client
from sojourn.lab import namespaces
from sojourn.lab.processes import Piped

SOURCES = 64
ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", 3000)); print("ready", flush=True)
s.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)
while True:
    data, where = s.recvfrom(2048); s.sendto(data, where)
"""


class Anchor:
    """A real anchor on the ground, and its two processes from outside."""

    def __init__(self, built: Ground) -> None:
        program = (sys.executable, "-m", "sojourn")
        folder, self.socket = built.folder / "anchor", str(built.folder / "anchor.sock")
        said = built.run(
            AN, *program, "init", "--config-dir", str(folder), "--address", ANCHOR, "--pool", "10.201.0.0/16"
        )
        self.first = said.strip().splitlines()[-1]
        config = folder / "anchor.toml"
        lines = [line for line in config.read_text().splitlines() if not line.startswith("uplink")]
        first = next((place for place, line in enumerate(lines) if line.startswith("[")), len(lines))
        config.write_text("\n".join([*lines[:first], 'uplink = "an1"', *lines[first:]]) + "\n")
        self.process = built.start(
            AN, "anchor", *program, "anchor", "--config-dir", str(folder), "--socket", self.socket
        )
        self.process.wait_for("ready", 20)
        self.client = Client(self.socket, 120.0)

    def tokens(self, count: int) -> list[str]:
        more = (self.client.call("token", name=f"crowd{number}")["token"] for number in range(1, count))
        return [self.first, *map(str, more)]

    def data_path(self) -> int:
        """Return the data-path process that works: its spare has used less."""
        found = [pid for pid in namespaces.pids(AN)
                 if b"sojourn.datapath.process" in Path(f"/proc/{pid}/cmdline").read_bytes()]  # fmt: skip
        return max(found, key=cpu_seconds)

    def state(self) -> dict[str, float]:
        control, path = self.process.pid, self.data_path()
        totals = self.client.call("status")["totals"]
        return {
            "control_cpu_s": cpu_seconds(control), "path_cpu_s": cpu_seconds(path), "control_mb": resident(control),
            "path_mb": resident(path), "packets": totals.get("packets_in", 0) + totals.get("packets_out", 0),
        }  # fmt: skip


def cpu_seconds(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / HZ


def resident(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


def order(crowd: Piped, **words: float) -> dict[str, Any]:
    crowd.stdin.write(json.dumps(words).encode() + b"\n")
    crowd.stdin.flush()
    return dict(json.loads(answer(crowd)))


def answer(crowd: Piped) -> bytes:
    data = b""
    while not data.endswith(b"\n"):
        more = crowd.read()
        if not more:
            raise RuntimeError(f"the crowd ended: {crowd.end()[1][-2000:]}")
        data += more
    return data


def measure(anchor: Anchor, crowd: Piped, size: int, packets: int) -> dict[str, Any]:
    """Bring the crowd to `size`, and let it talk."""
    before = anchor.state()
    registered = order(crowd, register=size)
    time.sleep(1.0)
    joined = anchor.state()
    flows = order(crowd, flows=10)
    time.sleep(1.0)
    talking = anchor.state()
    sent = order(crowd, send=packets, hosts=size)
    time.sleep(0.5)
    after = anchor.state()
    moved = after["packets"] - talking["packets"]
    return {
        "associations": size, "registered": registered, "anchor_register_cpu_s": round(
            joined["control_cpu_s"] - before["control_cpu_s"] + joined["path_cpu_s"] - before["path_cpu_s"], 2),
        "flows": flows["flows"], "memory_mb": {key: round(after[key], 1) for key in ("control_mb", "path_mb")},
        "joined_mb": {key: round(joined[key], 1) for key in ("control_mb", "path_mb")},
        "kb_per_flow": round((talking["path_mb"] - joined["path_mb"]) * 1024 / flows["flows"], 2),
        "packets": moved, "sent": sent,
        "us_per_packet": round((after["path_cpu_s"] - talking["path_cpu_s"]) / max(1, moved) * 1e6, 1),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="10,100,1000,10000")
    parser.add_argument("--packets", type=int, default=40000)
    given = parser.parse_args()
    sizes = [int(size) for size in given.sizes.split(",")]
    result: dict[str, Any] = {"bench": "scale", **machine(), "sizes": []}
    with ground() as built:
        namespaces.ip(MH, [f"addr add 192.0.2.{10 + number}/24 dev mh0" for number in range(SOURCES)])
        anchor = Anchor(built)
        built.start(CH, "echo", sys.executable, "-c", ECHO).wait_for("ready", 5)
        began = time.monotonic()
        tokens = built.folder / "tokens"
        tokens.write_text("\n".join(anchor.tokens(max(sizes))) + "\n")
        result["tokens_per_s"] = round(max(sizes) / (time.monotonic() - began), 1)
        argv = [sys.executable, "-m", "bench._crowd", str(tokens), str(SOURCES)]
        with Piped(namespaces.entering(MH, ["env", f"PYTHONPATH={os.getcwd()}:{os.getcwd()}/src", *argv])) as crowd:
            answer(crowd)  # "ready"
            for size in sizes:
                result["sizes"].append(measure(anchor, crowd, size, given.packets))
                print(json.dumps(result["sizes"][-1]), file=sys.stderr, flush=True)
            crowd.stdin.close()
        first, last = result["sizes"][0], result["sizes"][-1]
        grown = max(1, last["associations"] - first["associations"])
        result["kb_per_association_with_3_tunnels"] = round(
            (sum(last["joined_mb"].values()) - sum(first["joined_mb"].values())) * 1024 / grown
            - 10 * last["kb_per_flow"],
            2,
        )
        result["kb_per_flow"] = last["kb_per_flow"]
        result["cost_ratio"] = round(last["us_per_packet"] / max(0.1, first["us_per_packet"]), 2)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
