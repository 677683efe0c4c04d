"""New flows: what one costs both data paths, and what ten thousand a second do to those that are there.

One real host and one real anchor. The host opens UDP flows at a rate, each with one packet, beside a stream of 200
packets/s that is answered; then again while `--crowd` other hosts have their flows in the anchor's table. Nothing is
compared with a peer: the questions are microseconds of processor time a flow, and packets of the stream that are lost.

Before that the slow path: ICMP echoes, each of which four passes of Python forward (host and anchor, both ways), beside
datagrams of a known flow, which it never sees. A fourth of what the former take longer is one pass.
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bench._ground import AN, CH, MH, TARGET, Ground, answers, ground, machine, until
from bench.latency import ASK
from bench.scale import ECHO, Anchor, answer, order
from sojourn.api.client import Client
from sojourn.lab import namespaces
from sojourn.lab.processes import Piped

OPEN = """
import json, socket, sys, time
target, count, rate, first = sys.argv[1], *map(int, sys.argv[2:])
socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(1 + count // 16384)]
for each in socks: each.sendto(b"x", (target, 9))
time.sleep(0.5); began = time.monotonic(); failed = 0
for number in range(count):
    try: socks[number // 16384].sendto(b"new flow", (target, first + number % 16384))
    except OSError: failed += 1
    if number % 20 == 19:
        ahead = began + (number + 1) / rate - time.monotonic()
        if ahead > 0: time.sleep(ahead)
print(json.dumps({"count": count, "seconds": round(time.monotonic() - began, 2), "failed": failed}))
"""
STREAM = """
import json, select, socket, sys, time
target, seconds = sys.argv[1], float(sys.argv[2])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect((target, 3000)); s.setblocking(False)
sent = 0; came = {}; began = time.monotonic(); last = None; gap = 0.0
while True:
    now = time.monotonic()
    if sent < seconds * 200 and now >= began + sent / 200:
        s.send(sent.to_bytes(4, "big")); sent += 1; continue
    if now > began + seconds + 1.5: break
    if select.select([s], [], [], 0.002)[0]:
        number = int.from_bytes(s.recv(64)[:4], "big"); came[number] = came.get(number, 0) + 1
        now = time.monotonic(); gap = max(gap, now - last if last else 0.0); last = now
print(json.dumps({"sent": sent, "lost": sent - len(came), "doubled": sum(came.values()) - len(came),
                  "longest_gap_ms": round(gap * 1000, 1)}))
"""
KINDS = {"sojourn-send": "sending", "sojourn-receive": "receiving", "sojourn-help": "receiving"}
"""What the core's threads are called (core/worker.c)."""


def data_path(namespace: str) -> int:
    """Return the data-path process of a namespace that works: it has the core's threads, its spare has not."""
    for pid in namespaces.pids(namespace):
        tasks = Path(f"/proc/{pid}/task")
        if any((task / "comm").read_text().startswith("sojourn-send") for task in tasks.iterdir()):
            return pid
    raise RuntimeError("no data path with a C core")


def microseconds(pid: int) -> Counter[str]:
    """Return the processor time that each kind of thread of a process has used."""
    used: Counter[str] = Counter()
    for task in Path(f"/proc/{pid}/task").iterdir():
        kind = KINDS.get((task / "comm").read_text().strip(), "python")
        used[kind] += int((task / "schedstat").read_text().split()[0]) // 1000
    return used


class Ends:
    """Whose processor time is counted."""

    def __init__(self, anchor: Anchor, host: int) -> None:
        self.pids = {
            "anchor_path": data_path(AN), "anchor_control": anchor.process.pid,
            "host_path": data_path(MH), "host_control": host,
        }  # fmt: skip

    def used(self) -> dict[str, Counter[str]]:
        return {name: microseconds(pid) for name, pid in self.pids.items()}


def burst(
    built: Ground, ends: Ends, anchor: Anchor, host: Client, given: argparse.Namespace, first: int
) -> dict[str, Any]:
    """Open flows beside the stream; say what they cost."""
    seconds = given.flows / given.rate
    flows = (len(host.call("flows")), anchor.client.call("status")["flows"])
    stream = built.start(MH, f"stream{first}", sys.executable, "-c", STREAM, TARGET, str(seconds + 3))
    time.sleep(1.0)
    before, counted = ends.used(), Counter(anchor.client.call("status")["totals"])
    opener = built.start(
        MH, f"open{first}", sys.executable, "-c", OPEN, TARGET, str(given.flows), str(given.rate), str(first)
    )
    opener.wait_for("failed", 60 + 4 * seconds)
    time.sleep(1.0)
    after = ends.used()
    stream.wait_for("longest_gap_ms", 60)
    used = {
        name: {kind: round((after[name][kind] - before[name][kind]) / given.flows, 1) for kind in after[name]}
        for name in ends.pids
    }
    return {
        "opened": json.loads(opener.output().splitlines()[-1]),
        "known_at_host": len(host.call("flows")) - flows[0],
        "known_at_anchor": anchor.client.call("status")["flows"] - flows[1],
        "flows_before_at_anchor": flows[1],
        "anchor_counted": dict(Counter(anchor.client.call("status")["totals"]) - counted),
        "us_per_flow": used,
        "us_per_flow_path": {end: round(sum(used[f"{end}_path"].values()), 1) for end in ("host", "anchor")},
        "stream": json.loads(stream.output().splitlines()[-1]),
    }


def slow_path(built: Ground, count: int = 400) -> dict[str, float]:
    """Return microseconds: medians of an echo through Python, of a datagram through the core, and of one slow pass."""
    said = built.run(MH, "ping", "-c", str(count), "-i", "0.01", TARGET, timeout=60)
    took = sorted(float(line.split("time=")[1].split()[0]) * 1000 for line in said.splitlines() if "time=" in line)
    known = json.loads(built.run(MH, sys.executable, "-c", ASK.replace("], 7)", "], 3000)"), TARGET, str(count)))
    echo = took[len(took) // 2]
    return {"echo_us": echo, "known_us": known["median_us"], "one_pass_us": round((echo - known["median_us"]) / 4, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flows", type=int, default=15000)
    parser.add_argument("--rate", type=int, default=10000)
    parser.add_argument("--crowd", type=int, default=8, help="hosts with 12,500 flows each; 0: none")
    given = parser.parse_args()
    result: dict[str, Any] = {"bench": "newflows", **machine(), "rate": given.rate}
    with ground() as built:
        namespaces.ip(MH, [f"addr add 192.0.2.{10 + number}/24 dev mh0" for number in range(8)])
        namespaces.run(CH, "nft", "-f", "-", stdin="table ip quiet { chain in { type filter hook input priority 0; "
                       "udp dport != 3000 drop; }; }\n")  # fmt: skip
        anchor = Anchor(built, 1 + given.crowd)
        built.start(CH, "echo", sys.executable, "-c", ECHO).wait_for("ready", 5)
        tokens = anchor.tokens
        program = sys.executable, "-m", "sojourn"
        folder, socket = built.folder / "host", str(built.folder / "host.sock")
        built.run(MH, *program, "join", tokens[0], "--config-dir", str(folder), "--name", "bench")
        daemon = built.start(MH, "host", *program, "host", "--config-dir", str(folder), "--socket", socket)
        daemon.wait_for("ready", 20)
        host = Client(socket, 60.0)
        until(lambda: host.call("status")["state"] == "associated", "association")
        until(lambda: answers(built), "sojourn")
        result["slow_path"] = slow_path(built)
        ends = Ends(anchor, daemon.pid)
        result["alone"] = burst(built, ends, anchor, host, given, 1024)
        print(json.dumps(result["alone"]), file=sys.stderr, flush=True)
        if given.crowd:
            result["crowded"] = crowded(built, ends, anchor, host, given, tokens[1:])
    print(json.dumps(result, indent=1))


def crowded(
    built: Ground, ends: Ends, anchor: Anchor, host: Client, given: argparse.Namespace, tokens: list[str]
) -> dict[str, Any]:
    """Do it again, with a hundred thousand flows in the anchor's table."""
    names = built.folder / "tokens"
    names.write_text("\n".join(tokens) + "\n")
    argv = [sys.executable, "-m", "bench._crowd", str(names), "8"]
    with Piped(namespaces.entering(MH, ["env", f"PYTHONPATH={os.getcwd()}:{os.getcwd()}/src", *argv])) as crowd:
        answer(crowd)  # "ready"
        order(crowd, register=len(tokens))
        for _ in range(2):  # what was too fast for its socket the first time begins now
            order(crowd, flows=12500, ports=100)  # one address of the anchor has 64,000 ports towards each
        time.sleep(2.0)
        found = burst(built, ends, anchor, host, given, 20000)
        crowd.stdin.close()
    return found


if __name__ == "__main__":
    main()
