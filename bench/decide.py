"""How long a decision takes: 10,000 flows, many policies, and a network that dies or gets worse. JSON.

From the event in control to the plan, written out. What the data path then does with its rows, and the anchor with
its own, is bench/handover.py's.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import msgspec

from bench._ground import machine
from sojourn.control.decide import Decide, Preferences
from sojourn.control.measures import PathMeasured
from sojourn.model import TCP, Endpoint, Flow, Network, TunnelId
from sojourn.policy.match import parse
from sojourn.policy.rules import DEFAULT, Policy, Require, Subject
from sojourn.upmt.events import TunnelMeasured
from sojourn.upmt.host_events import Handover, PathOpened, PathSilent, PathTested

NETWORKS = (
    Network("wifi", "wlan0", "10.0.2.2", "10.0.2.1", "wifi"),
    Network("phone", "wwan0", "10.0.3.2", "10.0.3.1", "cellular"),
    Network("wire", "eth0", "10.0.1.2", "10.0.1.1", "ethernet"),
)


def policies(count: int) -> list[Policy]:
    """Return some policies that watch the loss, and that stay with long transfers, every second of them each."""
    return [
        Policy(
            f"app{number}", Subject(match=(parse(f"-p tcp --dport {8000 + number}"),)), ("wifi", "cellular"),
            Require(loss=0.02), stay=bool(number % 2),
        )
        for number in range(count)
    ] + [Policy(DEFAULT, networks=("wifi", "cellular", "*"))]  # fmt: skip


def filled(flows: int, count: int) -> Decide:
    """Return a decision over that many flows and policies, all on the Wi-Fi."""
    decide = Decide(Preferences(("wifi", "cellular", "*")), policies(count))
    for network in NETWORKS[:2]:
        decide.handle(PathOpened(network), 0.0)
        decide.handle(PathTested(network.name, 0.02), 0.0)
    decide.tick(60.0)
    for number in range(flows):
        label = f"app{number % count}" if count else ""
        port = 8000 + number % max(count, 1)
        flow = Flow(TCP, Endpoint("10.201.0.2", 1024 + number % 60000), Endpoint(f"198.51.{number >> 8 & 255}.1", port))
        decide.flows.seen(flow, "wifi", label)
    return decide


def worse(decide: Decide) -> Callable[[], list[Handover]]:
    """Return what tells of a loss of 10 %."""

    def report(at: float, packets: int, lost: int) -> list[Handover]:
        counts = (packets, packets - lost, packets, packets)
        told = TunnelMeasured(TunnelId(1), 0.02, 0.001, 0.001, None, None, 1400, 0, 0, 0, 0, counts=counts)
        return decide.handle(PathMeasured("wifi", told), at)

    for step in range(5):
        report(100.0 + 0.2 * step, 10 * step, 0)
    report(101.0, 140, 20)
    return lambda: report(101.2, 150, 21)


def dead(decide: Decide) -> Callable[[], list[Handover]]:
    """Return what tells of a network that has died."""
    return lambda: decide.handle(PathSilent("wifi", 0.2), 100.0)


def milliseconds(do: Callable[[], list[Handover]]) -> tuple[float, list[Handover]]:
    began = time.perf_counter()
    result = do()
    return (time.perf_counter() - began) * 1000, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flows", type=int, default=10_000)
    parser.add_argument("--policies", type=int, default=20)
    parser.add_argument("--runs", type=int, default=10)
    given = parser.parse_args()
    result: dict[str, Any] = {"bench": "decide", **machine(), "flows": given.flows, "policies": given.policies}
    for name, count in (("default alone", 0), ("policies", given.policies)):
        for event in ("network silent", "loss of 10 %"):
            took, rows = [], 0
            for _ in range(given.runs):
                decide = filled(given.flows, count)
                act = (
                    worse(decide)
                    if event != "network silent"
                    else lambda d=decide: d.handle(PathSilent("wifi", 0.2), 100.0)
                )
                spent, handovers = milliseconds(act)
                began = time.perf_counter()
                msgspec.msgpack.encode([handover.plan for handover in handovers])
                took.append(spent + (time.perf_counter() - began) * 1000)
                rows = sum(len(handover.plan) for handover in handovers)
            result[f"{name}, {event}"] = {
                "median_ms": round(statistics.median(took), 2), "worst_ms": round(max(took), 2), "rows": rows,
                "limit_ms": 100.0,
            }  # fmt: skip
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
