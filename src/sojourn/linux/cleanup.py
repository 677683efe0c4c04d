"""Remove all that Sojourn ever puts into the kernel, with nothing but the kernel's state to go by."""

import asyncio
import contextlib
from collections.abc import Iterable

from sojourn.linux import bpf_tc, device, dns, nft, pins, routes, splice_tables, sysctl


async def cleanup(devices: Iterable[str] = ("sojourn0",)) -> list[str]:
    """Remove rules, routes, tables, devices and changed settings of this namespace; say what went.

    `devices` are removed as well as those that our routes lead to. Repeated it finds nothing.
    Raises OSError without permission, NotSupported without nft.
    """
    found = set(devices) | await routes.tunnel_devices()
    gone = await routes.cleanup()
    for table in (nft.HOST_TABLE, nft.HELD_TABLE, nft.ANCHOR_TABLE):
        if await asyncio.to_thread(nft.remove, table):
            gone.append(f"nftables table inet {table}")
    for name in sorted(found):
        if device.exists(name):
            await dns.down(name)
            with contextlib.suppress(FileExistsError):  # somebody else's interface of that name
                await device.delete(name)
                gone.append(f"device {name}")
    gone += await asyncio.to_thread(bpf_tc.detach_filters)
    gone += await asyncio.to_thread(splice_tables.remove_all)
    gone += await asyncio.to_thread(pins.remove_all)
    gone += [f"setting {key}" for key in await asyncio.to_thread(sysctl.restore)]
    return gone
