"""Control frames: the plaintexts of a tunnel whose first nibble is 0 (docs/wire.md, control frames).

    byte 0     0 0 0 0 t t t t   type
    byte 1     flags, 0 for now; unknown ones are ignored
    bytes 2-5  the newest epoch of the peer that the sender of this frame has opened
    then       what the type says, and any number of zero bytes (padding)

Times are microseconds of the sender's CLOCK_BOOTTIME: only differences mean anything to the peer.
Answers say which outer address a probe came from, so that a host learns what its NAT made of it.
"""

import ipaddress
import struct
from collections.abc import Callable
from typing import ClassVar, Final

from msgspec import Struct

from sojourn.errors import RemoteProtocolError
from sojourn.model import Endpoint

HEAD_BYTES: Final = 6
CHALLENGE_BYTES: Final = 8

_HEAD = struct.Struct("!BBI")
_PROBE = struct.Struct("!IQ")
_ANSWER = struct.Struct("!IQQQQQB16sH")


class Frame(Struct, frozen=True):
    """What every control frame says."""

    TYPE: ClassVar[int]

    opened: int
    """The newest epoch of the peer that the sender has opened (0 in a plain tunnel)."""

    def __bytes__(self) -> bytes:
        return _HEAD.pack(self.TYPE, 0, self.opened) + self.body()

    def body(self) -> bytes:
        """Return what follows the head."""
        return b""


class EpochFrame(Frame, frozen=True):
    """Nothing but the head: sealed in the sender's present epoch, it tells a peer which that is."""

    TYPE: ClassVar[int] = 0


class Probe(Frame, frozen=True):
    """Asks for an `Answer`. Padded, it also asks whether a packet of that size passes."""

    TYPE: ClassVar[int] = 1

    sequence: int
    sent_us: int

    def body(self) -> bytes:
        """Return sequence and time."""
        return _PROBE.pack(self.sequence, self.sent_us)


class Answer(Frame, frozen=True):
    """The answer to a probe: the first three of four timestamps, and the answerer's packet counts."""

    TYPE: ClassVar[int] = 2

    sequence: int
    sent_us: int
    """The probe's own time, handed back."""
    received_us: int
    answered_us: int
    packets_in: int
    """Authentic packets of the tunnel that the answerer has received, the probe included."""
    packets_out: int
    """Packets that it has sent in the tunnel, this answer included."""
    seen: Endpoint | None = None
    """The outer address that the probe came from."""

    def body(self) -> bytes:
        """Return sequence, times, counts and address."""
        family, address = pack_address(self.seen.address) if self.seen is not None else (0, bytes(16))
        return _ANSWER.pack(
            self.sequence, self.sent_us, self.received_us, self.answered_us, self.packets_in, self.packets_out,
            family, address, self.seen.port if self.seen is not None else 0,
        )  # fmt: skip


class Challenge(Frame, frozen=True):
    """Asks whoever is at an outer address to prove it (RFC 9000 §8.2's way)."""

    TYPE: ClassVar[int] = 3

    data: bytes

    def body(self) -> bytes:
        """Return the 8 bytes to be handed back."""
        return self.data


class Response(Frame, frozen=True):
    """Hands a challenge's bytes back."""

    TYPE: ClassVar[int] = 4

    data: bytes

    def body(self) -> bytes:
        """Return the challenge's 8 bytes."""
        return self.data


class Close(Frame, frozen=True):
    """The sender gives the tunnel up."""

    TYPE: ClassVar[int] = 5


def pack_address(address: str) -> tuple[int, bytes]:
    """Return family (4 or 6) and 16 bytes; an IPv4 address stands in the first four."""
    parsed = ipaddress.ip_address(address)
    return parsed.version, parsed.packed.ljust(16, b"\0")


def parse(data: bytes | memoryview) -> Frame:
    """Read one control frame; raise RemoteProtocolError for anything else."""
    if len(data) < HEAD_BYTES:
        raise RemoteProtocolError("shorter than a control frame's head", reason="frame")
    kind, _flags, opened = _HEAD.unpack_from(data)
    reader = _READERS.get(kind)
    if reader is None:
        raise RemoteProtocolError(f"unknown control frame {kind}", reason="frame-type")
    size, read = reader
    if len(data) < HEAD_BYTES + size:
        raise RemoteProtocolError("control frame is cut off", reason="frame")
    padding = bytes(data[HEAD_BYTES + size :])
    if padding.count(0) != len(padding):
        raise RemoteProtocolError("padding of a control frame is not zero", reason="frame")
    return read(opened, bytes(data[HEAD_BYTES : HEAD_BYTES + size]))


def _probe(opened: int, body: bytes) -> Frame:
    return Probe(opened, *_PROBE.unpack(body))


def _answer(opened: int, body: bytes) -> Frame:
    sequence, sent, received, answered, packets_in, packets_out, family, address, port = _ANSWER.unpack(body)
    seen = None
    if family == 4 and not any(address[4:]):
        seen = Endpoint(str(ipaddress.IPv4Address(address[:4])), port)
    elif family == 6:
        seen = Endpoint(str(ipaddress.IPv6Address(address)), port)
    elif family != 0 or any(address) or port:
        raise RemoteProtocolError(f"address of family {family} in an answer", reason="frame")
    return Answer(opened, sequence, sent, received, answered, packets_in, packets_out, seen)


_READERS: Final[dict[int, tuple[int, Callable[[int, bytes], Frame]]]] = {
    EpochFrame.TYPE: (0, lambda opened, _body: EpochFrame(opened)),
    Probe.TYPE: (_PROBE.size, _probe),
    Answer.TYPE: (_ANSWER.size, _answer),
    Challenge.TYPE: (CHALLENGE_BYTES, Challenge),
    Response.TYPE: (CHALLENGE_BYTES, Response),
    Close.TYPE: (0, lambda opened, _body: Close(opened)),
}
