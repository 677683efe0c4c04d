"""Where the cgroup2 hierarchy is: the mount that mountinfo names, or one that nobody else sees.

Distributions mount it at /sys/fs/cgroup or, beside version 1, at /sys/fs/cgroup/unified; `ip netns exec` hides
both under a /sys of its own. What a container shows is the part of the hierarchy that is the container's.
"""

import ctypes
import os
from pathlib import Path
from typing import Final

from sojourn.errors import NotSupported

# System calls with the same number on every machine (asm-generic/unistd.h), and <linux/mount.h>.
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_CLOEXEC: Final = 1
_CREATE: Final = 6

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long


def open_root() -> int:
    """Return a descriptor of the hierarchy's root directory; raise NotSupported or OSError."""
    where = mounted_at(Path("/proc/self/mountinfo").read_text())
    if where is not None:
        return os.open(where, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _detached()
    except OSError as error:
        raise NotSupported(
            "classification by cgroup-BPF", f"cgroup2 to be mounted ({error.strerror}; no such line in mountinfo)"
        ) from error


def mounted_at(mountinfo: str) -> str | None:
    """Return where a mountinfo says that cgroup2 is; the mount that shows most where there are several."""
    found: list[tuple[int, str]] = []
    for line in mountinfo.splitlines():
        fields, _, filesystem = line.partition(" - ")
        words = fields.split()
        if filesystem.split()[:1] == ["cgroup2"] and len(words) >= 5:
            found.append((len(words[3]), _unescaped(words[4])))
    return min(found)[1] if found else None


def path_of(root: int) -> str:
    """Return a path by which the directory of a descriptor is reached."""
    return f"/proc/self/fd/{root}"


def _unescaped(field: str) -> str:
    return field.encode().decode("unicode_escape").encode("latin-1").decode(errors="surrogateescape")


def _detached() -> int:
    """Mount the hierarchy where nobody sees it: the mount goes with its descriptor."""
    context = _call(_FSOPEN, b"cgroup2", _CLOEXEC)
    try:
        _call(_FSCONFIG, context, _CREATE, None, None, 0)
        return _call(_FSMOUNT, context, _CLOEXEC, 0)
    finally:
        os.close(context)


def _call(number: int, *arguments: int | bytes | None) -> int:
    words = [ctypes.c_long(one) if isinstance(one, int) else ctypes.c_char_p(one) for one in arguments]
    result: int = _syscall(ctypes.c_long(number), *words)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
