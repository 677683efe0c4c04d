"""Takes away from the data-path process all that it does not need to move packets (DESIGN §2).

Afterwards it holds CAP_NET_ADMIN and CAP_NET_RAW, can gain nothing, leaves no core file with keys in
it, and is refused every system call that starts programs, looks into other processes, mounts,
loads code into the kernel or changes namespaces. Of bpf(2) it may look up elements of maps that it was
given. What a machine or container does not let us take away is named in the answer; the caller says
so in its log and goes on.
"""

import ctypes
import errno
import os
import platform
import resource
import signal
import struct
from collections.abc import Callable, Collection
from typing import Final

from msgspec import Struct

# <linux/capability.h>
CAP_NET_ADMIN: Final = 12
CAP_NET_RAW: Final = 13
_CAPABILITY_VERSION_3: Final = 0x20080522
# <linux/prctl.h>
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NAME: Final = 15
_PR_CAPBSET_READ: Final = 23
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
# <linux/seccomp.h>, <linux/filter.h>, <linux/audit.h>
_SECCOMP_SET_MODE_FILTER: Final = 1
_SECCOMP_FILTER_FLAG_TSYNC: Final = 1
_RET_KILL_PROCESS: Final = 0x80000000
_RET_ERRNO: Final = 0x00050000
_RET_ALLOW: Final = 0x7FFF0000
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCH_AT, _ARGUMENT_AT = 0, 4, 16
_X32_BIT: Final = 0x40000000
_CLONE_THREAD: Final = 0x00010000
_FAMILIES: Final = (1, 2, 10, 16)
"""AF_UNIX, AF_INET, AF_INET6, AF_NETLINK: AF_PACKET would be a sniffer's."""


class Architecture(Struct, frozen=True):
    """How a machine type numbers what the filter speaks of."""

    column: int
    audit: int
    seccomp: int
    socket: int
    clone: int
    clone3: int
    bpf: int


ARCHITECTURES: Final = {
    "x86_64": Architecture(0, 0xC000003E, 317, 41, 56, 435, 321),
    "aarch64": Architecture(1, 0xC00000B7, 277, 198, 220, 435, 280),
}

FORBIDDEN: Final[dict[str, tuple[int | None, int | None]]] = {
    # name: number on x86_64, on aarch64 (asm/unistd_64.h, asm-generic/unistd.h)
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_getfd": (438, 438), "process_madvise": (440, 440),
    "kill": (62, 129), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "pidfd_send_signal": (424, 424),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "fanotify_init": (300, 262),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "setns": (308, 268), "unshare": (272, 97), "personality": (135, 92),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "quotactl": (179, 60), "syslog": (103, 116),
    "sethostname": (170, 161), "setdomainname": (171, 162), "settimeofday": (164, 170), "adjtimex": (159, 171),
    "clock_settime": (227, 112), "clock_adjtime": (305, 266), "iopl": (172, None), "ioperm": (173, None),
}  # fmt: skip
"""Answered with EPERM. What is allowed is everything else: a list of what Python may call would be
another one with each release of it."""


BPF_MAP_LOOK_UP, BPF_MAP_UPDATE, BPF_MAP_DELETE, BPF_MAP_NEXT_KEY, BPF_LINK_CREATE = 1, 2, 3, 4, 28
BPF_COMMANDS: Final = (BPF_MAP_LOOK_UP, BPF_MAP_UPDATE, BPF_MAP_DELETE, BPF_MAP_NEXT_KEY, BPF_LINK_CREATE)
"""Commands of bpf(2) that are allowed (<linux/bpf.h>, enum bpf_cmd): all work on descriptors that one was given."""


class Confinement(Struct, frozen=True):
    """What was taken away, and what could not be, with the reason."""

    done: tuple[str, ...]
    missing: tuple[str, ...]


def confine(keep: Collection[int] = (CAP_NET_ADMIN, CAP_NET_RAW), name: str = "sojourn-path") -> Confinement:
    """Confine this process, all its threads included, for good."""
    steps: tuple[tuple[str, Callable[[], None]], ...] = (
        ("name", lambda: _prctl(_PR_SET_NAME, name.encode()[:15])),
        ("no core file", lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0))),
        ("not dumpable", lambda: _prctl(_PR_SET_DUMPABLE, 0)),
        ("bounding set", lambda: drop_bounding_set(keep)),
        ("capabilities", lambda: keep_capabilities(keep)),
        ("no new privileges", no_new_privileges),
        ("system call filter", filter_system_calls),
    )
    done, missing = [], []
    for what, step in steps:
        try:
            step()
        except OSError as error:
            missing.append(f"{what}: {error.strerror or error}")
        else:
            done.append(what)
    return Confinement(tuple(done), tuple(missing))


def end_with_parent(parent: int) -> None:
    """Have this process ended when its parent ends, however that happens. After the last change of user."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise OSError(errno.ESRCH, "the parent has ended already")


def no_new_privileges() -> None:
    """See to it that no program that this process starts has more rights than it has."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def keep_capabilities(keep: Collection[int]) -> None:
    """Give up every capability but these; those that we lack we do not get."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    data = ctypes.create_string_buffer(24)
    _checked(_libc.capget(header, data))
    _, permitted_low, _, _, permitted_high, _ = struct.unpack("=6I", data.raw)
    wanted = sum(1 << capability for capability in keep)
    permitted = (permitted_high << 32 | permitted_low) & wanted
    low, high = permitted & 0xFFFFFFFF, permitted >> 32
    _checked(_libc.capset(header, struct.pack("=6I", low, low, 0, high, high, 0)))


def drop_bounding_set(keep: Collection[int]) -> None:
    """See to it that no later exec could bring back a capability (and clear the ambient set)."""
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    for capability in range(64):
        held = _libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0)
        if held < 0:
            break  # past the last one that this kernel knows
        if held and capability not in keep:
            _prctl(_PR_CAPBSET_DROP, capability)


def filter_system_calls() -> None:
    """Install the filter in all threads. Needs no_new_privs."""
    machine = platform.machine()
    architecture = ARCHITECTURES.get(machine)
    if architecture is None or struct.calcsize("P") != 8:
        raise OSError(errno.ENOSYS, f"no filter was written for {machine}")
    code = program(architecture)
    instructions = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: a count of 8-byte instructions, padding, a pointer to them.
    fprog = struct.pack("=H6xQ", len(code) // 8, ctypes.addressof(instructions))
    result: int = _libc.syscall(
        ctypes.c_long(architecture.seccomp),
        ctypes.c_ulong(_SECCOMP_SET_MODE_FILTER),
        ctypes.c_ulong(_SECCOMP_FILTER_FLAG_TSYNC),
        ctypes.c_char_p(fprog),
    )
    _checked(-1 if result else 0)  # a positive one is the thread that could not follow


def program(architecture: Architecture) -> bytes:
    """Return the filter in classic BPF: 8 bytes an instruction, read from top to bottom."""
    permitted, refused = _instruction(_RETURN, _RET_ALLOW), _refuse(errno.EPERM)
    out = _instruction(_LOAD, _ARCH_AT)
    out += _instruction(_JUMP_EQUAL, architecture.audit, 1, 0) + _instruction(_RETURN, _RET_KILL_PROCESS)
    out += _instruction(_LOAD, _NUMBER_AT)
    if architecture.column == 0:
        out += _instruction(_JUMP_AT_LEAST, _X32_BIT, 0, 1) + refused
    for numbers in FORBIDDEN.values():
        number = numbers[architecture.column]
        if number is not None:
            out += _on(number, refused)
    # Flags behind clone3's pointer cannot be seen from here: the C library then uses clone.
    out += _on(architecture.clone3, _refuse(errno.ENOSYS))
    out += _on(
        architecture.clone,
        _instruction(_LOAD, _ARGUMENT_AT) + _instruction(_JUMP_ANY_BIT, _CLONE_THREAD, 0, 1) + permitted + refused,
    )
    commands = b"".join(_on(command, permitted) for command in BPF_COMMANDS)
    out += _on(architecture.bpf, _instruction(_LOAD, _ARGUMENT_AT) + commands + refused)
    families = b"".join(_on(family, permitted) for family in _FAMILIES)
    out += _on(architecture.socket, _instruction(_LOAD, _ARGUMENT_AT) + families + _refuse(errno.EAFNOSUPPORT))
    return out + permitted


def _on(value: int, block: bytes) -> bytes:
    """Run `block`, which ends in a return, when the accumulator is `value`."""
    return _instruction(_JUMP_EQUAL, value, 0, len(block) // 8) + block


def _refuse(number: int) -> bytes:
    return _instruction(_RETURN, _RET_ERRNO | number)


def _instruction(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, operand)


_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
_libc.syscall.restype = ctypes.c_long


def _prctl(option: int, argument: int | bytes) -> None:
    if isinstance(argument, bytes):
        text = ctypes.create_string_buffer(argument)
        _checked(_libc.prctl(option, ctypes.addressof(text), 0, 0, 0))
    else:
        _checked(_libc.prctl(option, argument, 0, 0, 0))


def _checked(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
