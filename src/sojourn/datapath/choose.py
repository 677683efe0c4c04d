"""Which engine moves the packets, and why: the C core where it was built, else Python.

    SOJOURN_ENGINE=python      in the environment of the data-path process: Python in any case, for all tunnels
    SOJOURN_ENGINE=core        the core, or no data path at all; for all tunnels
    SOJOURN_ENGINE=kernel      as without the variable: plain tunnels by the kernel path, where it can be had

Both speak the same wire and keep the same books; a process may be replaced by one of the other kind.
"""

from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct

from sojourn.errors import ConfigError, NotSupported

VARIABLE: Final = "SOJOURN_ENGINE"
PYTHON, CORE, KERNEL = "python", "core", "kernel"


class Choice(Struct, frozen=True):
    """One engine, by name."""

    name: str
    why: str
    kernel: bool = True
    """Plain tunnels may be the kernel's (kernel_engine.py)."""


def _load_core() -> str:
    """Load the extension module; return what it seals with."""
    from sojourn.datapath import _core

    return _core.libcrypto()


def choose(environment: Mapping[str, str], load: Callable[[], str] = _load_core) -> Choice:
    """Return which engine serves; ConfigError for a word that is none, NotSupported where the core must and cannot."""
    wanted = environment.get(VARIABLE, "").strip().lower()
    if wanted not in ("", PYTHON, CORE, KERNEL):
        raise ConfigError(
            f"environment variable {VARIABLE}", f"{wanted} is no engine", f"Use {KERNEL}, {CORE} or {PYTHON}."
        )
    if wanted == PYTHON:
        return Choice(PYTHON, f"{VARIABLE} says so", kernel=False)
    try:
        return Choice(CORE, load(), kernel=wanted != CORE)
    except ImportError as error:
        if wanted == CORE:
            raise NotSupported("the C core", f"its extension module, which cannot be loaded: {error}") from error
        return Choice(PYTHON, f"the C core was not built, or cannot be loaded: {error}")
