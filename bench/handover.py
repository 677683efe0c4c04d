"""Handovers in the lab: longest gap, packets lost and doubled, each scenario `--runs` times, and once without Sojourn.

50 packets/s each way (and what the scenario has beside); the figures and limits are the scenarios' own.
"""

import argparse
import json
import os
from typing import Any

import msgspec

from bench._ground import machine
from sojourn.lab.report import Happened, Result
from sojourn.lab.runner import Moment, Run
from sojourn.lab.scenarios import SCENARIOS

DEFAULT = "planned,link-pulled,silent-death,new-network-after-none,unequal-delay"


class Quiet:
    def step(self, text: str) -> None: ...

    def happened(self, event: Happened) -> None: ...

    def tick(self, moment: Moment) -> None: ...


def summary(result: Result) -> dict[str, Any]:
    return {
        "streams": [
            {key: value for key, value in msgspec.to_builtins(stream).items()
             if key in ("name", "broken", "longest_gap_ms", "lost", "doubled", "disordered", "errors")}
            for stream in result.streams
        ],
        "checks": [msgspec.to_builtins(check) for check in result.checks],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--scenarios", default=DEFAULT)
    given = parser.parse_args()
    result: dict[str, Any] = {"bench": "handover", **machine(), "scenarios": {}}
    for name in given.scenarios.split(","):
        scenario = SCENARIOS[name]()
        prefix = f"sjh{os.getpid() % 10000}"
        runs = [summary(Run(scenario, prefix, Quiet()).run()) for _ in range(given.runs)]
        bare = summary(Run(scenario, prefix, Quiet(), sojourn=False, grace=2.0).run())
        result["scenarios"][name] = {"purpose": scenario.purpose, "sojourn": runs, "without": bare["streams"]}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
