"""Run a piece of a test in a network namespace of its own, which goes when its last descriptor is closed."""

import ctypes
import subprocess
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
CLONE_NEWNET = 0x40000000


def in_new_namespace(work: Callable[[], T]) -> T:
    """Call `work` in a thread that has a fresh network namespace, with loopback up, and return what it returns."""
    results: list[T] = []
    errors: list[BaseException] = []

    def enter() -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.unshare(CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET)")
            ip("link set lo up")
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def ip(command: str) -> str:
    """Run iproute2 in the namespace of the calling thread."""
    return subprocess.run(("ip", *command.split()), check=True, capture_output=True, text=True).stdout
