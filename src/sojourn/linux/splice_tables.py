"""The splice's program in the kernel, and its maps: loaded and pinned, or found as a predecessor has left them.

    FOLDER/program, tuples4, tuples6, pairs, counts, notices, link-INDEX      (one folder for each build of the program)

A pair's memory is shared with the program: to read or change it costs no system call.
"""

import contextlib
import errno
import hashlib
import mmap
import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sojourn.errors import NotSupported, RemoteProtocolError
from sojourn.linux import bpf_pin
from sojourn.linux.bpf import OBJECTS, BpfObject, close_all
from sojourn.linux.bpf_map import NO_EXIST, BpfMap
from sojourn.linux.bpf_ring import BpfRing
from sojourn.linux.bpf_tc import attach_filter, attach_tcx, detach_filter, detach_filters, has_ethernet_header
from sojourn.linux.release import kernel
from sojourn.msocks import splice_pair
from sojourn.msocks.splice_pair import (
    COUNTS,
    FLAGS_AT,
    HALF_AT,
    HALF_FLAGS_AT,
    HALVES,
    HEARD_AT,
    LEG_SENT_AT,
    PAIR_BYTES,
    QUIET_AT,
    SERIAL_AT,
    STATE_BITS,
    HalfFlag,
    Notice,
    Pair,
    State,
    Stream,
    place_of,
    tuple_value,
)

OBJECT: Final = OBJECTS / "splice.bpf.o"
PROGRAM: Final = "splice"
MAPS: Final = ("tuples4", "tuples6", "pairs", "counts", "notices")
RING_BYTES: Final = 1 << 18
MOST_PAIRS: Final = 1 << 16
PRIORITY: Final = 54
"""Of our filter where the kernel has no tcx; the plain tunnels' is 53."""
LOOPBACK: Final = 1
BPF_LOOP: Final = (5, 17)
"""The kernel that has it first; nothing else in the program is as new."""
_NO_TCX: Final = frozenset((errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS))
_U32, _U64 = struct.Struct("=I"), struct.Struct("=Q")
_STATE_MASK: Final = (1 << STATE_BITS) - 1
_MOST_TURNS: Final = (1 << 32 - STATE_BITS) - 1
_ROWS, _ROW_BYTES = 64, 128
"""Counters: one row for some processors each."""


def refusal(error: OSError | NotSupported) -> str:
    """Say in one line why there is no splice here."""
    if isinstance(error, NotSupported):
        return str(error)
    release, version = kernel()
    if error.errno == errno.EINVAL and version < BPF_LOOP:
        return f"Linux {release} has no bpf_loop, 5.17 and newer have"
    said = error.strerror or str(error)
    if error.errno in (errno.EPERM, errno.EACCES):
        return f"{said.lower()} (it takes root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON)"
    return said


def folder_of(key: str) -> Path:
    """Return where the proxy that is called `key` pins. Raises OSError."""
    digest = hashlib.sha256(OBJECT.read_bytes()).hexdigest()[:12]
    return bpf_pin.place() / f"sojourn-{bpf_pin.namespace()}-{key}" / digest


class SpliceTables:
    """See the module."""

    def __init__(self, folder: Path, size: int) -> None:
        """Find what is pinned, else load for at most `size` sessions. Raises OSError, NotSupported."""
        self.folder = folder
        self.size = min(size, MOST_PAIRS)
        self.attached: set[int] = set()
        self._fds: dict[str, int] = {}
        self._links: dict[int, int | None] = {}
        try:
            self._obtain()
            self._tuples = {
                12: BpfMap(self._fds["tuples4"], 12, 4), 36: BpfMap(self._fds["tuples6"], 36, 4),
            }  # fmt: skip
            self._memory = _shared(self._fds["pairs"], self.size * PAIR_BYTES)
            self._counts = _shared(self._fds["counts"], _ROWS * _ROW_BYTES)
            self.ring = BpfRing(self._fds["notices"], RING_BYTES)
        except BaseException:
            close_all(self._fds.values())
            raise
        self._view = memoryview(self._memory)
        self._free = [place for place in reversed(range(self.size)) if not self.state(place)]
        self._serial = time.monotonic_ns() & 0x7FFFFFFF

    def _obtain(self) -> None:
        names = (PROGRAM, *MAPS)
        for name in names:
            fd = bpf_pin.get(self.folder / name)
            if fd is None:
                break
            self._fds[name] = fd
        else:
            size = self.folder / f"size-{self.size}"
            if size.exists():
                return
        close_all(self._fds.values())
        self._fds.clear()
        bpf_pin.remove(self.folder.parent)
        sizes = {"tuples4": 2 * self.size, "tuples6": 2 * self.size, "pairs": self.size, "notices": RING_BYTES}
        with BpfObject(OBJECT, sizes) as loaded:
            self._fds[PROGRAM] = loaded.program(PROGRAM)
            self._fds.update((name, loaded.map(name)) for name in MAPS)
        self.folder.mkdir(parents=True, mode=0o700)
        for name in names:
            bpf_pin.pin(self._fds[name], self.folder / name)
        (self.folder / f"size-{self.size}").mkdir()

    # -- where packets are caught

    def attach_all(self) -> None:
        """Catch what arrives on any Ethernet interface that there is. Raises OSError."""
        for index, name in socket.if_nameindex():
            if index not in self.attached and index != LOOPBACK:
                with contextlib.suppress(OSError):  # it is gone already
                    if has_ethernet_header(name):
                        self._attach(index)

    def _attach(self, index: int) -> None:
        path = self.folder / f"link-{index}"
        link = bpf_pin.get(path)
        if link is not None:
            if bpf_pin.link_interface(link) == index:
                self._links[index] = link
                self.attached.add(index)
                return
            os.close(link)
            path.unlink()
        try:
            link = attach_tcx(self._fds[PROGRAM], index, egress=False)
            bpf_pin.pin(link, path)
            self._links[index] = link
        except OSError as error:
            if error.errno not in _NO_TCX:
                raise
            attach_filter(self._fds[PROGRAM], index, egress=False, priority=PRIORITY)
            self._links[index] = None
        self.attached.add(index)

    # -- sessions

    @property
    def room(self) -> int:
        """How many sessions more there may be."""
        return len(self._free)

    def take(self) -> int | None:
        """Return a place for one session, with a serial number of its own; None where all are taken."""
        if not self._free:
            return None
        place = self._free.pop()
        self._serial = (self._serial + 1) & 0x7FFFFFFF
        self._next_turn(place, State.FREE)
        self._put(place, SERIAL_AT, self._serial)
        return place

    def give_back(self, place: int) -> None:
        """Let a session's place go; its tuples have to be forgotten before."""
        self._empty(place)
        self._free.append(place)

    def serial(self, place: int) -> int:
        """Return the number that tells who has a place."""
        return self._get(place, SERIAL_AT)

    def state(self, place: int) -> int:
        """Return a pair's state."""
        return self._get(place, 0) & _STATE_MASK

    def turn(self, place: int) -> int:
        """Return which leg a pair has."""
        return self._get(place, 0) >> STATE_BITS

    def set_state(self, place: int, state: State) -> None:
        """Change a pair's state: the program sees it with the next packet."""
        self._put(place, 0, self.turn(place) << STATE_BITS | state)

    def end_turn(self, place: int) -> None:
        """Take a pair's leg away: not even packets that the program has in its hands now leave by it."""
        self._next_turn(place, State.LEGLESS)

    def flags(self, place: int) -> int:
        """Return a pair's flags."""
        return self._get(place, FLAGS_AT)

    def owes(self, place: int, whose: int) -> bool:
        """Say whether a peer has not acknowledged yet what the proxy itself has said."""
        return bool(self._memory[place * PAIR_BYTES + HALF_AT[whose] + HALF_FLAGS_AT] & HalfFlag.OWN)

    def is_quiet(self, place: int) -> bool:
        """Say whether the correspondent is told to wait for a client that has a leg."""
        return bool(self._get(place, QUIET_AT))

    def set_quiet(self, place: int) -> None:
        """Have it told so until the client says something."""
        self._put(place, QUIET_AT, 1)

    def write(self, place: int, pair: Pair) -> None:
        """Fill a pair in, of the turn that it has now; its state comes last."""
        pair.turn = self.turn(place)
        at = place * PAIR_BYTES
        self._view[at + 4 : at + PAIR_BYTES] = splice_pair.pack(pair)[4:]
        self.set_state(place, State(pair.state))

    def write_leg(self, place: int, pair: Pair) -> None:
        """Fill in what a new leg changes. The streams are the program's: it counts while the correspondent waits."""
        pair.turn = self.turn(place)
        data, at = splice_pair.pack(pair), place * PAIR_BYTES
        for part in (HALVES, slice(LEG_SENT_AT, PAIR_BYTES), slice(QUIET_AT, QUIET_AT + 4)):
            self._view[at + part.start : at + part.stop] = data[part]
        self.set_state(place, State.SPLICED)

    def read(self, place: int, *, six: bool = False) -> Pair:
        """Read a pair."""
        return splice_pair.unpack(self._of(place), six=six)

    def read_bytes(self, place: int) -> bytes:
        """Read a pair as it lies in memory."""
        return bytes(self._of(place))

    def streams(self, place: int) -> tuple[Stream, Stream]:
        """Read how far a pair has come."""
        return splice_pair.read_streams(self._of(place))

    def heard(self, place: int, whose: int) -> float:
        """Return when a peer was heard last (CLOCK_MONOTONIC, seconds; 0: never)."""
        found: tuple[int] = _U64.unpack_from(self._memory, place * PAIR_BYTES + HALF_AT[whose] + HEARD_AT)
        return found[0] / 1e9

    def enter(self, key: bytes, place: int, whose: int) -> None:
        """Let packets that carry a tuple be of a pair. Raises FileExistsError, OSError where the map is full."""
        self._tuples[len(key)].update(key, _U32.pack(tuple_value(place, whose, self.turn(place))), NO_EXIST)

    def forget(self, key: bytes) -> None:
        """Let a tuple's packets be nobody's."""
        self._tuples[len(key)].delete(key)

    def sweep(self, known: set[int]) -> int:
        """Free the places and tuples that nobody of `known` has; return how many tuples (a predecessor's) went."""
        gone = 0
        for tuples in self._tuples.values():
            for key in list(tuples.keys()):
                value = tuples.look_up(key)
                if value is not None and place_of(_U32.unpack(value)[0]) not in known:
                    tuples.delete(key)
                    gone += 1
        self._free.clear()
        for place in reversed(range(self.size)):
            if place not in known:
                if self.state(place):
                    self._empty(place)
                self._free.append(place)
        return gone

    def counts(self) -> dict[str, int]:
        """Return what was done with packets."""
        rows = range(0, _ROWS * _ROW_BYTES, _ROW_BYTES)
        return {
            name: sum(_U64.unpack_from(self._counts, row + 8 * at)[0] for row in rows) for at, name in enumerate(COUNTS)
        }  # fmt: skip

    def entries(self) -> int:
        """Return how many tuples are in the maps."""
        return sum(1 for tuples in self._tuples.values() for _ in tuples.keys())  # noqa: SIM118 - no dict

    def notices(self) -> Iterator[Notice]:
        """Yield what the program has told since the last call."""
        for record in self.ring.read():
            with contextlib.suppress(RemoteProtocolError):
                yield splice_pair.parse_notice(record)

    # -- ends

    def close(self, *, clean: bool) -> None:
        """Let go. `clean`: nothing stays in the kernel; else all does, for a successor."""
        self._view.release()
        self._memory.close()
        self._counts.close()
        self.ring.close()
        if clean:
            for index, link in self._links.items():
                if link is None:
                    with contextlib.suppress(OSError):
                        detach_filter(index, egress=False, priority=PRIORITY)
            bpf_pin.remove(self.folder.parent)
        close_all(self._fds.values())
        close_all([link for link in self._links.values() if link is not None])

    def _next_turn(self, place: int, state: State) -> None:
        """Begin the turn after the present one, which is never 0: that is what has never been written."""
        self._put(place, 0, (self.turn(place) % _MOST_TURNS + 1) << STATE_BITS | state)

    def _empty(self, place: int) -> None:
        at = place * PAIR_BYTES
        self._next_turn(place, State.FREE)
        self._view[at + 4 : at + PAIR_BYTES] = bytes(PAIR_BYTES - 4)

    def _of(self, place: int) -> memoryview:
        return self._view[place * PAIR_BYTES : (place + 1) * PAIR_BYTES]

    def _get(self, place: int, at: int) -> int:
        found: tuple[int] = _U32.unpack_from(self._memory, place * PAIR_BYTES + at)
        return found[0]

    def _put(self, place: int, at: int, value: int) -> None:
        _U32.pack_into(self._memory, place * PAIR_BYTES + at, value)


def _shared(fd: int, size: int) -> mmap.mmap:
    pages = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    return mmap.mmap(fd, pages, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)


def remove_all() -> list[str]:
    """Remove what proxies of this network namespace have left attached, and their pins; return what went."""
    gone = detach_filters(PRIORITY)
    return gone + [f"splice {folder}" for folder in bpf_pin.remove_all(f"sojourn-{bpf_pin.namespace()}-*")]


def remove_of(key: str) -> None:
    """Remove what the proxy that is called `key` has left in the kernel, if anything."""
    for place in bpf_pin.mounted():
        for folder in place.glob(f"sojourn-{bpf_pin.namespace()}-{key}"):
            detach_filters(PRIORITY)
            bpf_pin.remove(folder)
