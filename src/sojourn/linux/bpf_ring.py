"""Reads a BPF ring buffer by its map descriptor (Linux 5.8): readable when something is there.

The kernel's layout (Documentation/bpf/ringbuf.rst): a page with the consumer's position, a page with the
producer's, then the data, mapped twice in a row so that no record is cut by the end.
"""

import mmap
import struct
from collections.abc import Iterator
from typing import Final

_POSITION: Final = struct.Struct("=Q")
_HEADER: Final = struct.Struct("=II")
_BUSY, _DISCARD = 1 << 31, 1 << 30
_LENGTH: Final = _DISCARD - 1
MOST: Final = 4096


class BpfRing:
    """One ring buffer, of which this is the only reader. The descriptor is the caller's."""

    def __init__(self, fd: int, size: int) -> None:
        """`size`: the map's max_entries, in bytes."""
        self.fd = fd
        self._mask = size - 1
        page = mmap.PAGESIZE
        self._consumer = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        self._shown = mmap.mmap(fd, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._page = page

    def read(self, most: int = MOST) -> Iterator[bytes]:
        """Yield `most` records of those that are there; each is free for the kernel when the next one is asked for.

        Whatever fills the ring may be faster than its reader: reading until it is empty may have no end.
        """
        at: int = _POSITION.unpack_from(self._consumer)[0]
        while most and at < _POSITION.unpack_from(self._shown)[0]:
            begin = self._page + (at & self._mask)
            length, _ = _HEADER.unpack_from(self._shown, begin)
            if length & _BUSY:
                return
            size = length & _LENGTH
            if not length & _DISCARD:
                most -= 1
                yield self._shown[begin + _HEADER.size : begin + _HEADER.size + size]
            at += (_HEADER.size + size + 7) & ~7
            _POSITION.pack_into(self._consumer, 0, at)

    def close(self) -> None:
        """Give the memory back."""
        self._consumer.close()
        self._shown.close()
