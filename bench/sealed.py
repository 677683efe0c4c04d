"""Every figure of the sealed path that has a target, beside its peers in the same round; JSON, with the ratios.

    super     super-packets cross the veth whole: one TCP flow each way, eight flows at once, small datagrams, round
              trip
    split     they are cut before it, as by a network card, with GRO at the receiver: one TCP flow each way

Eight flows: CPU-seconds per GB beside those of one flow; they must not rise. Small datagrams: 64 bytes of payload, the
highest rate at which under 1 % is lost, found by halving, counted where a socket that nobody reads drops them: super-
packets of them are cut there. Round trip: 64 bytes, both ends pinned to a processor each.
"""

import argparse
import json
import os
import sys
import time
from typing import Any, Final

from bench._ground import CH, MH, TARGET, Ground, ground, machine, median
from bench._peers import PEERS, Missing
from bench.latency import ASK, ECHO
from bench.throughput import measure

NAMES: Final = (
    "bare", "sojourn", "sojourn-chacha20", "openvpn", "wireguard-go-named",
)  # fmt: skip
FLOWS: Final = 8
LOST: Final = 0.01
HALVINGS: Final = 6
TRIES: Final = 2
"""A rate is too high if it loses so often: one stall of the machine would else halve what is left."""
PACED: Final = """
import json, socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect((sys.argv[1], 9))
rate, seconds, data, sent = float(sys.argv[2]), float(sys.argv[3]), b"x" * 64, 0
s.send(data); time.sleep(0.2)
began = now = time.monotonic()
while now < began + seconds:
    for _ in range(min(int((now - began) * rate) - sent, 64) if rate else 64):
        try: s.send(data)
        except OSError: pass
        sent += 1
    now = time.monotonic()
print(json.dumps([sent, now - began]))
"""
SINK: Final = """
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
s.bind(("0.0.0.0", 9)); print("ready", flush=True); time.sleep(600)
"""
Runs = dict[str, list[dict[str, float]]]


def dropped(built: Ground) -> int:
    """Return how many datagrams found no room in a socket of the target."""
    names, values = (line.split() for line in built.run(CH, "cat", "/proc/net/snmp").splitlines() if line[:4] == "Udp:")
    return int(values[names.index("InErrors")])


def paced(built: Ground, rate: float, seconds: float) -> tuple[float, float]:
    """Send small datagrams at a rate (0: as fast as one sender can); return (how many a second arrived, part lost)."""
    before = dropped(built)
    words = ("taskset", "-c", "0", sys.executable, "-c", PACED, TARGET, str(rate), str(seconds))
    sent, took = json.loads(built.run(MH, *words))
    time.sleep(0.3)
    arrived = dropped(built) - before
    return arrived / took, max(1 - arrived / sent, 0.0)


def small(built: Ground) -> dict[str, float]:
    """Find the highest rate of small datagrams that loses less than 1 %."""
    built.start(CH, "sink", sys.executable, "-c", SINK).wait_for("ready", 5)
    rate, lost = paced(built, 0, 1.0)
    low, high = (rate, rate) if lost < LOST else (0.0, rate)
    for _ in range(HALVINGS if high > low else 0):
        middle = (low + high) / 2
        tries = (paced(built, middle, 0.7) for _ in range(TRIES))
        arrived = next((arrived for arrived, lost in tries if lost < LOST), None)
        low, high = (low, middle) if arrived is None else (arrived, high)
    return {"packets_s": low}


def round_trip(built: Ground, count: int) -> dict[str, float]:
    """Ask and answer, one datagram at a time."""
    built.start(CH, "echo", "taskset", "-c", "1", sys.executable, "-c", ECHO).wait_for("ready", 5)
    said: dict[str, float] = json.loads(
        built.run(MH, "taskset", "-c", "0", sys.executable, "-c", ASK, TARGET, str(count))
    )
    return said


def round_of(built: Ground, runs: Runs, given: argparse.Namespace, split: bool) -> None:
    """Measure one peer once."""
    found = {way: measure(built, given.seconds, reverse=way == "down") for way in ("up", "down")}
    if not split:
        found["eight_flows_up"] = measure(built, given.seconds, flows=FLOWS)
        found["small"] = small(built)
        found["round_trip"] = round_trip(built, given.count)
    for name, value in found.items():
        runs.setdefault(name, []).append(value)


def ratios(peers: dict[str, Any]) -> dict[str, Any]:
    """Return what the targets speak of."""

    def mean(name: str, key: str) -> float | None:
        peer = peers.get(name, {})
        return (peer["up"][key] + peer["down"][key]) / 2 if "up" in peer else None

    def part(ours: float | None, theirs: float | None) -> float | None:
        return round(ours / theirs, 2) if ours and theirs else None

    found: dict[str, Any] = {}
    for us in ("sojourn", "sojourn-chacha20"):
        mine = peers.get(us, {})
        for name in NAMES:
            if name in ("sojourn", "sojourn-chacha20") or name not in peers:
                continue
            them = peers[name]
            found[f"{us}/{name}"] = {
                "gbit_s": part(mean(us, "gbit_s"), mean(name, "gbit_s")),
                "cpu_s_per_gb": part(mean(us, "cpu_s_per_gb"), mean(name, "cpu_s_per_gb")),
                "small": part(mine.get("small", {}).get("packets_s"), them.get("small", {}).get("packets_s")),
            }
        if "eight_flows_up" in mine:
            found[f"{us}, eight flows/one, cpu_s_per_gb"] = part(
                mine["eight_flows_up"]["cpu_s_per_gb"], mine["up"]["cpu_s_per_gb"]
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--count", type=int, default=6000)
    parser.add_argument("--peers", default=",".join(NAMES))
    parser.add_argument("--modes", default="super,split")
    given = parser.parse_args()
    result: dict[str, Any] = {"bench": "sealed", "load": os.getloadavg()[0], **machine()}
    for mode in given.modes.split(","):
        runs: dict[str, Runs] = {}
        missing: dict[str, str] = {}
        for _ in range(given.runs):
            for name in given.peers.split(","):
                if name in missing:
                    continue
                with ground(mode == "split") as built:
                    try:
                        PEERS[name](built)
                    except Missing as error:
                        missing[name] = str(error)
                        continue
                    round_of(built, runs.setdefault(name, {}), given, mode == "split")
        peers: dict[str, Any] = {name: {"peer missing": why} for name, why in missing.items()}
        for name, of in runs.items():
            peers[name] = {
                what: {key: median([each[key] for each in values]) for key in values[0]} for what, values in of.items()
            }
        result[mode] = {"peers": peers, "ratios": ratios(peers)}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
