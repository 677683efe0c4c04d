"""Which Linux runs here, for what a later one has and this one has not."""

import os
import re


def kernel() -> tuple[str, tuple[int, int]]:
    """Return what the kernel calls itself ("6.1.0-18-amd64"), and its version's first two numbers."""
    release = os.uname().release
    major, minor, *_ = (*map(int, re.findall(r"[0-9]+", release)), 0, 0)
    return release, (major, minor)
