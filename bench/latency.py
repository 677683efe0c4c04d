"""UDP request and response, 64 bytes, through each tunnel: microseconds, both ends pinned to a processor each."""

import argparse
import json
import sys
from typing import Any

from bench._ground import CH, MH, TARGET, ground, machine, median
from bench._peers import PEERS, USUAL, Missing

ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", 7)); print("ready", flush=True)
while True:
    data, where = s.recvfrom(2048); s.sendto(data, where)
"""
ASK = """
import json, socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect((sys.argv[1], 7)); s.settimeout(1)
took = []
for n in range(int(sys.argv[2])):
    t = time.perf_counter_ns(); s.send(b"x" * 64)
    try: s.recv(2048)
    except TimeoutError: continue
    took.append((time.perf_counter_ns() - t) / 1000)
took = sorted(took[len(took) // 10:])
print(json.dumps({"median_us": took[len(took) // 2], "p99_us": took[len(took) * 99 // 100], "answered": len(took)}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--peers", default=USUAL)
    given = parser.parse_args()
    result: dict[str, Any] = {"bench": "latency", **machine(), "peers": {}}
    runs: dict[str, list[dict[str, float]]] = {}
    for _ in range(given.runs):
        for name in given.peers.split(","):
            with ground() as built:
                try:
                    PEERS[name](built)
                except Missing as error:
                    result["peers"][name] = {"peer missing": str(error)}
                    continue
                built.start(CH, "echo", "taskset", "-c", "1", sys.executable, "-c", ECHO).wait_for("ready", 5)
                said = built.run(MH, "taskset", "-c", "0", sys.executable, "-c", ASK, TARGET, str(given.count))
                runs.setdefault(name, []).append(json.loads(said))
    for name, measured in runs.items():
        result["peers"][name] = {key: median([run[key] for run in measured], 1) for key in measured[0]}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
