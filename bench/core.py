"""The C core's loops alone: source and sink in memory, one thread and two, each cipher. Gbit/s of TCP payload.

Each thread seals super-packets of 45 segments, all on one tunnel, and opens what it has sealed; so one number is a
host's sending thread and an anchor's receiving thread one after the other. No system call, no kernel.
"""

import argparse
import json
from typing import Any

from bench._ground import machine, median
from sojourn.datapath import _core
from sojourn.packet.seal import Aead


def once(threads: int, seconds: float, aead: Aead, *, opening: bool) -> dict[str, float]:
    sealed, opened, _, took, processors = _core.bench(threads, seconds, aead, opening)
    assert not opening or opened >= sealed
    return {"gbit_s": sealed * 8 / took / 1e9, "cpu_s_per_gb": processors / (sealed / 1e9)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0)
    given = parser.parse_args()
    result: dict[str, Any] = {"bench": "core", "libcrypto": _core.libcrypto(), **machine()}
    for aead in Aead:
        for name, opening in (("seal", False), ("seal_and_open", True)):
            rounds = [[once(n, given.seconds, aead, opening=opening) for n in (1, 2)] for _ in range(given.runs)]
            one, two = ({key: median([each[n][key] for each in rounds]) for key in rounds[0][n]} for n in (0, 1))
            ratio = round(two["gbit_s"] / one["gbit_s"], 2)
            result[f"{aead.name.lower()}_{name}"] = {"one_thread": one, "two_threads": two, "two_by_one": ratio}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
