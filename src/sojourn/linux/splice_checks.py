"""For `sojourn doctor`: whether this kernel lets the SOCKS proxy splice. Nothing is attached or pinned."""

import socket

from sojourn.errors import NotSupported
from sojourn.linux import bpf_pin, tcp_repair
from sojourn.linux.bpf import BpfObject
from sojourn.linux.checks import Check
from sojourn.linux.splice_tables import OBJECT, refusal

NAME = "SOCKS splice"
REMEDY = (
    "Linux 5.17 or newer; as root, in a container with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN; apt install libbpf1; "
    "a BPF file system (mount -t bpf bpf /sys/fs/bpf)"
)


def splice_check(why: str) -> Check:
    """Load the program, which the kernel's verifier then has looked at, and let it go again. `why`: who asks for it."""
    try:
        with socket.socket() as probe:
            tcp_repair.can_repair(probe)
        with BpfObject(OBJECT, {"pairs": 1}):
            pass
    except (OSError, NotSupported) as error:
        return Check(NAME, False, f"the proxy would relay ({why}): {refusal(error)}", REMEDY, needed=False)
    there = bpf_pin.mounted()
    where = there[0] if there else f"one will be mounted at {bpf_pin.OURS}"
    return Check(NAME, True, f"the kernel takes the program ({why}); BPF file system: {where}", needed=False)
