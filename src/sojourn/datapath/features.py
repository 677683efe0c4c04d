"""What of the kernel's batching the engine uses, and how a user or a test turns parts of it off.

    SOJOURN_WITHOUT=uso,gro      in the environment of the data-path process

    tso  TCP super-packets from and to the TUN        uso  the same for UDP (Linux 6.2)
    gso  many datagrams by one call (UDP_SEGMENT)     gro  many datagrams from one call (UDP_GRO), and joined TCP
    tcx  BPF programs by links that end with their owner (Linux 6.6), for the kernel path

Everything works without any of them, more slowly. What the kernel lacks is found out where it is used.
"""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from sojourn.errors import ConfigError

VARIABLE: Final = "SOJOURN_WITHOUT"


class Features(Struct, frozen=True):
    """What may be used."""

    tso: bool = True
    uso: bool = True
    gso: bool = True
    gro: bool = True
    tcx: bool = True


def from_environment(environment: Mapping[str, str]) -> Features:
    """Read the variable; raise ConfigError for a word in it that names no feature."""
    words = [word.strip().lower() for word in environment.get(VARIABLE, "").split(",")]
    without = {word: False for word in words if word}
    unknown = without.keys() - set(Features.__struct_fields__)
    if unknown:
        raise ConfigError(
            f"environment variable {VARIABLE}",
            f"no feature is called {', '.join(sorted(unknown))}",
            f"Use any of {', '.join(Features.__struct_fields__)}, with commas between them.",
        )
    return Features(**without)
