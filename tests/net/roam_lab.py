"""The roaming lab for tests: namespaces that carry this process's number."""

import os
from pathlib import Path

from sojourn.lab.roaming import Roaming


def roam_lab(folder: Path, more: str = "") -> Roaming:
    """Return a lab that is not built yet; `more`: of its name, where another one stands."""
    return Roaming(folder, f"sjtrm{os.getpid() % 10000}{more}")
