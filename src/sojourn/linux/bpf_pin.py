"""BPF objects that outlive every process: pinned by name in a file system of type bpf.

That is where the machine has it (/sys/fs/bpf), or one of ours at /run/sojourn/bpf. All here needs CAP_SYS_ADMIN or
CAP_BPF; errors are OSErrors.
"""

import contextlib
import ctypes
import os
import platform
import struct
from pathlib import Path
from typing import Final

from sojourn.linux.confine import ARCHITECTURES

USUAL: Final = Path("/sys/fs/bpf")
OURS: Final = Path("/run/sojourn/bpf")

# <linux/bpf.h>, enum bpf_cmd
_PIN, _GET, _INFO = 6, 7, 15
_PATH = struct.Struct("=QII")
_INFO_BYTES: Final = 64
_LINK_INTERFACE_AT: Final = 16
"""In struct bpf_link_info, of a tcx link; 0 once the interface is gone."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_architecture: Final = ARCHITECTURES.get(platform.machine())
_BPF: Final = ctypes.c_long(_architecture.bpf if _architecture is not None else -1)


def mounted() -> list[Path]:
    """Return where file systems of type bpf are mounted."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.split(" ", 1)[0] == "bpf":
            found.append(Path(before.split(" ")[4]))
    return found


def place() -> Path:
    """Return a file system of type bpf; one is mounted where there is none."""
    there = mounted()
    for path in (OURS, USUAL):
        if path in there:
            return path
    OURS.mkdir(parents=True, exist_ok=True, mode=0o700)
    if _libc.mount(b"bpf", os.fsencode(OURS), b"bpf", ctypes.c_ulong(0), b"mode=0700") < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"a BPF file system cannot be mounted at {OURS}: {os.strerror(number)}")
    return OURS


def namespace() -> int:
    """Return what tells this network namespace from others: they share one BPF file system."""
    return os.stat("/proc/thread-self/ns/net").st_ino


def remove(folder: Path) -> list[str]:
    """Remove a folder with all pins in it; return their paths. One that is not there is harmless."""
    gone = []
    for path, folders, names in os.walk(folder, topdown=False):
        for name in names:
            (Path(path) / name).unlink(missing_ok=True)
            gone.append(f"{path}/{name}")
        for name in folders:
            (Path(path) / name).rmdir()
    with contextlib.suppress(FileNotFoundError):
        folder.rmdir()
    return gone


def remove_all(pattern: str) -> list[Path]:
    """Remove all folders of such a name, wherever; return which those were."""
    found = [folder for file_system in mounted() for folder in file_system.glob(pattern)]
    for folder in found:
        remove(folder)
    return found


def remove_of_namespace(number: int) -> None:
    """Remove all that Sojourn has pinned in the network namespace of that number, which is about to go."""
    remove_all(f"sojourn*-{number}-*")


def pin(fd: int, path: Path) -> None:
    """Give an object a name."""
    _call(_PIN, path, fd)


def get(path: Path) -> int | None:
    """Return a descriptor of the object of that name; None where there is none."""
    try:
        return _call(_GET, path, 0)
    except FileNotFoundError:
        return None


def link_interface(fd: int) -> int:
    """Return the interface that a tcx link is at; 0 where that is gone."""
    info = ctypes.create_string_buffer(_INFO_BYTES)
    words = ctypes.create_string_buffer(struct.pack("=IIQ", fd, _INFO_BYTES, ctypes.addressof(info)), 16)
    if _libc.syscall(_BPF, ctypes.c_long(_INFO), words, ctypes.c_long(16)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    (index,) = struct.unpack_from("=I", info, _LINK_INTERFACE_AT)
    return int(index)


def _call(command: int, path: Path, fd: int) -> int:
    name = ctypes.create_string_buffer(os.fsencode(path))
    words = ctypes.create_string_buffer(_PATH.pack(ctypes.addressof(name), fd, 0), _PATH.size)
    result = int(_libc.syscall(_BPF, ctypes.c_long(command), words, ctypes.c_long(_PATH.size)))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))
    return result
