"""The home address in the kernel: all home addresses are reached through the device, from our own.

The route is in the main table, where every rule of ours finds it (linux/capture.py), and goes with the device.
"""

import contextlib
import socket
from typing import Final

from pyroute2 import NetlinkError

from sojourn.linux.interfaces import INET6, MAIN_TABLE
from sojourn.linux.numbers import PROTOCOL
from sojourn.linux.rules import kernel
from sojourn.model import HOMES

METRIC: Final = 5200


async def lead(device: str, home: str) -> None:
    """Lead packets for home addresses into `device` (it exists and has `home`). OSError where the kernel refuses."""
    async with kernel() as ask:
        await ask.route(
            "replace", family=INET6, table=MAIN_TABLE, dst=HOMES, oif=socket.if_nametoindex(device), prefsrc=home,
            proto=PROTOCOL, priority=METRIC,
        )  # fmt: skip


async def leave(device: str) -> None:
    """Lead packets for home addresses nowhere any more: this host has no peers now. No route there is no error."""
    async with kernel() as ask:
        with contextlib.suppress(OSError, NetlinkError):
            await ask.route("del", family=INET6, table=MAIN_TABLE, dst=HOMES, priority=METRIC)
