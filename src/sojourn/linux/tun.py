"""A TUN device as the engine uses it: whole super-packets in both directions.

Every read and write carries a virtio header (packet/vnet.py). With TSO and USO the kernel hands
over up to 64 KiB under one header and leaves checksums open, which is where the engine's speed
comes from; without them the very same code moves single packets.

The device exists already, persistent, with its addresses (linux/device.py); where it does not,
attaching creates one that lasts as long as its descriptor. Its gso_max_size is best left alone: forwarded
super-packets larger than that are cut into single packets before they get here.
"""

import errno
import fcntl
import os
import struct
from typing import Final

from sojourn.errors import NotSupported
from sojourn.linux import ethtool
from sojourn.packet import vnet

DEVICE: Final = "/dev/net/tun"

# linux/if_tun.h
TUNSETIFF: Final = 0x400454CA
TUNGETIFF: Final = 0x800454D2
TUNSETOFFLOAD: Final = 0x400454D0
TUNSETVNETHDRSZ: Final = 0x400454D8
IFF_TUN: Final = 0x0001
IFF_NO_PI: Final = 0x1000
IFF_VNET_HDR: Final = 0x4000
IFF_MULTI_QUEUE: Final = 0x0100
F_CHECKSUM: Final = 0x01
F_TSO: Final = 0x02 | 0x04 | 0x08
"""TSO4, TSO6 and TSO_ECN."""
F_USO: Final = 0x20 | 0x40
"""USO4 and USO6 (Linux 6.2): the kernel takes both or neither."""


class Tun:
    """An open TUN descriptor, not blocking, and what its kernel can do."""

    def __init__(self, fd: int, *, tso: bool = True, uso: bool = True) -> None:
        """Take over a descriptor that is attached to a device; `tso`, `uso`: what may be used of it."""
        self.fd = fd
        request = fcntl.ioctl(fd, TUNGETIFF, bytes(40))
        self.name = request[:16].split(b"\0")[0].decode()
        (flags,) = struct.unpack_from("=H", request, 16)
        if not flags & IFF_VNET_HDR:
            raise NotSupported(f"device {self.name}", "IFF_VNET_HDR; it was opened without")
        self.multi_queue = bool(flags & IFF_MULTI_QUEUE)
        fcntl.ioctl(fd, TUNSETVNETHDRSZ, struct.pack("=i", vnet.HEADER_BYTES))
        os.set_blocking(fd, False)
        self.tso, self.uso = self._offload(tso, uso)

    @classmethod
    def open(cls, name: str, *, tso: bool = True, uso: bool = True, more: bool = False) -> "Tun":
        """Attach to device `name`; `more`: by one more queue. OSError (EBUSY) when another process has it."""
        if not more and has_reader(name):
            raise OSError(errno.EBUSY, f"another process reads device {name}")
        try:
            fd = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise NotSupported(
                "a TUN device", f"{DEVICE} (modprobe tun, or --device {DEVICE} for a container)"
            ) from error
        try:
            _attach(fd, name)
            return cls(fd, tso=tso, uso=uso)
        except BaseException:
            os.close(fd)
            raise

    def _offload(self, tso: bool, uso: bool) -> tuple[bool, bool]:
        """Ask for as much as is wanted and the kernel has; return what it granted."""
        for with_tso, with_uso in ((tso, uso), (tso, False), (False, False)):
            wanted = F_CHECKSUM | (F_TSO if with_tso else 0) | (F_USO if with_uso else 0)
            try:
                fcntl.ioctl(self.fd, TUNSETOFFLOAD, wanted)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                continue
            return with_tso, with_uso
        raise NotSupported("checksum offload of a TUN device", "Linux 2.6.27")

    def read(self) -> bytes | None:
        """Return one virtio header and its packet, or None when none waits. The engine reads for itself."""
        try:
            return os.read(self.fd, vnet.HEADER_BYTES + 65535)
        except BlockingIOError:
            return None

    def write(self, header: bytes, packet: bytes) -> None:
        """Hand a packet to the kernel. OSError (EINVAL) for one that it does not understand."""
        os.writev(self.fd, (header, packet))

    def close(self) -> None:
        """Detach. A persistent device stays."""
        os.close(self.fd)


def _attach(fd: int, name: str) -> None:
    """Attach to a device of either kind: which it is was decided when it was made."""
    for kind in (0, IFF_MULTI_QUEUE):
        flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR | kind
        try:
            fcntl.ioctl(fd, TUNSETIFF, struct.pack("=16sH22x", name.encode(), flags))
        except OSError as error:
            if error.errno != errno.EINVAL or kind:
                raise
        else:
            return


def has_reader(name: str) -> bool:
    """Say whether a TUN device that is up is attached somewhere: it has a carrier for so long.

    The kernel refuses a second reader of a plain device, but gives one of a multi-queue device its part of the packets.
    """
    try:
        return bool(ethtool.ask(name, ethtool.GET_LINK))
    except OSError:
        return False
