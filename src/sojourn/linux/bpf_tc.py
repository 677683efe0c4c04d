"""BPF programs at tc, and the maps by which a running program is told and read (datapath/kernel.py uses them).

A program is attached by a tcx link where the kernel has those (Linux 6.6: it ends with the last holder of the link's
descriptor), else as a filter of a clsact qdisc, which has to be removed. All here needs CAP_NET_ADMIN and descriptors
that somebody else has loaded (linux/bpf.py); errors are OSErrors.
"""

import contextlib
import ctypes
import errno
import mmap
import os
import platform
import socket
import struct
from typing import Any, Final

from sojourn.linux.confine import ARCHITECTURES, BPF_LINK_CREATE
from sojourn.linux.ethtool import hardware

# <linux/bpf.h>
TCX_INGRESS, TCX_EGRESS = 46, 47

FILTER: Final = "sojourn"
PRIORITY: Final = 53
"""Of our filters at a clsact qdisc."""
_INGRESS_HOOK, _EGRESS_HOOK = 0xFFFFFFF2, 0xFFFFFFF3
_ETH_P_ALL: Final = 3

# <linux/if_arp.h>
_WITH_ETHERNET_HEADER: Final = frozenset((1, 772))


class SharedArray:
    """An array map (BPF_F_MMAPABLE) as memory: to read or write it costs no system call."""

    def __init__(self, fd: int, layout: struct.Struct, entries: int) -> None:
        """Map it; the descriptor is not needed afterwards."""
        self._layout = layout
        size = -(-layout.size * entries // mmap.PAGESIZE) * mmap.PAGESIZE
        self._memory = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return self._layout.unpack_from(self._memory, index * self._layout.size)

    def __setitem__(self, index: int, values: tuple[Any, ...]) -> None:
        self._layout.pack_into(self._memory, index * self._layout.size, *values)

    def close(self) -> None:
        """Unmap it."""
        self._memory.close()


def has_ethernet_header(interface: str) -> bool:
    """Say how packets of an interface begin. OSError when it is not there."""
    return hardware(interface).kind in _WITH_ETHERNET_HEADER


def attach_tcx(program: int, interface: int, *, egress: bool) -> int:
    """Attach a program and return the link's descriptor. OSError (EINVAL) before Linux 6.6."""
    attributes = ctypes.create_string_buffer(
        struct.pack("=IIII48x", program, interface, TCX_EGRESS if egress else TCX_INGRESS, 0), 64
    )
    link: int = _syscall(_BPF, BPF_LINK_CREATE, attributes, len(attributes))
    if link < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"tcx: {os.strerror(number)}")
    os.set_inheritable(link, False)
    return link


def attach_filter(program: int, interface: int, *, egress: bool, priority: int = PRIORITY) -> None:
    """Attach a program as a filter of the interface's clsact qdisc, which is made where it is not there."""
    from pyroute2 import IPRoute, NetlinkError

    with IPRoute() as ask:
        try:
            with contextlib.suppress(NetlinkError):
                ask.tc("add", "clsact", interface)
            ask.tc(
                "replace-filter", "bpf", interface, ":1", fd=program, name=FILTER, parent=_hook(egress),
                prio=priority, classid=1, direct_action=True, protocol=_ETH_P_ALL,
            )  # fmt: skip
        except NetlinkError as error:
            raise OSError(error.code, f"clsact: {error.args[-1]}") from error


def detach_filter(interface: int, *, egress: bool, priority: int = PRIORITY) -> bool:
    """Remove our filter, and say whether it was there. The qdisc stays: others may use it."""
    from pyroute2 import IPRoute, NetlinkError

    with IPRoute() as ask:
        try:
            ask.tc("del-filter", "bpf", interface, ":1", parent=_hook(egress), prio=priority, protocol=_ETH_P_ALL)
        except NetlinkError as error:
            if error.code in (errno.ENOENT, errno.EINVAL, errno.ENODEV, errno.EOPNOTSUPP):
                return False
            raise OSError(error.code, f"clsact: {error.args[-1]}") from error
    return True


def detach_filters(priority: int = PRIORITY) -> list[str]:
    """Remove our filters from all interfaces of this namespace; return which those were."""
    gone = []
    for index, name in socket.if_nameindex():
        for egress in (True, False):
            if detach_filter(index, egress=egress, priority=priority):
                gone.append(f"filter at the {'egress' if egress else 'ingress'} of {name}")
    return gone


def _hook(egress: bool) -> int:
    return _EGRESS_HOOK if egress else _INGRESS_HOOK


_architecture: Final = ARCHITECTURES.get(platform.machine())
_BPF: Final = ctypes.c_long(_architecture.bpf if _architecture is not None else -1)
_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long
