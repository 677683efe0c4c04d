"""Whether the SOCKS proxy asks its kernel to splice, and who says so."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from sojourn.control.socks_config import SocksConfig
from sojourn.errors import ConfigError

VARIABLE: Final = "SOJOURN_SPLICE"


class Asked(Struct, frozen=True):
    """What is wanted."""

    splice: bool
    why: str


def choose(config: SocksConfig, environment: Mapping[str, str]) -> Asked:
    """Choose by the environment, else by anchor.toml. Raises ConfigError for a word that is neither on nor off."""
    word = environment.get(VARIABLE, "").strip().lower()
    if word not in ("", "on", "off"):
        fix = "Unset it, and anchor.toml decides ([socks] splice)."
        raise ConfigError(VARIABLE, f"{word!r} is neither on nor off", fix)
    if word:
        return Asked(word == "on", f"{VARIABLE}={word}")
    return Asked(config.splice, f"[socks] splice = {str(config.splice).lower()}")
