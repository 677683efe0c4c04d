"""What two peers tell each other about a direct path, sealed under their session (docs/wire.md, direct path).

They are plaintexts of the sealed format, as proxy_hdr is: the seal is their authentication, and its counter keeps
replays out, which the message integrity of STUN (RFC 8489 §9) would not. Whoever looks on sees sealed packets and
nothing else. The meaning is ICE's (RFC 8445):

    0x30  Offer    by the rendezvous node: whether its sender wants a direct path, and its candidates
    0x31  Check    from address to address: a Binding request
    0x32  Answer   back to where the check came from: a Binding success response, with that address
    0x33  Carried  a Hello or an Accept, so that keys are renewed also where no node is left
    0x34  SizeProbe  from address to address, padded and with DF: an Answer says that so much passes (RFC 8899)
"""

import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Final

from msgspec import Struct

from sojourn.errors import RemoteProtocolError
from sojourn.i3.packet import ENDPOINT_BYTES, pack_endpoint, parse_endpoint
from sojourn.model import Endpoint

# The protocol's.
NIBBLE: Final = 3
OFFER, CHECK, ANSWER, CARRIED, SIZE_PROBE = range(0x30, 0x35)
VERSION: Final = 0
MAX_CANDIDATES: Final = 8
WANTS, LOST = 1, 2
USE: Final = 1
TRANSACTION_BYTES: Final = 8

_OFFER = struct.Struct("!BBBBQQ")
_CANDIDATE = struct.Struct(f"!BI{ENDPOINT_BYTES}s")
_CHECK = struct.Struct(f"!BBBxI{TRANSACTION_BYTES}s15x")
_PROBE = struct.Struct(f"!BBxx{TRANSACTION_BYTES}s")
_ANSWER = struct.Struct(f"!BBxx{TRANSACTION_BYTES}s{ENDPOINT_BYTES}s")

PROBE_BYTES: Final = _PROBE.size
"""Without padding."""


class Kind(IntEnum):
    """Where a candidate is from (RFC 8445 §5.1.1). Peer-reflexive ones are found by checks and never told."""

    HOST = 0
    REFLEXIVE = 1


class Candidate(Struct, frozen=True):
    """An address at which somebody may be reached."""

    kind: Kind
    priority: int
    endpoint: Endpoint


class Offer(Struct, frozen=True):
    """What its sender wants, and where it may be reached."""

    wants: bool
    number: int
    """Grows by one with each change; another upper half: its sender has been started anew."""
    had: int = 0
    """The newest number that it has had of the receiver, 0 for none."""
    candidates: tuple[Candidate, ...] = ()
    lost: bool = False
    """What goes to its earlier candidates is lost."""

    def __bytes__(self) -> bytes:
        flags = (WANTS if self.wants else 0) | (LOST if self.lost else 0)
        head = _OFFER.pack(OFFER, VERSION, flags, len(self.candidates), self.number, self.had)
        return head + b"".join(
            _CANDIDATE.pack(each.kind, each.priority, pack_endpoint(each.endpoint)) for each in self.candidates
        )


class Check(Struct, frozen=True):
    """A question whether we are heard at this address, and from where."""

    transaction: bytes
    """8 random bytes, which the answer repeats."""
    priority: int
    """What a candidate has that is found by this check (RFC 8445 §7.1.1)."""
    use: bool = False
    """The controlling end wants this pair to be used."""

    def __bytes__(self) -> bytes:
        return _CHECK.pack(CHECK, VERSION, USE if self.use else 0, self.priority, self.transaction)


class Answer(Struct, frozen=True):
    """The answer to a check; of the same size."""

    transaction: bytes
    seen: Endpoint
    """Where the check came from."""

    def __bytes__(self) -> bytes:
        return _ANSWER.pack(ANSWER, VERSION, self.transaction, pack_endpoint(self.seen))


class Carried(Struct, frozen=True):
    """A greeting that needs no node."""

    message: bytes

    def __bytes__(self) -> bytes:
        return bytes((CARRIED, VERSION)) + self.message


class SizeProbe(Struct, frozen=True):
    """A question whether a packet of this size passes; `padding`: how many zeros follow."""

    transaction: bytes
    padding: int = 0

    def __bytes__(self) -> bytes:
        return _PROBE.pack(SIZE_PROBE, VERSION, self.transaction) + bytes(self.padding)


Message = Offer | Check | Answer | Carried | SizeProbe


def parse(plaintext: bytes) -> Message:
    """Read what a peer has sealed, of which the first nibble is 3; RemoteProtocolError."""
    if len(plaintext) < 2 or plaintext[1] != VERSION:
        raise RemoteProtocolError("a message about direct paths of another version", reason="version")
    reader = _READERS.get(plaintext[0])
    if reader is None:
        raise RemoteProtocolError(f"no message about direct paths begins with {plaintext[0]:#x}", reason="plaintext")
    return reader(plaintext)


def _offer(plaintext: bytes) -> Offer:
    if len(plaintext) < _OFFER.size:
        raise RemoteProtocolError("the offer is cut off", reason="short")
    _, _, flags, count, number, had = _OFFER.unpack_from(plaintext)
    if count > MAX_CANDIDATES:
        raise RemoteProtocolError(f"{count} candidates", reason="candidates")
    if len(plaintext) != _OFFER.size + count * _CANDIDATE.size or flags & ~(WANTS | LOST) or not number:
        raise RemoteProtocolError("an offer whose parts do not fit", reason="length")
    candidates = tuple(_candidate(plaintext, _OFFER.size + at * _CANDIDATE.size) for at in range(count))
    return Offer(bool(flags & WANTS), number, had, candidates, bool(flags & LOST))


def _candidate(plaintext: bytes, at: int) -> Candidate:
    kind, priority, place = _CANDIDATE.unpack_from(plaintext, at)
    endpoint = parse_endpoint(place)
    if kind not in (Kind.HOST, Kind.REFLEXIVE) or endpoint is None:
        raise RemoteProtocolError("a candidate that makes no sense", reason="candidates")
    return Candidate(Kind(kind), priority, endpoint)


def _check(plaintext: bytes) -> Check:
    if len(plaintext) != _CHECK.size or plaintext[2] & ~USE or plaintext[3] or any(plaintext[-15:]):
        raise RemoteProtocolError("a check of another form", reason="length")
    _, _, flags, priority, transaction = _CHECK.unpack(plaintext)
    return Check(transaction, priority, bool(flags & USE))


def _probe(plaintext: bytes) -> SizeProbe:
    if len(plaintext) < _PROBE.size or any(plaintext[2:4]) or any(plaintext[_PROBE.size :]):
        raise RemoteProtocolError("a probe of another form", reason="length")
    return SizeProbe(_PROBE.unpack_from(plaintext)[2], len(plaintext) - _PROBE.size)


def _answer(plaintext: bytes) -> Answer:
    if len(plaintext) != _ANSWER.size or any(plaintext[2:4]):
        raise RemoteProtocolError("an answer of another form", reason="length")
    _, _, transaction, place = _ANSWER.unpack(plaintext)
    seen = parse_endpoint(place)
    if seen is None:
        raise RemoteProtocolError("an answer without the address that was seen", reason="address")
    return Answer(transaction, seen)


_READERS: Final[dict[int, Callable[[bytes], Message]]] = {
    OFFER: _offer,
    CHECK: _check,
    ANSWER: _answer,
    CARRIED: lambda plaintext: Carried(plaintext[2:]),
    SIZE_PROBE: _probe,
}
