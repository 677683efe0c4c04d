"""What a proxy holds: looked at before and after a test, so that nothing stays behind."""

import hashlib
import os

from sojourn.lab import namespaces
from sojourn.linux import bpf_pin
from sojourn.linux.bpf_map import BpfMap
from tests.net.socks_lab import SocksLab


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


def sockets(place: SocksLab) -> int:
    """Return how many TCP connections there are at the anchor, the kernel's own TIME-WAIT not counted."""
    listed = namespaces.run(place.lab.namespace("an"), "ss", "-Htan", "state", "connected")
    return sum("TIME-WAIT" not in line for line in listed.splitlines())


def memory(place: SocksLab) -> int:
    """Return the proxy's resident bytes."""
    assert place.proxy is not None
    with open(f"/proc/{place.proxy.pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
