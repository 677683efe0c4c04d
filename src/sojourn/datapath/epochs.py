"""Which epochs this machine has used, kept so that no nonce repeats, also not over a crash (DESIGN §3.2, Keys).

    bytes 0-7    magic and version
    bytes 8-43   boot id, as text
    from 64 on   records of 20 bytes: tunnel index with the highest bit set, newest epoch used, newest epoch
                 that the peer has reported, newest epoch of the peer that was opened, and the highest
                 counter opened in it plus 1 (native order)

The last two spare a restarted receiver from taking replayed packets for new ones.

The file is mapped: a store is in the page cache before it returns, so that it outlives the process.
It does not outlive a power cut, and needn't: with another boot id the file is void, and what was
sealed before must not be sealed with again (`was_void`).
"""

import mmap
import os
import struct
from pathlib import Path
from typing import Final

from sojourn.errors import ConfigError
from sojourn.model import TunnelId

_MAGIC: Final = b"SJEPOCH2"
_HEADER_BYTES: Final = 64
_RECORD: Final = struct.Struct("=IIIII")
_NUMBER: Final = struct.Struct("=I")
_OPENED: Final = struct.Struct("=II")
_GROW_RECORDS: Final = 4096
"""80 kB, allocated at once: a disk that is full later must not take the pages away from under the process."""
_TAKEN: Final = 1 << 31
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class EpochStore:
    """Used, reported and opened epochs by tunnel. Without a path it lives and dies with the process."""

    def __init__(self, path: str | os.PathLike[str] | None = None, *, boot_id: str | None = None) -> None:
        """Open or create the file; `boot_id` is the kernel's unless a test says otherwise."""
        self.was_void = False
        """The file was missing or of another boot: secrets from before must not be sealed with."""
        self._places: dict[TunnelId, int] = {}
        self._free = _HEADER_BYTES
        self._map: mmap.mmap | bytearray = bytearray(_HEADER_BYTES)
        self._fd: int | None = None
        if path is not None:
            self._open(Path(path), boot_id if boot_id is not None else _BOOT_ID.read_text().strip())

    def next(self, tunnel: TunnelId, at_least: int = 0) -> int:
        """Return an epoch never used before on this tunnel, `at_least` or later; it is stored when this returns."""
        place = self._place(tunnel)
        epoch = max(self.used(tunnel) + 1, at_least)
        _NUMBER.pack_into(self._map, place + 4, epoch)
        return epoch

    def used(self, tunnel: TunnelId) -> int:
        """Return the newest epoch given out, 0 for none."""
        return self._read(tunnel, 4)

    def reported(self, tunnel: TunnelId) -> int:
        """Return the newest of our epochs that the peer is known to have opened, 0 for none."""
        return self._read(tunnel, 8)

    def opened(self, tunnel: TunnelId) -> tuple[int, int]:
        """Return the newest epoch of the peer that we have opened, 0 for none, and the highest counter in it or -1."""
        return self._read(tunnel, 12), self._read(tunnel, 16) - 1

    def note_reported(self, tunnel: TunnelId, epoch: int) -> None:
        """Remember what the peer reported."""
        _NUMBER.pack_into(self._map, self._place(tunnel) + 8, epoch)

    def note_opened(self, tunnel: TunnelId, epoch: int, counter: int) -> None:
        """Remember how far the peer has come. Once a batch, so it is cheap."""
        _OPENED.pack_into(self._map, self._place(tunnel) + 12, epoch, min(counter + 1, 0xFFFFFFFF))

    def close(self) -> None:
        """Let the file go; what was stored stays."""
        if isinstance(self._map, mmap.mmap):
            self._map.close()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self, path: Path, boot_id: str) -> None:
        try:
            self._open_file(path, boot_id)
        except OSError as error:
            fix = "Check the disk's free space and who may write there."
            raise ConfigError(str(path), f"cannot be written: {error.strerror}", fix) from error

    def _open_file(self, path: Path, boot_id: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        header = _MAGIC + boot_id.encode("ascii")[:36].ljust(36, b"\0")
        size = os.fstat(self._fd).st_size
        if size < _HEADER_BYTES or os.pread(self._fd, len(header), 0) != header:
            self.was_void = True
            os.ftruncate(self._fd, 0)
            size = _HEADER_BYTES + _GROW_RECORDS * _RECORD.size
            os.posix_fallocate(self._fd, 0, size)
            os.pwrite(self._fd, header, 0)
        self._map = mmap.mmap(self._fd, size)
        while self._free + _RECORD.size <= size:
            index = _RECORD.unpack_from(self._map, self._free)[0]
            if not index & _TAKEN:
                break
            self._places[TunnelId(index ^ _TAKEN)] = self._free
            self._free += _RECORD.size

    def _read(self, tunnel: TunnelId, offset: int) -> int:
        place = self._places.get(tunnel)
        return 0 if place is None else int(_NUMBER.unpack_from(self._map, place + offset)[0])

    def _place(self, tunnel: TunnelId) -> int:
        place = self._places.get(tunnel)
        if place is None:
            place = self._free
            if place + _RECORD.size > len(self._map):
                self._grow()
            _RECORD.pack_into(self._map, place, tunnel | _TAKEN, 0, 0, 0, 0)
            self._places[tunnel] = place
            self._free = place + _RECORD.size
        return place

    def _grow(self) -> None:
        size = len(self._map) + _GROW_RECORDS * _RECORD.size
        if isinstance(self._map, mmap.mmap) and self._fd is not None:
            os.posix_fallocate(self._fd, 0, size)
            self._map.resize(size)
        elif isinstance(self._map, bytearray):
            self._map.extend(bytes(_GROW_RECORDS * _RECORD.size))
