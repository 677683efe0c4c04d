"""A cable with delay and jitter, for kernels without netem: frames between two TAP devices wait in a heap.

`python -m sojourn.lab.relay NAMESPACE:DEVICE NAMESPACE:DEVICE SETTINGS` makes the two devices, says `ready`, and
follows SETTINGS, a JSON file {"delay_ms": one way, "jitter_ms": at most that much more}, read again when it changes.
Order is kept: jitter holds up what comes behind, as a queue does. The two directions are alike and independent.
"""

import fcntl
import heapq
import os
import random
import select
import struct
import sys
from pathlib import Path

import msgspec
from msgspec import Struct

from sojourn.lab import namespaces
from sojourn.lab.processes import now

# linux/if_tun.h
TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
FRAME_BYTES = 65536
QUEUE_FRAMES = 8192
"""Per direction; what comes on top is dropped, as in any full queue."""
SETTINGS_CHECK = 0.05


class Settings(Struct, frozen=True):
    """How slow the cable is."""

    delay_ms: float = 0.0
    jitter_ms: float = 0.0


class Direction:
    """One way through the cable: frames by the time at which they are due at its end."""

    def __init__(self, chance: random.Random) -> None:
        self.settings = Settings()
        self._chance = chance
        self._waiting: list[tuple[float, int, bytes]] = []
        self._count = 0
        self._last_due = 0.0

    def put(self, frame: bytes, at: float) -> bool:
        """Take in a frame; False if the queue was full and it is lost."""
        if len(self._waiting) >= QUEUE_FRAMES:
            return False
        extra = self._chance.uniform(0.0, self.settings.jitter_ms) if self.settings.jitter_ms else 0.0
        self._last_due = max(self._last_due, at + (self.settings.delay_ms + extra) / 1000)
        self._count += 1
        heapq.heappush(self._waiting, (self._last_due, self._count, frame))
        return True

    def due(self, at: float) -> list[bytes]:
        """Take out the frames whose time has come, in order."""
        frames = []
        while self._waiting and self._waiting[0][0] <= at:
            frames.append(heapq.heappop(self._waiting)[2])
        return frames

    def next_due(self) -> float | None:
        """Return when the next frame is due, or None while the cable is empty."""
        return self._waiting[0][0] if self._waiting else None


def open_tap(namespace: str, device: str) -> int:
    """Make a TAP device in a namespace and return its descriptor; the device lives as long as that is open."""

    def make() -> int:
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TAP | IFF_NO_PI))
        return descriptor

    return namespaces.inside(namespace, make)


class Cable:
    """Two ends, and the frames under way between them."""

    def __init__(self, ends: tuple[int, int], settings: Path) -> None:
        self.ends = ends
        self._file = settings
        self._version = 0
        self._checked = 0.0
        self.directions = {end: Direction(random.Random(index)) for index, end in enumerate(ends)}

    def run(self) -> None:
        """Carry frames until the process ends."""
        while True:
            at = now()
            if at - self._checked >= SETTINGS_CHECK:
                self._follow_settings(at)
            for end, other in (self.ends, self.ends[::-1]):
                for frame in self.directions[end].due(at):
                    _write(other, frame)
            readable, _, _ = select.select(self.ends, [], [], self._pause())
            at = now()
            for end in readable:
                for frame in _read_all(end):
                    self.directions[end].put(frame, at)

    def _pause(self) -> float:
        due = [time for direction in self.directions.values() if (time := direction.next_due()) is not None]
        return max(0.0, min(due) - now()) if due else SETTINGS_CHECK

    def _follow_settings(self, at: float) -> None:
        self._checked = at
        version = self._file.stat().st_mtime_ns
        if version != self._version:
            self._version = version
            settings = msgspec.json.decode(self._file.read_bytes(), type=Settings)
            for direction in self.directions.values():
                direction.settings = settings


def _read_all(end: int) -> list[bytes]:
    frames = []
    for _ in range(64):
        try:
            frames.append(os.read(end, FRAME_BYTES))
        except OSError:  # EAGAIN: that was all; EIO: the device is down, its frames are gone
            break
    return frames


def _write(end: int, frame: bytes) -> None:
    try:
        os.write(end, frame)
    except OSError:
        return  # the device is down or full: a cable does not report that


def main(arguments: list[str]) -> None:
    """Run from the command line, as the module's docstring says."""
    left, right, settings = arguments
    ends = (open_tap(*left.split(":", 1)), open_tap(*right.split(":", 1)))
    print("ready", flush=True)
    Cable(ends, Path(settings)).run()


if __name__ == "__main__":
    main(sys.argv[1:])
