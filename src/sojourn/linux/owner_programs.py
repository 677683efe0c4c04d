"""The programs of bpf/owner.bpf.c in this kernel: loaded, attached, told what is ours.

All is held by descriptors, under names that linux/descriptors.py passes around ("bpf/DIGEST/map/flows",
"bpf/DIGEST/link/on_packet"): the programs work as long as control or the data path has them, and a control that
starts takes them over with all that they know, if they are of its own version (DIGEST).
"""

import fcntl
import hashlib
import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from sojourn.errors import SojournError
from sojourn.linux import bpf
from sojourn.linux.bpf_map import BpfMap
from sojourn.linux.numbers import MARK, MARK_MASK
from sojourn.linux.owners import SIZES, Settings, number, pack_settings

OBJECT: Final = bpf.OBJECTS / "owner.bpf.o"
ON_PROCESSES: Final = ("on_exec", "on_fork", "on_exit")
ON_CGROUP: Final = ("on_socket", "on_connect4", "on_connect6", "on_sendmsg4", "on_sendmsg6", "on_packet")
MAPS: Final = (*SIZES, "seen", "passed")
SEEN_BYTES, PASSED_BYTES = 262144, 65536
"""Sizes of the ring buffers (bpf/maps.h)."""
SO_NETNS_COOKIE: Final = 71
SIOCGIFMTU: Final = 0x8921
LEAST_PROCESSES, MOST_PROCESSES = 16384, 262144


def digest_of(path: Path = OBJECT) -> str:
    """Return what tells one version of the programs from another."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    except OSError:
        return ""


class OwnerPrograms:
    """The programs, attached, and their maps. The descriptors are this object's."""

    def __init__(self, digest: str, maps: Mapping[str, int], links: Mapping[str, int]) -> None:
        self.digest = digest
        self.maps = dict(maps)
        self.links = dict(links)
        self._settings = BpfMap(self.maps["settings"], *SIZES["settings"])

    @classmethod
    def load(cls, root: int, path: Path = OBJECT) -> Self:
        """Load, and attach to the cgroup `root` (linux/cgroups.py); raise NotSupported or OSError. Takes 0.1 s."""
        sizes = dict.fromkeys(("processes", "executions"), _most_processes())
        descriptors: dict[str, int] = {}
        try:
            with bpf.BpfObject(path, sizes) as loaded:
                maps = {name: descriptors.setdefault(name, loaded.map(name)) for name in MAPS}
                # Above every number that was given since the machine started: an execution takes longer than 1 us.
                first = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
                BpfMap(maps["counter"], *SIZES["counter"]).update(b"", number(first))
                links = {}
                for name in ON_PROCESSES:
                    links[name] = descriptors.setdefault(name, loaded.attach(name))
                for name in ON_CGROUP:
                    links[name] = descriptors.setdefault(name, loaded.attach(name, root))
        except BaseException:
            bpf.close_all(descriptors.values())
            raise
        return cls(digest_of(path), maps, links)

    @classmethod
    def adopt(cls, descriptors: Mapping[str, int], digest: str) -> Self | None:
        """Take over what a predecessor loaded (descriptors are duplicated); None if it is not all there."""
        maps = {name: descriptors.get(f"bpf/{digest}/map/{name}", -1) for name in MAPS}
        prefix = f"bpf/{digest}/link/"
        links = {name.removeprefix(prefix): fd for name, fd in descriptors.items() if name.startswith(prefix)}
        if not digest or -1 in maps.values() or not {*ON_PROCESSES, *ON_CGROUP} <= set(links):
            return None
        return cls(
            digest,
            {name: os.dup(fd) for name, fd in maps.items()},
            {name: os.dup(fd) for name, fd in links.items()},
        )

    @property
    def descriptors(self) -> dict[str, int]:
        """All, under the names by which they travel."""
        maps = {f"bpf/{self.digest}/map/{name}": fd for name, fd in self.maps.items()}
        return maps | {f"bpf/{self.digest}/link/{name}": fd for name, fd in self.links.items()}

    def tell(self, settings: Settings) -> None:
        """Tell the programs what is ours."""
        self._settings.update(b"", pack_settings(settings))

    def map(self, name: str) -> BpfMap:
        """Return one of the maps, to be read and written."""
        return BpfMap(self.maps[name], *SIZES[name])

    def close(self) -> None:
        """Give all up; what nobody else holds ends."""
        bpf.close_all([*self.maps.values(), *self.links.values()])
        self.maps, self.links = {}, {}


def settings_for(device: str, root: int) -> Settings:
    """Return what the programs must know: of this namespace, of the device if it is there, of the cgroup root."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            index = socket.if_nametoindex(device)
            answer = fcntl.ioctl(probe, SIOCGIFMTU, struct.pack("16s16x", device.encode()))
            mtu = struct.unpack_from("=i", answer, 16)[0]
        except OSError:
            index = mtu = 0
    top, files = os.stat(root).st_ino, os.stat("/")
    system = os.major(files.st_dev) << 20 | os.minor(files.st_dev)  # as the kernel has it (<linux/kdev_t.h>)
    return Settings(netns_cookie(), top, files.st_ino, system, index, mtu, mount_namespace(), MARK, MARK_MASK)


def netns_cookie() -> int:
    """Return the number of our network namespace (Linux 5.14)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return int.from_bytes(probe.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), "little")


def mount_namespace() -> int:
    """Return the number of our mount namespace."""
    return os.stat("/proc/self/ns/mnt").st_ino


def _most_processes() -> int:
    try:
        most = int(Path("/proc/sys/kernel/threads-max").read_text())
    except (OSError, ValueError):
        most = 65536
    return max(LEAST_PROCESSES, min(most, MOST_PROCESSES))


def why_not(error: Exception) -> str:
    """Say in one sentence why exact classification is not possible here."""
    if isinstance(error, SojournError):
        return str(error)
    if isinstance(error, PermissionError):
        return (
            f"the kernel does not allow it ({error.strerror or error}): it needs CAP_BPF and CAP_PERFMON, no lockdown"
        )
    return str(error)
