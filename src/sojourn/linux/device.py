"""The persistent TUN device: it outlives the processes that read it, until `delete`."""

import contextlib
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sojourn.errors import NotSupported
from sojourn.linux import joiner
from sojourn.linux.numbers import PLACEHOLDER6
from sojourn.linux.rules import kernel
from sojourn.linux.threads import threads_each_way
from sojourn.linux.tun import IFF_MULTI_QUEUE, IFF_NO_PI, IFF_TUN, IFF_VNET_HDR, TUNSETIFF

TUNSETPERSIST = 0x400454CB
IFA_F_NODAD, IFA_F_NOPREFIXROUTE = 0x02, 0x200
ADDR_GEN_MODE_NONE = "1"
ARPHRD_NONE = 0xFFFE
LINK_LOCAL_SCOPE = 253
QUEUE = 2000
"""Packets that wait for the data path: what comes in the 10 ms for which a busy machine may keep it from running. With
the kernel's 500, a steady 110,000 small packets a second lost some of them now and then."""


async def create_tun(name: str, addresses: Sequence[str], mtu: int) -> None:
    """Make the device (or adopt it), up, with exactly these addresses ("10.201.0.7/32") and MTU.

    A data path opens it by name afterwards (linux/tun.py). It is multi-queue where several threads are to read it.
    Raises NotSupported where there is no TUN, OSError when the name belongs to another kind of interface.
    """
    made, many = not exists(name), threads_each_way() > 1
    if made:
        _create(name, many)
    async with kernel() as ask:
        index = await _index(ask, name)
        if made:
            await ask.link("set", index=index, txqlen=QUEUE)
            if many:
                await _no_discipline(ask, index)
        for family in ("ipv4", "ipv6"):
            # While nobody reads the device it has no carrier, and its routes must go on catching packets.
            _set_own(f"/proc/sys/net/{family}/conf/{name}/ignore_routes_with_linkdown", "0")
        # Whoever turned IPv6 off did so for the networks here; the tunnel has its own.
        _set_own(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "0")
        # A TUN device has no neighbours: a link-local address would only make router solicitations.
        _set_own(f"/proc/sys/net/ipv6/conf/{name}/addr_gen_mode", ADDR_GEN_MODE_NONE)
        await ask.link("set", index=index, mtu=mtu, state="up")
        await _set_addresses(ask, index, addresses)


async def delete(name: str) -> bool:
    """Remove the device with what belongs to it, and say whether it was there.

    Refuses anything that is not a TUN device.
    """
    if not exists(name):
        return False
    async with kernel() as ask:
        await ask.link("del", index=await _index(ask, name))
    joiner.remove(name)
    return True


def exists(name: str) -> bool:
    """Say whether an interface of this name is there."""
    try:
        return socket.if_nametoindex(name) > 0
    except OSError:
        return False


async def set_placeholder(name: str, *, wanted: bool) -> bool:
    """Add or remove the source of IPv6 that a kill switch holds back (linux/capture.py); say whether that changed."""
    async with kernel() as ask:
        index = await _index(ask, name)
        present = PLACEHOLDER6 in {address async for address, _ in _addresses(ask, index)}
        if wanted and not present:
            await _add(ask, index, f"{PLACEHOLDER6}/128")
        elif present and not wanted:
            await ask.addr("del", index=index, address=PLACEHOLDER6, prefixlen=128)
    return present is not wanted


def _create(name: str, many: bool) -> None:
    try:
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotSupported("the TUN device", "the kernel module tun: modprobe tun") from error
    except PermissionError as error:
        raise NotSupported("the TUN device", "root, or CAP_NET_ADMIN and access to /dev/net/tun") from error
    try:
        # With the vnet header from the start, so that a reader may have it (TUNSETIFF keeps the feature bits).
        kind = IFF_MULTI_QUEUE if many else 0
        request = struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI | IFF_VNET_HDR | kind)
        fcntl.ioctl(descriptor, TUNSETIFF, request)
        fcntl.ioctl(descriptor, TUNSETPERSIST, 1)
    finally:
        os.close(descriptor)


async def _no_discipline(ask: Any, index: int) -> None:  # noqa: ANN401
    """Let packets go to the device's queues at once, before it is up.

    Else each would get a queueing discipline of its own, 256 of them, since a device that may have several queues has
    room for so many: of fq_codel, systemd's default, 17 MB. None ever held a packet: a TUN device takes or drops.
    """
    await ask.tc("add", "noqueue", index=index, handle=0x10000)


def _set_own(path: str, value: str) -> None:
    """Set what goes with the device and so needs no restoring; a kernel without IPv6 has not all of it."""
    with contextlib.suppress(FileNotFoundError, PermissionError):
        Path(path).write_text(value)


async def _index(ask: Any, name: str) -> int:  # noqa: ANN401
    (link,) = await ask.link("get", ifname=name)
    info = link.get_attr("IFLA_LINKINFO")
    kind = info.get_attr("IFLA_INFO_KIND") if info is not None else None
    if kind != "tun" or link["ifi_type"] != ARPHRD_NONE:
        raise OSError(errno.EEXIST, f"{name} is there and is not a TUN device: name another in the configuration")
    return int(link["index"])


async def _addresses(ask: Any, index: int) -> Any:  # noqa: ANN401
    async for message in await ask.addr("dump", index=index):
        if message["index"] == index and message["scope"] != LINK_LOCAL_SCOPE:
            yield message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS"), message["prefixlen"]


async def _set_addresses(ask: Any, index: int, addresses: Sequence[str]) -> None:  # noqa: ANN401
    present = {f"{address}/{length}" async for address, length in _addresses(ask, index)}
    for text in addresses:
        if text not in present:
            await _add(ask, index, text)
    for text in present - set(addresses) - {f"{PLACEHOLDER6}/128"}:
        address, _, length = text.partition("/")
        await ask.addr("del", index=index, address=address, prefixlen=int(length))


async def _add(ask: Any, index: int, text: str) -> None:  # noqa: ANN401
    address, _, length = text.partition("/")
    # Nobody else can have it: without duplicate detection it is usable at once.
    flags = IFA_F_NODAD if ":" in address else 0
    await ask.addr("add", index=index, address=address, prefixlen=int(length), flags=flags)
