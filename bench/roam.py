"""Peers over one rendezvous node: what moving costs (ROAM's figures: nothing lost, throughput within 6 % of none).

soft         datagrams, 200 a second, while both hosts move by order every 4 s (0.25/s each): lost, twice,
             longest gap
throughput   one TCP flow from a to b, 16 s each way of doing it, turn by turn: without moves, and with a's 0.25 moves/s
both         both lose one network and get the other in the same second, again and again: longest gap of a TCP flow that
             sends every 10 ms, from the later of the two new addresses
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench._ground import PREFIX, machine
from sojourn.lab import namespaces
from sojourn.lab.roaming import Roaming, until

ENDS = str(Path(__file__).resolve().parents[1] / "tests" / "net" / "roam_ends.py")
EVERY = 4.0
"""Seconds between handovers: 0.25 a second."""


def end(lab: Roaming, host: str, *words: str) -> "subprocess.Popen[str]":
    argv = namespaces.entering(lab.name(host), [sys.executable, ENDS, *words])
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def said(process: "subprocess.Popen[str]") -> Any:  # noqa: ANN401
    out, _ = process.communicate(timeout=180)
    return json.loads(out)


def moves(lab: Roaming, seconds: float, *hosts: str) -> int:
    """Move to and fro every `EVERY` seconds; return how often."""
    order, count = ("cell", "wifi"), 0
    stop = time.monotonic() + seconds - EVERY / 2
    time.sleep(EVERY / 2)
    while time.monotonic() < stop:
        for host in hosts:
            lab.move(host, order[count % 2])
        count += 1
        time.sleep(EVERY)
    return count


def soft(lab: Roaming, seconds: float) -> dict[str, Any]:
    theirs = end(lab, "b", "count", lab.homes["b"])
    time.sleep(0.7)
    ours = end(lab, "a", "number", lab.homes["b"], str(seconds))
    count = moves(lab, seconds, "a", "b")
    received = said(theirs)
    said(ours)
    return {
        "handovers_each": count, "sent": received["sent"], "lost": len(received["lost"]), "twice": received["twice"],
        "longest_gap_ms": round(received["longest"] * 1000, 1),
    }  # fmt: skip


def flow(lab: Roaming, seconds: float, *, moving: bool) -> float:
    """Return Mbit/s of one TCP flow."""
    server = ["iperf3", "-s", "-1", "-6"]
    theirs = subprocess.Popen(namespaces.entering(lab.name("b"), server), stdout=subprocess.DEVNULL)
    time.sleep(0.5)
    client = ["iperf3", "-c", lab.homes["b"], "-t", str(seconds), "--json"]
    ours = subprocess.Popen(namespaces.entering(lab.name("a"), client), stdout=subprocess.PIPE, text=True)
    if moving:
        moves(lab, seconds, "a")
    rate: float = said(ours)["end"]["sum_received"]["bits_per_second"]
    theirs.wait(10)
    return rate / 1e6


def throughput(lab: Roaming, seconds: float, runs: int) -> dict[str, Any]:
    still, moving = [], []
    for _ in range(runs):
        still.append(flow(lab, seconds, moving=False))
        moving.append(flow(lab, seconds, moving=True))
    without, with_moves = statistics.median(still), statistics.median(moving)
    return {
        "mbit_without": round(without, 1), "mbit_with": round(with_moves, 1),
        "less_percent": round(100 * (1 - with_moves / without), 1), "runs": runs,
    }  # fmt: skip


def both(lab: Roaming, times: int) -> dict[str, Any]:
    """Change networks at both ends in the same second; each host has one network at a time."""
    gaps = []
    nets = ("wifi", "cell")
    lab.detach("a", "cell")
    lab.detach("b", "cell")
    for number in range(times):
        old, new = nets[number % 2], nets[(number + 1) % 2]
        until(lambda old=old: all(lab.reachable_over(host, old) for host in ("a", "b")), 15)  # type: ignore[misc]
        theirs = end(lab, "b", "receive", lab.homes["b"])
        time.sleep(0.7)
        ours = end(lab, "a", "send", lab.homes["b"], "4.0")
        time.sleep(2.0)
        for host in ("a", "b"):
            lab.detach(host, old)
        for host in ("a", "b"):
            lab.attach(host, new)
        later = time.monotonic()
        received, sent = said(theirs), said(ours)
        if received["sha256"] != sent["sha256"]:
            raise SystemExit("the stream was broken")
        gaps.append(max(received["paused_at"] + received["longest"] - later, 0.0))
    return {"times": times, "after_the_later_address_ms": [round(gap * 1000, 1) for gap in gaps]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=16.0)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sojourn-bench-") as folder, Roaming(Path(folder), f"{PREFIX}-ro") as lab:
        lab.start_node()
        lab.configure("a", "b")
        for host in ("a", "b"):
            for net in ("wifi", "cell"):
                lab.attach(host, net)
            lab.start_host(host)
        for host in ("a", "b"):
            until(lambda host=host: lab.reachable_over(host, "wifi") and lab.works(host, "cell"), 20)  # type: ignore[misc]
        found: dict[str, Any] = {"machine": machine(), "soft": soft(lab, options.seconds)}
        for host in ("a", "b"):
            lab.move(host, "wifi")
        found["throughput"] = throughput(lab, options.seconds, options.runs)
        for host in ("a", "b"):
            lab.move(host, "wifi")
        time.sleep(2)
        found["both"] = both(lab, 2 * options.runs)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
