"""The loaded programs and maps of the kernel path, as descriptors: control loads them and lends them to its data path.

A data-path process may not load anything (linux/confine.py), and a successor of a dead one must find the same maps.
"""

import contextlib
import hashlib
import socket
import time
from collections.abc import Collection, Container
from typing import Final

from sojourn.datapath.kernel_layout import MAPS, PROGRAMS, SETTINGS
from sojourn.errors import NotSupported
from sojourn.linux import bpf_pin
from sojourn.linux.bpf import OBJECTS, BpfObject, close_all
from sojourn.linux.bpf_tc import SharedArray
from sojourn.linux.descriptors import Descriptors
from sojourn.linux.pins import PINNED, Pins
from sojourn.upmt.commands import Role, Setup

OBJECT: Final = OBJECTS / "plain.bpf.o"
# Ours: how much of the kernel's memory may be taken. What finds no room is carried by the engine.
MOST_ROWS: Final = {Role.HOST: 1 << 14, Role.ANCHOR: 1 << 17}
MOST_TUNNELS: Final = {Role.HOST: 1 << 6, Role.ANCHOR: 1 << 15}


def prefix(role: Role) -> str:
    """Return what the names of these descriptors begin with: another build has other ones."""
    try:
        digest = hashlib.sha256(OBJECT.read_bytes()).hexdigest()[:12]
    except FileNotFoundError:
        digest = "none"
    return f"kernel/{digest}/{role}"


def load(role: Role, known: Container[str] = ()) -> dict[str, int]:
    """Load what is not among the `known` names; return descriptors by name.

    Raises NotSupported (no library, not built) or OSError (no permission; what the verifier says).
    """
    names = {what: f"{prefix(role)}/{what}" for what in (*PROGRAMS, *MAPS)}
    if all(name in known for name in names.values()):
        return {}
    rows, tunnels = MOST_ROWS[role], MOST_TUNNELS[role]
    sizes = dict.fromkeys(("rows4", "rows6", "row_counts"), rows)
    sizes |= dict.fromkeys(("tunnels", "tunnel_counts", "sources4", "sources6"), tunnels)
    with BpfObject(OBJECT, sizes) as loaded:
        programs = {names[what]: loaded.program(what) for what in PROGRAMS}
        return programs | {names[what]: loaded.map(what) for what in MAPS}


def adopt(pins: Pins, setup: Setup, known: Collection[str]) -> dict[str, int]:
    """Return what a killed anchor's control has pinned and its programs still work with; else remove it.

    Nothing while our own, of `known` names, are in use.
    """
    if any(name.startswith(PINNED) for name in known):
        return {}
    left, found = pins.left(), {}
    ours = prefix(setup.role)
    names = {f"{ours}/{what}" for what in (*PROGRAMS, *MAPS)}
    if left.keys() >= names and _works(left[f"{ours}/settings"], setup.device):
        links = {name: fd for name, fd in left.items() if name.startswith(f"{ours}/") and _is_attached(name, fd)}
        found = {name: left[name] for name in names} | links
        for name in left.keys() - found.keys():
            pins.drop(name)
    else:
        pins.remove()
    close_all([fd for name, fd in left.items() if name not in found])
    return found


def _works(settings: int, device: str) -> bool:
    """Say whether programs are still allowed to work, for the device of this name."""
    shared = SharedArray(settings, SETTINGS, 1)
    until, index, *_ = shared[0]
    shared.close()
    with contextlib.suppress(OSError):  # there is no such device
        return bool(until > time.monotonic_ns() and index == socket.if_nametoindex(device))
    return False


def _is_attached(name: str, fd: int) -> bool:
    """Say whether this is a link, of a name as kernel_links.py gives them, at an interface that is still there."""
    with contextlib.suppress(OSError, ValueError):
        return bpf_pin.link_interface(fd) == int(name.rpartition("/")[2]) > 0
    return False


def obtain(descriptors: Descriptors, role: Role) -> dict[str, int]:
    """Return descriptors by what they are: those that control has lent, else loaded here, and held from now on."""
    name = prefix(role)
    lent = {what: descriptors.take(f"{name}/{what}") for what in (*PROGRAMS, *MAPS)}
    found = {what: fd for what, fd in lent.items() if fd is not None}
    if len(found) == len(lent):
        return found
    loaded = load(role)
    for full, fd in loaded.items():
        descriptors.hold(full, fd)
    return {full.rpartition("/")[2]: fd for full, fd in loaded.items()}


def why_not(error: OSError | NotSupported) -> str:
    """Return the reason as a user is told it."""
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
