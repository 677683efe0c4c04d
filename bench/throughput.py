"""One TCP flow through each tunnel, both directions: Gbit/s and CPU-seconds of the whole machine per 10^9 bytes.

Medians of `--runs` rounds; in each round every peer is measured once, so that noise hits all.
"""

import argparse
import json
import time
from typing import Any

from bench._ground import CH, MH, TARGET, Ground, busy_seconds, ground, machine, median
from bench._peers import PEERS, USUAL, Missing


def measure(
    built: Ground, seconds: float, *, reverse: bool = False, target: str = TARGET, flows: int = 1, warm: int = 0
) -> dict[str, float]:
    """Send TCP flows at once, up or in `reverse`; their first `warm` seconds (whole ones: iperf3) are no part of it."""
    server = built.start(CH, "iperf3", "taskset", "-c", "1", "iperf3", "-s", "-1", "-B", target)
    time.sleep(0.4)
    before = busy_seconds()
    words = ["taskset", "-c", "0", "iperf3", "-c", target, "-t", str(seconds), "-J", "-P", str(flows), "-O", str(warm)]
    said = json.loads(built.run(MH, *words, *(["-R"] if reverse else []), timeout=seconds + warm + 30))
    busy = busy_seconds() - before
    server.stop()
    received = said["end"]["sum_received"]
    whole = received["bytes"] * (1 + warm / seconds)
    return {
        "gbit_s": received["bits_per_second"] / 1e9,
        "cpu_s_per_gb": busy / (whole / 1e9),
        "retransmits": said["end"]["sum_sent"].get("retransmits", 0),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument(
        "--wire", action="store_true", help="split super-packets before the veth, as a network card does"
    )
    parser.add_argument("--peers", default=USUAL)
    given = parser.parse_args()
    names = given.peers.split(",")
    rounds: dict[str, dict[str, list[dict[str, float]]]] = {name: {"up": [], "down": []} for name in names}
    missing: dict[str, str] = {}
    for _ in range(given.runs):
        for name in names:
            if name in missing:
                continue
            with ground(given.wire) as built:
                try:
                    PEERS[name](built)
                except Missing as error:
                    missing[name] = str(error)
                    continue
                for direction in ("up", "down"):
                    rounds[name][direction].append(measure(built, given.seconds, reverse=direction == "down"))
    result: dict[str, Any] = {"bench": "throughput", "mode": "wire" if given.wire else "gso", **machine()}
    result["peers"] = {
        name: {"peer missing": missing[name]} if name in missing else summary(rounds[name]) for name in names
    }
    result["ratios"] = _ratios(result["peers"])
    print(json.dumps(result, indent=1))


def summary(directions: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Return the medians of each direction, and the rates that they are of."""
    return {
        direction: {key: median([run[key] for run in runs]) for key in runs[0]}
        | {"gbit_s_runs": [round(run["gbit_s"], 2) for run in runs]}
        for direction, runs in directions.items()
    }


def _ratios(peers: dict[str, Any]) -> dict[str, Any]:
    ours = peers.get("sojourn", {})
    if "up" not in ours:
        return {}

    def mean(peer: dict[str, Any], key: str) -> float:
        return float(peer["up"][key] + peer["down"][key]) / 2

    return {
        name: {"gbit_s": round(mean(ours, "gbit_s") / mean(peer, "gbit_s"), 2),
               "cpu_s_per_gb": round(mean(ours, "cpu_s_per_gb") / mean(peer, "cpu_s_per_gb"), 2)}
        for name, peer in peers.items() if name != "sojourn" and "up" in peer
    }  # fmt: skip


if __name__ == "__main__":
    main()
