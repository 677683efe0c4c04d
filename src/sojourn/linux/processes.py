"""What /proc says of a process: for control alone, and never where the kernel's own programs know better.

A process may have gone, or another one may have its number, between any two lines here: callers make sure (the
owner maps name the execution) or say that what they tell is not exact.
"""

import configparser
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from sojourn.linux.owners import INTERPRETERS
from sojourn.model import Origin

PROC: Final = Path("/proc")
INITIAL_PID_NAMESPACE: Final = 0xEFFFFFFC
"""PROC_PID_INIT_INO (<linux/proc_fs.h>): process numbers in there are the kernel's own."""
MOST_BYTES: Final = 65536
MOST_ANCESTORS: Final = 64


class Pinned(Struct, frozen=True):
    """A process by its number and its start: no later one has both."""

    pid: int
    start: int


def numbers_are_the_kernels() -> bool:
    """Say whether process numbers here are those that BPF programs see."""
    try:
        return os.stat(PROC / "self" / "ns" / "pid").st_ino == INITIAL_PID_NAMESPACE
    except OSError:
        return False


def flatpak_name(pid: int) -> str:
    """Return the id of the flatpak that a process is in, "" for none: its file system's root has /.flatpak-info."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # whatever a program may have put there
    try:
        fd = os.open(PROC / str(pid) / "root" / ".flatpak-info", flags)
    except OSError:
        return ""
    try:
        text = os.read(fd, MOST_BYTES) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    except OSError:
        return ""
    finally:
        os.close(fd)
    return name_in_flatpak_info(text.decode(errors="replace"))


def name_in_flatpak_info(text: str) -> str:
    """Read the id out of a .flatpak-info; "" for what is none."""
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(text)
    except configparser.Error:
        return ""
    return parser.get("Application", "name", fallback="").strip()[:255]


def holder_of(inode: int) -> int | None:
    """Return a process that has the socket with this inode open."""
    wanted = f"socket:[{inode}]"
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            for number in os.listdir(entry / "fd"):
                if os.readlink(entry / "fd" / number) == wanted:
                    return int(entry.name)
        except OSError:
            continue
    return None


def describe(origin: Origin, pid: int, pins: Mapping[Pinned, str]) -> Origin:
    """Fill in what /proc says of a process that holds a socket. It is not exact."""
    executable = _link(pid, "exe")
    arguments = _read(pid, "cmdline").split("\0")
    script = ""
    if len(arguments) > 1 and not arguments[1].startswith("-") and INTERPRETERS.match(os.path.basename(executable)):
        script = os.path.normpath(os.path.join(_link(pid, "cwd"), arguments[1]))
    cgroup = next((line[3:] for line in _read(pid, "cgroup").splitlines() if line.startswith("0::")), "")
    return Origin(
        origin.owner, executable, script, _read(pid, "comm").strip(), pid, origin.uid, cgroup or "/",
        name_of(pid, pins) or flatpak_name(pid), exact=False,
    )  # fmt: skip


def user_of(pid: int) -> int | None:
    """Return as whom a process runs (its effective user), None when there is none."""
    for line in _read(pid, "status").splitlines():
        if line.startswith("Uid:"):
            return int(line.split()[2])
    return None


def start_of(pid: int) -> int | None:
    """Return when a process was started, in clock ticks since the machine was (proc(5), field 22)."""
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return int(fields[19]) if len(fields) > 19 else None


def name_of(pid: int, pins: Mapping[Pinned, str]) -> str:
    """Return what a process, or one that it descends from, was pinned to; "" for nothing."""
    for _ in range(MOST_ANCESTORS if pins else 0):
        start = start_of(pid)
        if start is None or pid <= 1:
            break
        name = pins.get(Pinned(pid, start))
        if name is not None:
            return name
        pid = int(_read(pid, "stat").rpartition(")")[2].split()[1])
    return ""


def _link(pid: int, name: str) -> str:
    try:
        return os.readlink(PROC / str(pid) / name).removesuffix(" (deleted)")
    except OSError:
        return ""


def _read(pid: int, name: str) -> str:
    try:
        with (PROC / str(pid) / name).open("rb") as stream:
            return stream.read(MOST_BYTES).decode(errors="backslashreplace")
    except OSError:
        return ""
