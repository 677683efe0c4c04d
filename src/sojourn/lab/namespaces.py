"""Network namespaces: made, entered and removed by name, with iproute2 doing the work.

A namespace's processes are found by the kernel's own bookkeeping (`ip netns pids`), so that
removal is complete after a crash of whoever started them, and touches nothing else.
"""

import contextlib
import ctypes
import itertools
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sojourn.errors import SojournError
from sojourn.linux import bpf_pin

RESULT = TypeVar("RESULT")
RUN_NETNS = Path("/run/netns")
ETC_NETNS = Path("/etc/netns")
CLONE_NEWNET = 0x40000000
SETTLE_POLL = 0.005
_LOCAL_ROUTES = ("-6", "route", "show", "table", "local")
_numbers = itertools.count(1000)
_NOT_YET = ("DOWN", "LOWERLAYERDOWN", "DORMANT")
"""States that a link with a carrier leaves as soon as the kernel has looked at it (linkwatch)."""
GRACE = 1.0
"""Seconds that processes get to end by themselves before they are killed."""


class LabError(SojournError):
    """The lab could not be built, or a command in it failed: what was tried, and what it said."""


def execute(argv: Sequence[str], *, stdin: str | None = None, check: bool = True, timeout: float = 30.0) -> str:
    """Run a command and return its standard output; LabError if it fails and `check` is set."""
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
    except FileNotFoundError as error:
        raise LabError(f"{argv[0]} is not installed (on Debian: iproute2, nftables, procps)") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"no end of {' '.join(argv)} within {timeout:g} s") from error
    if check and done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-400:]
        raise LabError(f"{' '.join(argv)} failed ({done.returncode}): {said}")
    return done.stdout


def entering(namespace: str, argv: Sequence[str]) -> list[str]:
    """Return the command line that runs `argv` inside a namespace. The process started is the command itself."""
    return ["ip", "netns", "exec", namespace, *argv]


def run(namespace: str, *argv: str, stdin: str | None = None, check: bool = True, timeout: float = 30.0) -> str:
    """Run a command inside a namespace and return its standard output."""
    return execute(entering(namespace, argv), stdin=stdin, check=check, timeout=timeout)


def ip(namespace: str, commands: Iterable[str], *, force: bool = False) -> None:
    """Give iproute2 several commands for one namespace in one process; `force` goes on after a failure."""
    argv = ["ip", "-n", namespace, *(["-force"] if force else []), "-batch", "-"]
    execute(argv, stdin="\n".join(commands) + "\n", check=not force)


def sysctl(namespace: str, **settings: int | str) -> None:
    """Set kernel parameters of a namespace; dots are written as two underscores."""
    run(namespace, "sysctl", "-qw", *(f"{name.replace('__', '.')}={value}" for name, value in settings.items()))


def settle(namespace: str | None = None, timeout: float = 10.0) -> None:
    """Wait until links and addresses of a namespace (None: the calling thread's) can be used; LabError otherwise.

    The kernel finishes both in work queues of its own: a packet that is sent at once meets a link without its
    queue, or finds no local route to an IPv6 address. Link-local addresses and links without carrier are left alone.
    """
    until = time.monotonic() + timeout
    while missing := unsettled(*(_shown(namespace, *words) for words in (("addr", "show", "up"), _LOCAL_ROUTES))):
        if time.monotonic() > until:
            raise LabError(f"not usable in {namespace or 'this namespace'} after {timeout:g} s: {', '.join(missing)}")
        time.sleep(SETTLE_POLL)


def unsettled(links: Sequence[dict[str, Any]], routes: Sequence[dict[str, Any]]) -> list[str]:
    """Return what is not usable yet, by what `ip -j addr show up` and `ip -j -6 route show table local` say."""
    local = {route.get("dst") for route in routes}
    missing = []
    for link in links:
        if "LOWER_UP" not in link.get("flags", ()):
            continue
        if link["operstate"] in _NOT_YET:
            missing.append(str(link["ifname"]))
        for address in link.get("addr_info", ()):
            if address.get("family") != "inet6" or address.get("scope") == "link":
                continue
            if address.get("tentative") or address["local"] not in local:
                missing.append(str(address["local"]))
    return missing


def _shown(namespace: str | None, *words: str) -> list[dict[str, Any]]:
    where = ["-n", namespace] if namespace is not None else []
    found = json.loads(execute(["ip", *where, "-j", *words]) or "[]")
    return [item for item in found if item]


def exists(namespace: str) -> bool:
    """Say whether there is a namespace of this name."""
    return (RUN_NETNS / namespace).exists()


def names() -> list[str]:
    """Return the names of all namespaces."""
    return sorted(entry.name for entry in RUN_NETNS.iterdir()) if RUN_NETNS.is_dir() else []


def add(namespace: str) -> None:
    """Make a namespace with its loopback up."""
    execute(["ip", "netns", "add", namespace])
    ip(namespace, ["link set lo up"])


def cable(device: str, other: str, peer: str) -> str:
    """Return the line for `ip` that lays a veth pair: `device` here, `peer` in the namespace `other`.

    `device` gets a number that `peer` has not by chance: namespaces count from 1 each. Of ends with the same number the
    kernel tells a lost carrier up to a second late, as of what is no one else's (linux, net/core/link_watch.c,
    linkwatch_urgent_event).
    """
    return f"link add {device} index {next(_numbers)} type veth peer name {peer} netns {other}"


def join(one: str, device: str, other: str, peer: str) -> None:
    """Join two namespaces by a veth pair that is up at both ends: `device` in `one`, `peer` in `other`."""
    ip(one, [cable(device, other, peer), f"link set dev {device} up"])
    ip(other, [f"link set dev {peer} up"])


def pids(namespace: str) -> list[int]:
    """Return the processes that live in a namespace now."""
    if not exists(namespace):
        return []
    return [int(word) for word in execute(["ip", "netns", "pids", namespace], check=False).split()]


def send_signal(processes: Iterable[int], number: signal.Signals) -> None:
    """Signal processes, some of which may be gone already."""
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def end_processes(namespaces: Sequence[str]) -> None:
    """End everything that runs in these namespaces: politely, then surely. Stopped ones are woken first."""
    living = [pid for namespace in namespaces for pid in pids(namespace)]
    send_signal(living, signal.SIGTERM)
    send_signal(living, signal.SIGCONT)
    until = time.monotonic() + GRACE
    while living and time.monotonic() < until:
        time.sleep(0.02)
        living = [pid for pid in living if _runs(pid)]
    for namespace in namespaces:
        send_signal(pids(namespace), signal.SIGKILL)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def delete(namespaces: Sequence[str]) -> None:
    """Remove namespaces with all that runs and stands in them; absent ones are no error."""
    end_processes(namespaces)
    for namespace in namespaces:
        if exists(namespace):
            bpf_pin.remove_of_namespace((RUN_NETNS / namespace).stat().st_ino)  # of what was killed
            execute(["ip", "netns", "delete", namespace])
        shutil.rmtree(ETC_NETNS / namespace, ignore_errors=True)


def inside(namespace: str, action: Callable[[], RESULT]) -> RESULT:
    """Call `action` in a thread that has entered a namespace, and return what it returns.

    Sockets and devices that it opens stay in that namespace; this thread's own does not change
    (os.setns came with Python 3.12, hence libc).
    """
    results: list[RESULT] = []
    errors: list[BaseException] = []

    def enter() -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            handle = os.open(RUN_NETNS / namespace, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if libc.setns(handle, CLONE_NEWNET) != 0:
                    number = ctypes.get_errno()
                    raise OSError(number, os.strerror(number), namespace)
            finally:
                os.close(handle)
            results.append(action())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=enter, name=f"inside {namespace}")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
