"""For `sojourn doctor`: whether this kernel tells for certain which application a flow is of. Nothing is attached."""

import os

from sojourn.errors import SojournError
from sojourn.linux import bpf, cgroups, owner_programs, processes
from sojourn.linux.checks import Check

NAME = "applications"
LOST = "exactness is lost: a flow's program is guessed from /proc, and short-lived programs stay unknown"
REMEDY = (
    "Linux 5.19 with BTF (CONFIG_DEBUG_INFO_BTF), CONFIG_CGROUP_BPF and cgroup2; as root; apt install libbpf1; "
    "in a container CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN of the machine itself"
)


def owner_checks() -> list[Check]:
    """Load the programs, which the kernel's verifier then has looked at, and let them go again."""
    try:
        os.close(cgroups.open_root())
        with bpf.BpfObject(owner_programs.OBJECT):
            pass
    except (SojournError, OSError) as error:
        return [Check(NAME, False, f"{LOST} ({owner_programs.why_not(error)})", REMEDY, needed=False)]
    found = "known for certain from a flow's first packet (cgroup-BPF)"
    if not processes.numbers_are_the_kernels():
        found += "; process numbers here are not the kernel's, so that names come from cgroups alone"
    return [Check(NAME, True, found, needed=False)]
