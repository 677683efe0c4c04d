"""A call over two networks at once: 50 packets/s both ways, a network silently killed, ten times. Nothing may be lost.

Each run is a lab of its own, with fresh daemons; wifi and cellular die in turn. Printed: what was lost, doubled and
waited for, and how many copies each end sent and dropped.
"""

import argparse
import json
import os
from typing import Any

import msgspec

from bench._ground import machine
from sojourn.lab.copied import copied
from sojourn.lab.report import Happened, Result
from sojourn.lab.runner import Moment, Run


class Quiet:
    def step(self, text: str) -> None: ...

    def happened(self, event: Happened) -> None: ...

    def tick(self, moment: Moment) -> None: ...


def summary(network: str, result: Result) -> dict[str, Any]:
    """Return the call's figures in each direction, and whether each limit was kept."""
    keys = ("name", "sent", "received", "lost", "doubled", "disordered", "longest_gap_ms", "gap_at", "broken")
    streams = [msgspec.to_builtins(stream) for stream in result.streams]
    return {
        "killed": network,
        "host": [event.text for event in result.events][-1],
        "streams": [{key: stream[key] for key in keys if key in stream} for stream in streams],
        "checks": [msgspec.to_builtins(check) for check in result.checks],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=9.0)
    given = parser.parse_args()
    prefix = f"sjc{os.getpid() % 10000}"
    runs = []
    for number in range(given.runs):
        network = ("wifi", "cellular")[number % 2]
        result = Run(copied(network, seconds=given.seconds), prefix, Quiet()).run()
        runs.append(summary(network, result))
    streams = [stream for run in runs for stream in run["streams"]]
    print(json.dumps({
        "bench": "copies", **machine(), "kills": given.runs,
        "lost": sum(stream["lost"] or 0 for stream in streams),
        "doubled": sum(stream["doubled"] or 0 for stream in streams),
        "longest_gap_ms": max(stream["longest_gap_ms"] or 0.0 for stream in streams),
        "runs": runs,
    }, indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
