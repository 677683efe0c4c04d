"""What a proxy, or the local entrance, holds: looked at before and after a test, so that nothing stays behind."""

import hashlib
import os

from sojourn.lab import namespaces
from sojourn.lab.processes import Child
from sojourn.linux import bpf_pin
from sojourn.linux.bpf_map import BpfMap
from tests.net.socks_lab import SocksLab

SOME_MEMORY = 3 << 20
"""Bytes that one test may leave in the interpreter's pools: a session that stayed would keep its rings beside them."""


def key(place: SocksLab) -> str:
    """Return by what the proxy's pinned programs and maps are named."""
    return hashlib.sha256(str(place.anchor_folder).encode()).hexdigest()[:12]


def tuples(place: SocksLab) -> int:
    """Return how many connections the kernel's program knows; none where the proxy only relays."""
    found = 0
    for folder in bpf_pin.place().glob(f"sojourn-*-{key(place)}/*"):
        for name, size in (("tuples4", 12), ("tuples6", 36)):
            fd = bpf_pin.get(folder / name)
            assert fd is not None
            found += len(list(BpfMap(fd, size, 4).keys()))
            os.close(fd)
    return found


def sockets(place: SocksLab, role: str = "an") -> int:
    """Return how many TCP connections there are at one machine, the kernel's own TIME-WAIT not counted."""
    listed = namespaces.run(place.lab.namespace(role), "ss", "-Htan", "state", "connected")
    return sum("TIME-WAIT" not in line for line in listed.splitlines())


def memory(process: Child | None) -> int:
    """Return the resident bytes of the proxy, or of the entrance."""
    assert process is not None
    with open(f"/proc/{process.pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
