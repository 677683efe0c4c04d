"""One TCP flow on the direct path, beside one through a sealed anchor tunnel in the same run: Gbit/s and CPU.

    mh: host a ── an: anchor, rendezvous node, router with NAT ── ch: host b, and the tunnel's correspondent

Both ways cross the same two links and end in the same namespace: the tunnel ends at `an`, the direct path at `ch`. In
each round both are measured once in each direction, in turn; medians of `--runs`. `--python`: the Python engine.
"""

import argparse
import json
import os
import sys
from typing import Any

from bench._ground import AN, ANCHOR, CH, MH, TARGET, Ground, answers, ground, machine, until
from bench.throughput import measure, summary
from sojourn.lab import namespaces
from sojourn.lab.daemons import set_keys

PROGRAM = (sys.executable, "-m", "sojourn")
NODE = f"{ANCHOR}:1801"
WARM = 1
"""Seconds of each flow that do not count: the core takes over a peer's packets when there are many."""


def set_up(built: Ground) -> str:
    """Start everything; return b's home address."""
    folder = built.folder
    namespaces.ip(CH, ["route add default via 198.18.0.1"])
    said = built.run(
        AN, *PROGRAM, "init", "--config-dir", str(folder / "anchor"), "--address", ANCHOR, "--name", "bench"
    )
    set_keys(folder / "anchor" / "anchor.toml", uplink='"an1"')
    built.run(MH, *PROGRAM, "join", said.strip().splitlines()[-1], "--config-dir", str(folder / "a"), "--name", "a")
    (folder / "b").mkdir()
    (folder / "b" / "host.toml").write_text('name = "b"\n[portal]\nurl = ""\n')
    shown = {}
    for host in ("a", "b"):
        toml = folder / host / "host.toml"
        toml.write_text(f'{toml.read_text()}\n[rendezvous]\nnodes = ["{NODE}"]\n')
        shown[host] = json.loads(built.run(MH, *PROGRAM, "peers", "show", "--config-dir", str(folder / host), "--json"))
    for host, other in (("a", "b"), ("b", "a")):
        built.run(MH, *PROGRAM, *shown[other]["line"].split()[1:], "--direct", "--config-dir", str(folder / host),
                  "--socket", str(folder / "none.sock"))  # fmt: skip
    _start(built, AN, "anchor", "--config-dir", str(folder / "anchor"))
    _start(built, AN, "rendezvous", "--listen", NODE)
    _start(built, CH, "host", "--config-dir", str(folder / "b"), name="b")
    _start(built, MH, "host", "--config-dir", str(folder / "a"), name="a")
    until(lambda: answers(built), "the tunnel")
    home: str = shown["b"]["home"]
    until(lambda: answers(built, home), "the peer")
    until(lambda: direct(built)["state"] == "on", "the direct path")
    return home


def _start(built: Ground, where: str, noun: str, *options: str, name: str = "") -> None:
    socket = str(built.folder / f"{name or noun}.sock")
    built.start(where, name or noun, *PROGRAM, noun, *options, "--socket", socket).wait_for("ready", 20)


def direct(built: Ground) -> dict[str, Any]:
    said = built.run(MH, *PROGRAM, "peers", "--json", "--socket", str(built.folder / "a.sock"), check=False)
    found: dict[str, Any] = json.loads(said)["peers"][0]["direct"] if said else {"state": "unknown"}
    return found


def rounds(built: Ground, runs: int, seconds: float) -> dict[str, Any]:
    targets = {"direct": set_up(built), "tunnel": TARGET}
    found: dict[str, dict[str, list[dict[str, float]]]] = {name: {"up": [], "down": []} for name in targets}
    for number in range(runs):
        for name in sorted(targets, reverse=bool(number % 2)):
            for way in ("up", "down"):
                found[name][way].append(measure(built, seconds, reverse=way == "down", target=targets[name], warm=WARM))
    result: dict[str, Any] = {name: summary(ways) for name, ways in found.items()}
    result["direct_to_tunnel"] = {
        way: round(result["direct"][way]["gbit_s"] / result["tunnel"][way]["gbit_s"], 2) for way in ("up", "down")
    }
    result["path"] = direct(built)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--python", action="store_true", help="with the Python engine at all ends")
    parser.add_argument("--limit", type=float, default=180.0, help="end after so many seconds")
    given = parser.parse_args()
    if given.python:
        os.environ["SOJOURN_ENGINE"] = "python"
    load = os.getloadavg()[0]
    with ground(limit=given.limit) as built:
        found = rounds(built, given.runs, given.seconds)
    print(json.dumps({"bench": "direct", **machine(), "load_before": load, **found}, indent=1))


if __name__ == "__main__":
    main()
