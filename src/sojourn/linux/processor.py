"""What this computer's processor is good at, for the choice of a cipher.

SOJOURN_AEAD=chacha20-poly1305      in the environment of the host's daemon, or aes-256-gcm: asked for in any case
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sojourn.errors import ConfigError
from sojourn.packet.seal import Aead

VARIABLE: Final = "SOJOURN_AEAD"
NAMES: Final = {"aes-256-gcm": Aead.AES_256_GCM, "chacha20-poly1305": Aead.CHACHA20_POLY1305}


def has_aes(cpuinfo: str) -> bool:
    """Say whether /proc/cpuinfo tells of AES instructions (x86: flags; ARM: Features)."""
    fields = (line.partition(":") for line in cpuinfo.splitlines())
    return any("aes" in words.split() for name, _, words in fields if name.strip() in ("flags", "Features"))


def aeads(environment: Mapping[str, str] = os.environ, cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[Aead, ...]:
    """Return the ciphers to ask an anchor for, best first; ConfigError for a name that is none."""
    wanted = environment.get(VARIABLE, "").strip().lower()
    if wanted:
        if wanted not in NAMES:
            raise ConfigError(
                f"environment variable {VARIABLE}", f"{wanted} is no cipher", f"Use {' or '.join(NAMES)}."
            )
        return (NAMES[wanted],)
    both = (Aead.AES_256_GCM, Aead.CHACHA20_POLY1305)
    try:
        return both if has_aes(cpuinfo.read_text()) else both[::-1]
    except OSError:
        return both
