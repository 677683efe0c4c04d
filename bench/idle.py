"""A host with two networks up and no traffic: what part of one processor its processes take.

The lab's usual ground, real daemons, `--seconds` after the first ones; an anchor with this one host beside it. There is
no peer: the limit is 0.5 %.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any, Final

from bench._ground import cpu_seconds, machine
from sojourn.lab import namespaces
from sojourn.lab.daemons import Daemons
from sojourn.lab.topology import Lab, Topology

LIMIT_PERCENT: Final = 0.5
SETTLED: Final = 10.0
"""Seconds after which what a start brings with it is over."""


def spent(lab: Lab, role: str) -> dict[str, float]:
    """Return the processor seconds of each of our processes at one role, children's children included."""
    found: dict[str, float] = {}
    for pid in namespaces.pids(lab.namespace(role)):
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"sojourn" in line:
            name = f"{'data path' if b'datapath.process' in line else 'control'} {pid}"
            found[name] = cpu_seconds(pid)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    given = parser.parse_args()
    result: dict[str, Any] = {"bench": "idle", **machine(), "seconds": given.seconds, "limit_percent": LIMIT_PERCENT}
    lab = Lab(Topology(prefix=f"idb{os.getpid() % 10000}"))
    lab.up()
    try:
        daemons = Daemons(lab)
        daemons.set_up()
        daemons.start()
        time.sleep(SETTLED)
        for role, name in (("mh", "host"), ("an", "anchor")):
            before = spent(lab, role)
            time.sleep(given.seconds)
            after = spent(lab, role)
            parts = {key: round((after[key] - before.get(key, 0.0)) / given.seconds * 100, 3) for key in after}
            result[name] = {"percent": round(sum(parts.values()), 3), "of": parts}
        result["networks"] = daemons.network_states()
        daemons.stop()
    finally:
        lab.down()
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
