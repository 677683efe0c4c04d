"""The C core's threads alone: source and sink in memory, one thread and two, each cipher. Gbit/s of TCP payload.

    send     each thread seals super-packets of 45 segments, flows of its own, all on one tunnel
    receive  one tunnel's datagrams of eight flows, sealed before the clock runs: read, opened, marked in one replay
             window, put together in order (datapath/core/line.c)

No system call, no kernel. `two_by_one` says what a second thread gives: 1.5 is wanted, on two processors that are idle.
"""

import argparse
import json
import os
from typing import Any

from bench._ground import machine, median
from sojourn.datapath import _core
from sojourn.packet.seal import Aead


def once(threads: int, seconds: float, aead: Aead, *, receiving: bool) -> dict[str, float]:
    sealed, written, _, took, processors = _core.bench(threads, seconds, aead, receiving)
    assert not receiving or written >= sealed, "datagrams were lost"
    return {"gbit_s": sealed * 8 / took / 1e9, "cpu_s_per_gb": processors / (sealed / 1e9)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.6)
    given = parser.parse_args()
    load = os.getloadavg()[0]
    result: dict[str, Any] = {"bench": "core", "libcrypto": _core.libcrypto(), "load": load, **machine()}
    for aead in Aead:
        for name, receiving in (("send", False), ("receive", True)):
            rounds = [[once(n, given.seconds, aead, receiving=receiving) for n in (1, 2)] for _ in range(given.runs)]
            one, two = ({key: median([each[n][key] for each in rounds]) for key in rounds[0][n]} for n in (0, 1))
            ratios = [each[1]["gbit_s"] / each[0]["gbit_s"] for each in rounds]
            result[f"{aead.name.lower()}_{name}"] = {
                "one_thread": one,
                "two_threads": two,
                "two_by_one": median(ratios, 2),
                "two_by_one_runs": [round(ratio, 2) for ratio in ratios],
            }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
