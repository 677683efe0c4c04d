"""Ten thousand flows moved by one request, by match and as an explicit list: milliseconds from order to confirmation.

The anchor confirms after its last row has changed, so the figures include one round trip.
"""

import argparse
import json
import os
import sys
import time
from typing import Any

from bench._ground import machine
from sojourn.api.client import Client
from sojourn.lab import topology
from sojourn.lab.daemons import Daemons
from sojourn.lab.topology import Lab, Topology

OPEN = """
import resource, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
opened = []
for port in range(int(sys.argv[2])):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.sendto(b"x", (sys.argv[1], 3000)); opened.append(s)
    if port % 50 == 49: time.sleep(0.02)
print("ready", flush=True); time.sleep(600)
"""


def confirmed(client: Client, after: int, seconds: float = 20.0) -> dict[str, Any]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for entry in client.stream("log", limit=20, follow=False):
            if entry["number"] > after and entry["event"] == "confirmed":
                return dict(entry)
        time.sleep(0.05)
    raise RuntimeError("the handover was not confirmed")


def newest(client: Client) -> int:
    return max((int(entry["number"]) for entry in client.stream("log", limit=1, follow=False)), default=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flows", type=int, default=10000)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    lab = Lab(Topology(prefix=f"sjf{os.getpid() % 10000}"))
    try:
        lab.up()
        daemons = Daemons(lab)
        daemons.set_up()
        daemons.start()
        target = lab.topology.correspondent.address
        argv = [sys.executable, "-c", OPEN, target, str(given.flows)]
        lab.start(topology.MOBILE_HOST, "opener", argv).wait_for("ready", 120)
        client = Client(str(daemons.host_socket), 60.0)
        flows = [flow for flow in client.call("flows") if flow["remote"].endswith(":3000")]
        networks = [network["name"] for network in client.call("networks")]
        orders: dict[str, dict[str, Any]] = {
            "match": {"match": "-p udp --dport 3000"},
            "list": {"flow": [flow["id"] for flow in flows]},
        }
        result: dict[str, Any] = {"bench": "flows", **machine(), "flows": len(flows), "ms": {}}
        for name, order in orders.items():
            for run in range(given.runs):
                after = newest(client)
                moved = client.call("handover", to=networks[(run + 1) % 2], **order)
                entry = confirmed(client, after)
                seconds = float(str(entry["decision"]).split("seconds ")[1].split(",")[0])
                figure = {"moved_here": moved.get("moved"), "ms": round(seconds * 1000, 1)}
                result["ms"].setdefault(name, []).append(figure)
        print(json.dumps(result, indent=1))
    finally:
        lab.down()


if __name__ == "__main__":
    main()
