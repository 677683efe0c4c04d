"""How many threads of the C core move packets in each direction.

    SOJOURN_THREADS=2      in the environment of the daemon: 1 to 4; a new value counts once the device is made anew

A thread a direction keeps two processors busy, so that more are the rule only where there are more. One thread needs no
multi-queue device: whoever has two processors keeps the plain one.
"""

import os
from collections.abc import Mapping
from typing import Final

from sojourn.errors import ConfigError

VARIABLE: Final = "SOJOURN_THREADS"
MOST: Final = 4
"""MAX_WORKERS in datapath/core/packet.h."""


def threads_each_way(environment: Mapping[str, str] = os.environ, processors: int | None = None) -> int:
    """Return the number that is set, or one for every two processors; ConfigError for what is no number from 1 to 4."""
    wanted = environment.get(VARIABLE, "").strip()
    if not wanted:
        return max(1, min(MOST, (processors or len(os.sched_getaffinity(0))) // 2))
    if not wanted.isascii() or not wanted.isdigit() or not 1 <= int(wanted) <= MOST:
        raise ConfigError(
            f"environment variable {VARIABLE}", f"{wanted} is no number of threads", f"Use a number from 1 to {MOST}."
        )
    return int(wanted)
