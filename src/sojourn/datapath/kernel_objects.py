"""The loaded programs and maps of the kernel path, as descriptors: control loads them and lends them to its data path.

A data-path process may not load anything (linux/confine.py), and a successor of a dead one must find the same maps.
"""

import hashlib
from collections.abc import Container
from typing import Final

from sojourn.datapath.kernel_layout import MAPS, PROGRAMS
from sojourn.errors import NotSupported
from sojourn.linux.bpf import OBJECTS, BpfObject
from sojourn.linux.descriptors import Descriptors
from sojourn.upmt.commands import Role

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
