"""Whether this kernel has tcx links (Linux 6.6), by its own list of symbols: not asked of the code that is tested."""

from pathlib import Path
from typing import Final

import pytest


def has_tcx() -> bool:
    """Say whether there are tcx links. A kernel that lists no symbols is taken to have them."""
    try:
        symbols = Path("/proc/kallsyms").read_text()
    except OSError:
        return True
    return not symbols or " tcx_link_attach\n" in symbols


needs_tcx: Final = pytest.mark.skipif(not has_tcx(), reason="this kernel has no tcx links (Linux 6.6)")
