"""Peers over one rendezvous node: what moving costs (ROAM's figures: nothing lost, throughput within 6 % of none).

soft         datagrams, 200 a second, while both hosts move by order every 4 s (0.25/s each): lost, twice,
             longest gap
throughput   one TCP flow from a to b, without moves and with a's 0.25 moves/s, in the order 0 1 1 0 0 1 ...: medians;
             what was sent again; and the rate in the second after each move against the rest of the same flow
both         both lose one network and get the other in the same second, again and again: longest gap of a TCP flow that
             sends every 10 ms, from the later of the two new addresses; and when each host's triggers stood

It ends by itself after --limit seconds, and leaves nothing behind however it ends.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.net.roam_lab import begin, conversation, home, said

from bench._bounded import bounded
from bench._ground import PREFIX, machine
from sojourn.api.client import Client
from sojourn.lab import namespaces
from sojourn.lab.roaming import Roaming, until

EVERY = 4.0
"""Seconds between handovers: 0.25 a second."""
PARTS = ("soft", "throughput", "both")
STEP = 0.1
"""Seconds of which a flow's rate is known."""


def moves(lab: Roaming, seconds: float, *hosts: str) -> list[float]:
    """Move to and fro every `EVERY` seconds; return when."""
    order: tuple[str, ...] = ("cell", "wifi")
    if lab.call(hosts[0], "peers")["network"] == "cell":
        order = ("wifi", "cell")
    when: list[float] = []
    stop = time.monotonic() + seconds - EVERY / 2
    time.sleep(EVERY / 2)
    while time.monotonic() < stop:
        when.append(time.monotonic())
        for host in hosts:
            lab.move(host, order[(len(when) - 1) % 2])
        time.sleep(max(when[-1] + EVERY - time.monotonic(), 0))
    return when


def soft(lab: Roaming, seconds: float) -> dict[str, Any]:
    theirs, ours = conversation(lab, ("count", "number"), seconds)
    count = len(moves(lab, seconds, "a", "b"))
    received = said(theirs)
    said(ours)
    return {
        "handovers_each": count, "sent": received["sent"], "lost": len(received["lost"]), "twice": received["twice"],
        "longest_gap_ms": round(received["longest"] * 1000, 1),
    }  # fmt: skip


def flow(lab: Roaming, seconds: float, *, moving: bool) -> tuple[float, int, float | None]:
    """Return Mbit/s of one TCP flow, its retransmissions, and the rate after moves in parts of the rest's."""
    server = ["iperf3", "-s", "-1", "-6"]
    theirs = subprocess.Popen(namespaces.entering(lab.name("b"), server), stdout=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        client = ["iperf3", "-c", lab.homes["b"], "-t", str(seconds), "-i", str(STEP), "--json"]
        began = time.monotonic()
        ours = subprocess.Popen(namespaces.entering(lab.name("a"), client), stdout=subprocess.PIPE, text=True)
        when = [at - began for at in moves(lab, seconds, "a")] if moving else []
        told = said(ours)
        theirs.wait(10)
    finally:
        theirs.kill()
        theirs.wait()
    rates = [one["sum"]["bits_per_second"] for one in told["intervals"]]
    whole = told["end"]
    return whole["sum_received"]["bits_per_second"] / 1e6, whole["sum_sent"]["retransmits"], _after(rates, when)


def _after(rates: Sequence[float], when: Sequence[float]) -> float | None:
    """Return the mean rate of the seconds after `when` in parts of the others' mean, without the first one."""
    close: list[float] = []
    far: list[float] = []
    for index, rate in enumerate(rates):
        at = index * STEP
        if at >= 1.0:
            (close if any(0 <= at - one < 1.0 for one in when) else far).append(rate)
    return statistics.mean(close) / statistics.mean(far) if close and far else None


def throughput(lab: Roaming, seconds: float, runs: int) -> dict[str, Any]:
    found: dict[bool, list[tuple[float, int, float | None]]] = {False: [], True: []}
    for number in range(2 * runs):
        moving = (number + 1) % 4 // 2 == 1
        found[moving].append(flow(lab, seconds, moving=moving))
    without, with_moves = (statistics.median(one[0] for one in found[moving]) for moving in (False, True))
    return {
        "mbit_without": [round(one[0], 1) for one in found[False]],
        "mbit_with": [round(one[0], 1) for one in found[True]],
        "less_percent": round(100 * (1 - with_moves / without), 1),
        "sent_again_without": [one[1] for one in found[False]], "sent_again_with": [one[1] for one in found[True]],
        "rate_after_a_move": [round(one[2], 2) for one in found[True] if one[2] is not None], "runs": runs,
    }  # fmt: skip


def both(lab: Roaming, times: int) -> dict[str, Any]:
    """Change networks at both ends in the same second; each host has one network at a time."""
    gaps, stood = [], []
    nets = ("wifi", "cell")
    lab.detach("a", "cell")
    lab.detach("b", "cell")
    for number in range(times):
        old, new = nets[number % 2], nets[(number + 1) % 2]
        until(lambda old=old: all(lab.reachable_over(host, old) for host in ("a", "b")), 15)  # type: ignore[misc]
        theirs, ours = conversation(lab, ("receive", "send"), 3.0)
        time.sleep(1.2)
        for host in ("a", "b"):
            lab.carry(host, new)
        for host in ("a", "b"):
            lab.detach(host, old)
        for host in ("a", "b"):
            lab.attach(host, new)
        later, wall = time.monotonic(), time.time()  # noqa: TID251
        received, sent = said(theirs), said(ours)
        if received["sha256"] != sent["sha256"]:
            raise SystemExit("the stream was broken")
        gaps.append(max(received["paused_at"] + received["longest"] - later, 0.0))
        stood.append([_stood(lab, host, wall - 1.0) - wall for host in ("a", "b")])
    return {
        "times": times, "after_the_later_address_ms": [round(gap * 1000, 1) for gap in gaps],
        "triggers_stood_ms": [[round(at * 1000, 1) for at in each] for each in stood],
    }  # fmt: skip


def _stood(lab: Roaming, host: str, since: float) -> float:
    """Return the wall clock's time of the newest entry about a peers' move; inf without one."""
    entries = list(Client(lab.socket(host)).stream("log", limit=20))
    return max(
        (one["time"] for one in entries if one["event"] == "peers" and one["time"] > since), default=float("inf")
    )


def measure(lab: Roaming, options: argparse.Namespace) -> dict[str, Any]:
    begin(lab)
    found: dict[str, Any] = {"machine": machine(), "load_before": os.getloadavg()[0]}
    for part in PARTS:
        if part not in options.parts:
            continue
        home(lab)
        time.sleep(1.5)
        match part:
            case "soft":
                found[part] = soft(lab, options.seconds)
            case "throughput":
                found[part] = throughput(lab, options.seconds, options.runs)
            case "both":
                found[part] = both(lab, 2 * options.runs)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--limit", type=float, default=240.0, help="end after so many seconds")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sojourn-bench-") as folder:
        lab = Roaming(Path(folder), f"{PREFIX}-ro")
        with bounded(options.limit, Path(folder), [lab.name(role) for role in lab.roles]), lab:
            found = measure(lab, options)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
