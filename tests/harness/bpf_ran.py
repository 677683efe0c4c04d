"""The kernel's own way to run a program on a packet of ours (BPF_PROG_TEST_RUN): nothing is attached."""

import ctypes
import os
import platform
import struct
from typing import Final, NamedTuple

from sojourn.linux.confine import ARCHITECTURES

PASSED, DROPPED, SENT_ON = 0xFFFFFFFF, 2, 7
"""TC_ACT_UNSPEC, TC_ACT_SHOT, TC_ACT_REDIRECT."""
_TEST_RUN: Final = 10
_SPACE: Final = 256
"""Bytes by which a program may lengthen a packet."""
_FIELDS: Final = struct.Struct("=IIIIQQII")
"""Of union bpf_attr (<linux/bpf.h>): program, verdict, bytes in and out, where both are, repeats, nanoseconds."""
_ATTRIBUTES: Final = 80

_libc = ctypes.CDLL(None, use_errno=True)


class Ran(NamedTuple):
    """What a program answered, the packet as it left it, and how long it took, on average."""

    verdict: int
    frame: bytes
    nanoseconds: int


def run(program: int, frame: bytes, repeat: int = 1) -> Ran:
    """Run a program, given by its descriptor, on an Ethernet frame; what is left of it is its next turn's. OSError."""
    room, given = ctypes.create_string_buffer(len(frame) + _SPACE), ctypes.create_string_buffer(frame, len(frame))
    places = ctypes.addressof(given), ctypes.addressof(room)
    attributes = ctypes.create_string_buffer(
        _FIELDS.pack(program, 0, len(frame), len(room), *places, repeat, 0), _ATTRIBUTES
    )
    call = ctypes.c_long(ARCHITECTURES[platform.machine()].bpf)
    if _libc.syscall(call, _TEST_RUN, attributes, len(attributes)) < 0:
        raise OSError(ctypes.get_errno(), f"a program was not run: {os.strerror(ctypes.get_errno())}")
    _, verdict, _, size, *_, took = _FIELDS.unpack_from(attributes)
    return Ran(verdict, room.raw[:size], took)
