"""The bpf(2) calls on maps that one has by descriptor: no library, no privilege but the descriptor (Linux 5.19).

The data-path process may do `look_up` and nothing else of bpf(2) (linux/confine.py).
"""

import ctypes
import os
import platform
from collections.abc import Iterator
from typing import Final

from sojourn.linux.confine import ARCHITECTURES, BPF_MAP_LOOK_UP

# <linux/bpf.h>, enum bpf_cmd
_UPDATE, _DELETE, _NEXT_KEY = 2, 3, 4
ANY, NO_EXIST = 0, 1


class _Element(ctypes.Structure):
    """The part of union bpf_attr that is about one element. Bytes after it would have to be zero."""

    _fields_ = (
        ("map_fd", ctypes.c_uint32),
        ("padding", ctypes.c_uint32),
        ("key", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
    )


class BpfMap:
    """One map. The descriptor is the caller's."""

    def __init__(self, fd: int, key_bytes: int, value_bytes: int) -> None:
        self.fd = fd
        self._key = ctypes.create_string_buffer(key_bytes)
        self._next = ctypes.create_string_buffer(key_bytes)
        self._value = ctypes.create_string_buffer(value_bytes)
        self._element = _Element(fd, 0, ctypes.addressof(self._key), ctypes.addressof(self._value), 0)
        self._walk = _Element(fd, 0, ctypes.addressof(self._key), ctypes.addressof(self._next), 0)

    def look_up(self, key: bytes) -> bytes | None:
        """Return the value of a key, which is padded with zeros; None where there is none. Raises OSError."""
        self._put(self._key, key)
        return self._value.raw if self._call(BPF_MAP_LOOK_UP, self._element) else None

    def update(self, key: bytes, value: bytes, flags: int = ANY) -> None:
        """Give a key its value; raise OSError (FileExistsError with NO_EXIST)."""
        self._put(self._key, key)
        self._put(self._value, value)
        self._element.flags = flags
        try:
            if not self._call(_UPDATE, self._element):
                raise OSError(ctypes.get_errno(), "the map has no such place")
        finally:
            self._element.flags = 0

    def delete(self, key: bytes) -> None:
        """Forget a key; one that is not there is harmless."""
        self._put(self._key, key)
        self._element.value = 0
        try:
            self._call(_DELETE, self._element)
        finally:
            self._element.value = ctypes.addressof(self._value)

    def keys(self) -> Iterator[bytes]:
        """Yield the keys; what changes meanwhile may be missed or come twice."""
        self._walk.key = 0
        try:
            while self._call(_NEXT_KEY, self._walk):
                key = self._next.raw
                yield key
                self._put(self._key, key)
                self._walk.key = ctypes.addressof(self._key)
        finally:
            self._walk.key = ctypes.addressof(self._key)

    @staticmethod
    def _put(room: "ctypes.Array[ctypes.c_char]", data: bytes) -> None:
        if len(data) > len(room):
            raise ValueError(f"{len(data)} bytes for {len(room)}")
        room.raw = data if len(data) == len(room) else data.ljust(len(room), b"\0")

    @staticmethod
    def _call(command: int, element: _Element) -> bool:
        """Carry out one command; False where there is no such element."""
        if _syscall(_BPF, command, ctypes.byref(element), ctypes.sizeof(element)) >= 0:
            return True
        number = ctypes.get_errno()
        if number == 2:  # ENOENT
            return False
        raise OSError(number, os.strerror(number))


_architecture: Final = ARCHITECTURES.get(platform.machine())
_BPF: Final = ctypes.c_long(_architecture.bpf if _architecture is not None else -1)
_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long
