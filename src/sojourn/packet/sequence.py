"""Numbers of copied packets: the plaintexts of a tunnel whose first nibble is 1 (docs/wire.md, copies).

    bytes 0-3   0 0 0 1 n n n n ...   1, and then the number, 28 bits
    bytes 4-    an IP packet

A flow whose packets travel over several networks is numbered by its sender, in each direction by itself; the
receiver lets the first packet of each number through. Numbers are compared as RFC 1982 has it: 2^28 of them
stand in a circle.

A sender that starts again knows nothing of what it had counted, so it begins at a number taken from the clock,
which is ahead of all that it can have used (65536 a second). A receiver that is told numbers from far behind, or
none but old ones for a while, takes that for a new beginning.
"""

from typing import Final

from sojourn.errors import RemoteProtocolError

NIBBLE: Final = 1
OVERHEAD_BYTES: Final = 4
BITS: Final = 28
MODULUS: Final = 1 << BITS
PER_SECOND: Final = 1 << 16
"""How fast the beginnings run: faster than any flow's packets."""
WINDOW: Final = 1024
"""Numbers up to the highest of which it is known whether they came."""
BEHIND: Final = 1 << 16
"""A number so far behind the highest one is no late packet: its sender began anew."""
PATIENCE: Final = 2.0
"""Seconds with nothing but old numbers, after which the next one counts as a new beginning."""
_HALF: Final = MODULUS >> 1
_MASK: Final = (1 << WINDOW) - 1


def first(now: float) -> int:
    """Return the number to begin with at `now`, in seconds of a clock that goes on over restarts."""
    return int(now * PER_SECOND) % MODULUS


def following(number: int) -> int:
    """Return the number after `number`."""
    return (number + 1) % MODULUS


def put(number: int, packet: bytes) -> bytes:
    """Return the plaintext that carries an IP packet under a number."""
    return (NIBBLE << BITS | number).to_bytes(OVERHEAD_BYTES) + packet


def take(plaintext: bytes) -> tuple[int, bytes]:
    """Return number and IP packet of a plaintext; raise RemoteProtocolError for one that is none."""
    if len(plaintext) <= OVERHEAD_BYTES or plaintext[0] >> 4 != NIBBLE:
        raise RemoteProtocolError("no copied packet", reason="plaintext")
    return int.from_bytes(plaintext[:OVERHEAD_BYTES]) % MODULUS, plaintext[OVERHEAD_BYTES:]


class SequenceWindow:
    """Which of a flow's numbers have come: the highest, and a bitmap of the 1024 up to it."""

    __slots__ = ("_accepted_at", "_began_at", "_bitmap", "_former", "_top")

    def __init__(self) -> None:
        self._top = -1
        self._bitmap = 0
        self._accepted_at = 0.0
        self._former = -1
        """The highest number before the sender began anew."""
        self._began_at = 0.0

    def accept(self, number: int, now: float) -> bool:
        """Say whether a number comes for the first time, and take note of it."""
        ahead = _ahead(number, self._top)
        if self._top < 0:
            self._begin(number, now)
        elif 0 < ahead < BEHIND:
            self._bitmap = (self._bitmap << ahead if ahead < WINDOW else 0) & _MASK | 1
            self._top = number
        elif -WINDOW < ahead <= 0:
            if self._bitmap >> -ahead & 1:
                return False
            self._bitmap |= 1 << -ahead
        elif self._is_late(number, ahead, now):
            return False
        else:
            self._begin(number, now)
        self._accepted_at = now
        return True

    def _is_late(self, number: int, ahead: int, now: float) -> bool:
        """Say whether a number outside of the window is an old one, and not one of a new beginning."""
        if -BEHIND < ahead <= 0:
            return now - self._accepted_at < PATIENCE
        return self._former >= 0 and now - self._began_at < PATIENCE and -BEHIND < _ahead(number, self._former) < WINDOW

    def _begin(self, number: int, now: float) -> None:
        """Start at a number; those just before it may still be on their way."""
        self._former, self._began_at = self._top, now
        self._top, self._bitmap = number, 1


def _ahead(number: int, other: int) -> int:
    """Return by how much `number` is ahead of `other`, negative when it is behind (RFC 1982 §3.2)."""
    return (number - other + _HALF) % MODULUS - _HALF
