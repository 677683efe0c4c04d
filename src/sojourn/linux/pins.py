"""What an anchor's control holds of the kernel path, also pinned by name, so that it outlives both processes.

    PLACE/sojourn-kernel-NAMESPACE-DEVICE/NAME        NAME has slashes: kernel/DIGEST/anchor/rows4

A control that starts finds there what a killed one has left; a clean stop, and `sojourn cleanup`, remove it.
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sojourn.linux import bpf_pin

PINNED: Final = "kernel/"
"""What the names of descriptors that are pinned begin with."""
_FOLDER: Final = "sojourn-kernel"


class Pins:
    """The pins of one device's kernel path. Nothing here raises: what cannot be pinned is held all the same."""

    def __init__(self, device: str, say: Callable[[str], object] = lambda _why: None) -> None:
        """`say` is told, once, why nothing can be pinned."""
        self._folder = f"{_FOLDER}-{bpf_pin.namespace()}-{device.replace('.', '_')}"  # bpf keeps dots for itself
        self._say: Callable[[str], object] | None = say

    def left(self) -> dict[str, int]:
        """Return descriptors of all that is pinned and still of use, by name; the caller's from now on."""
        found: dict[str, int] = {}
        for folder in self._folders():
            for path in folder.rglob("*"):
                if path.is_dir():
                    continue
                fd = bpf_pin.get(path)
                if fd is not None:
                    found[path.relative_to(folder).as_posix()] = fd
        return found

    def keep(self, name: str, fd: int) -> None:
        """Pin a descriptor, in the place of what had its name."""
        if not name.startswith(PINNED):
            return
        try:
            folder = bpf_pin.place() / self._folder
            folder.mkdir(mode=0o700, exist_ok=True)
            if not _is_ours(folder):
                raise PermissionError(errno.EPERM, f"{folder} belongs to somebody else")
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            bpf_pin.pin(fd, path)
        except OSError as error:
            if self._say is not None:
                self._say(error.strerror or str(error))
            self._say = None

    def drop(self, name: str) -> None:
        """Unpin what has this name; an unknown one is harmless."""
        if name.startswith(PINNED):
            for folder in self._folders():
                (folder / name).unlink(missing_ok=True)

    def remove(self) -> list[str]:
        """Unpin everything; return what went."""
        return [gone for folder in self._folders() for gone in bpf_pin.remove(folder)]

    def _folders(self) -> list[Path]:
        return [folder for place in bpf_pin.mounted() if _is_ours(folder := place / self._folder)]


def _is_ours(folder: Path) -> bool:
    """Say whether a folder is there and nobody else can have put anything into it."""
    try:
        return folder.stat().st_uid == os.geteuid()
    except OSError:
        return False


def remove_all() -> list[str]:
    """Remove the pins of all kernel paths of this network namespace; return what went."""
    return [f"pins {folder}" for folder in bpf_pin.remove_all(f"{_FOLDER}-{bpf_pin.namespace()}-*")]
