"""What hosts and nodes send each other, byte for byte (docs/wire.md, rendezvous). The first nibble is 1.

    0x10  Data        host -> node -> host: a stack of identifiers and a payload
    0x11  Insert      host -> node          0x12  Remove
    0x13  Challenge   node -> host          0x14  Answer
    0x15  Location    node -> sender: where to send packets for an identifier from now on
    0x16  Probe       host -> node: are you there          0x17  Echo

No answer is longer than what caused it, except to an address that has shown a nonce.
"""

import ipaddress
import struct
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final

from msgspec import Struct

from sojourn.errors import RemoteProtocolError
from sojourn.i3.challenge import NO_NONCE, NONCE_BYTES
from sojourn.i3.home import KEY_BYTES as HOME_KEY_BYTES
from sojourn.i3.home import SIGNATURE_BYTES
from sojourn.i3.identifier import IDENTIFIER_BYTES, KEY_BYTES, Identifier
from sojourn.model import Endpoint

# The protocol's.
DATA, INSERT, REMOVE, CHALLENGE, ANSWER, LOCATION, PROBE, ECHO = range(0x10, 0x18)
ASK: Final = 0x10
"""Flag of Data: the sender wants a Location; its nonce follows the stack."""
RELAYED: Final = 0x20
"""Flag of Data: a node that shares its triggers sends this to the one by which their hosts are reached."""
COUNT: Final = 0x0F
MAX_STACK: Final = 8
MAX_TARGET: Final = 4
"""Identifiers that a trigger may lead to. With more, a small packet would grow too much."""
MAX_HOPS: Final = 16
MAX_COPIES: Final = 64
HEAD_BYTES: Final = 4
ENDPOINT_BYTES: Final = 19
GROUP_BYTES: Final = 8
ALONE: Final = bytes(GROUP_BYTES)
"""The group of a node that shares its triggers with no other."""

_REQUEST = struct.Struct(f"!BBBxQ{NONCE_BYTES}s{IDENTIFIER_BYTES}s")
_CHALLENGE = struct.Struct(f"!BxxxQ{NONCE_BYTES}s")
_ANSWER = struct.Struct(f"!BBxBQ{NONCE_BYTES}s{ENDPOINT_BYTES}s")
_PROBE = struct.Struct(f"!BxxxQ{GROUP_BYTES}s")
_LOCATION = struct.Struct(f"!BBxB{IDENTIFIER_BYTES}s{NONCE_BYTES}s{ENDPOINT_BYTES}s")


class Right(IntEnum):
    """By what right somebody leads an identifier anywhere (proof.py)."""

    KEY = 1
    LEFT = 2
    RIGHT = 3
    SIGNED = 4
    HOME4 = 5


RIGHT_BYTES: Final = {
    Right.KEY: KEY_BYTES,
    Right.LEFT: 0,
    Right.RIGHT: 0,
    Right.SIGNED: ENDPOINT_BYTES + 2 * HOME_KEY_BYTES + SIGNATURE_BYTES,
    Right.HOME4: 4,
}
"""Bytes that each adds to a request."""


class Status(IntEnum):
    """What became of a request."""

    INSERTED = 0
    REMOVED = 1
    WRONG = 2
    """The right that it claims is not one, or not to this."""
    STALE = 3
    """A request with a higher number has come before."""
    LOOP = 4
    QUOTA = 5
    """The sender, or this identifier, has as many triggers as it may have."""
    FULL = 6
    ELSEWHERE = 7
    """Signed for a node of another address than this one has."""
    LATER = 8
    """The store that this node shares its triggers through does not answer."""


class Data(Struct, frozen=True):
    """One packet."""

    stack: tuple[Identifier, ...]
    payload: bytes = b""
    hops: int = MAX_HOPS
    """How many triggers it may still pass."""
    copies: int = MAX_COPIES
    """How many packets may be made of it in all."""
    nonce: bytes | None = None
    """Given: the sender asks for a Location."""
    relayed: bool = False
    """By one node to another, which sends it to hosts of its own only."""

    def __bytes__(self) -> bytes:
        asks = (ASK if self.nonce is not None else 0) | (RELAYED if self.relayed else 0)
        head = bytes((DATA, asks | len(self.stack), self.hops, self.copies))
        return b"".join((head, *self.stack, self.nonce or b"", self.payload))


class Request(Struct, frozen=True):
    """Insert or Remove: a trigger from `identifier` to the sender's address, or to `target`."""

    kind: int
    right: Right
    number: int
    """Grows from request to request of a host. Its low bits should not be guessable: answers repeat it."""
    identifier: Identifier
    evidence: bytes
    """What the right needs: RIGHT_BYTES of it."""
    nonce: bytes = NO_NONCE
    target: tuple[Identifier, ...] = ()
    """Empty: the sender's address, as the node sees it."""
    old: Endpoint | None = None
    """Remove: the address to take out, where it is not the sender's own any more."""

    def __bytes__(self) -> bytes:
        return self.unsigned() + self.evidence

    def unsigned(self) -> bytes:
        """Return all but the evidence."""
        head = _REQUEST.pack(self.kind, self.right, len(self.target), self.number, self.nonce, self.identifier)
        old = pack_endpoint(self.old) if self.kind == REMOVE else b""
        return b"".join((head, *self.target, old))


class Challenge(Struct, frozen=True):
    """Send it again with this nonce."""

    number: int
    """The request's; 0 when a Data packet asked for a Location."""
    nonce: bytes

    def __bytes__(self) -> bytes:
        return _CHALLENGE.pack(CHALLENGE, self.number, self.nonce)


class Answer(Struct, frozen=True):
    """What became of a request."""

    status: Status
    life: int
    """Seconds for which the trigger stands."""
    number: int
    nonce: bytes
    """For the next request."""
    seen: Endpoint
    """The sender's address as the node sees it."""

    def __bytes__(self) -> bytes:
        return _ANSWER.pack(ANSWER, self.status, self.life, self.number, self.nonce, pack_endpoint(self.seen))


class Location(Struct, frozen=True):
    """Where an identifier is served."""

    found: bool
    life: int
    """Seconds for which the sender may rely on it."""
    identifier: Identifier
    nonce: bytes
    node: Endpoint | None
    """None: the node that says so."""

    def __bytes__(self) -> bytes:
        node = pack_endpoint(self.node)
        return _LOCATION.pack(LOCATION, self.found, self.life, self.identifier, self.nonce, node)


class Probe(Struct, frozen=True):
    """A question whether a node is there, and how far it is."""

    number: int
    """Not to be guessed: the echo repeats it."""

    def __bytes__(self) -> bytes:
        return _PROBE.pack(PROBE, self.number, ALONE)


class Echo(Struct, frozen=True):
    """The answer to a Probe."""

    number: int
    group: bytes = ALONE
    """Nodes of one group share their triggers: a host may change between them as it likes."""

    def __bytes__(self) -> bytes:
        return _PROBE.pack(ECHO, self.number, self.group)


Message = Data | Request | Challenge | Answer | Location | Probe | Echo


def parse(datagram: bytes) -> Message:
    """Read one datagram; raise RemoteProtocolError for anything that is none of these."""
    if not datagram:
        raise RemoteProtocolError("empty", reason="short")
    kind = datagram[0]
    if kind == DATA:
        return parse_data(datagram)
    if kind in (INSERT, REMOVE):
        return _request(datagram)
    if kind == CHALLENGE:
        _, number, nonce = _whole(_CHALLENGE, datagram, 1, 4)
        return Challenge(number, nonce)
    if kind == ANSWER:
        _, status, life, number, nonce, seen = _whole(_ANSWER, datagram, 2, 3)
        return _answer(status, life, number, nonce, seen)
    if kind == LOCATION:
        _, found, life, of, nonce, node = _whole(_LOCATION, datagram, 2, 3)
        if found > 1:
            raise RemoteProtocolError(f"neither found nor not: {found}", reason="status")
        return Location(bool(found), life, Identifier(of), nonce, parse_endpoint(node))
    if kind in (PROBE, ECHO):
        _, number, group = _whole(_PROBE, datagram, 1, 4)
        return _probe(number, group) if kind == PROBE else Echo(number, group)
    raise RemoteProtocolError(f"no message begins with {kind:#x}", reason="kind")


def parse_data(datagram: bytes) -> Data:
    """Read a Data packet; RemoteProtocolError."""
    if len(datagram) < HEAD_BYTES + IDENTIFIER_BYTES:
        raise RemoteProtocolError("shorter than a packet with one identifier", reason="short")
    _, flags, hops, copies = datagram[:HEAD_BYTES]
    count, asks = flags & COUNT, flags & ASK
    if flags & ~(COUNT | ASK | RELAYED) or not 1 <= count <= MAX_STACK:
        raise RemoteProtocolError(f"flags {flags:#x}", reason="flags")
    if hops > MAX_HOPS or not 1 <= copies <= MAX_COPIES:
        raise RemoteProtocolError(f"{hops} hops, {copies} copies", reason="budget")
    end = HEAD_BYTES + count * IDENTIFIER_BYTES
    start = end + (NONCE_BYTES if asks else 0)
    if len(datagram) < start:
        raise RemoteProtocolError("the stack is cut off", reason="short")
    stack, nonce = _stack(datagram, HEAD_BYTES, count), datagram[end:start] or None
    return Data(stack, datagram[start:], hops, copies, nonce, bool(flags & RELAYED))


def _probe(number: int, group: bytes) -> Probe:
    if group != ALONE:
        raise RemoteProtocolError("reserved bytes are not zero", reason="flags")
    return Probe(number)


def _request(datagram: bytes) -> Request:
    if len(datagram) < _REQUEST.size:
        raise RemoteProtocolError("shorter than a request", reason="short")
    kind, claimed, count, number, nonce, of = _REQUEST.unpack_from(datagram)
    if count > MAX_TARGET:
        raise RemoteProtocolError(f"a target of {count} identifiers", reason="target")
    try:
        right = Right(claimed)
    except ValueError as error:
        raise RemoteProtocolError(f"no such right: {claimed}", reason="right") from error
    end = _REQUEST.size + count * IDENTIFIER_BYTES
    evidence = end + (ENDPOINT_BYTES if kind == REMOVE else 0)
    if datagram[3] or len(datagram) != evidence + RIGHT_BYTES[right]:
        raise RemoteProtocolError("the request's length does not fit its content", reason="length")
    old = parse_endpoint(datagram[end:evidence]) if kind == REMOVE else None
    target = _stack(datagram, _REQUEST.size, count)
    return Request(kind, right, number, Identifier(of), datagram[evidence:], nonce, target, old)


def _answer(status: int, life: int, number: int, nonce: bytes, seen: bytes) -> Answer:
    endpoint = parse_endpoint(seen)
    try:
        known = Status(status)
    except ValueError as error:
        raise RemoteProtocolError(f"no such status: {status}", reason="status") from error
    if endpoint is None:
        raise RemoteProtocolError("an answer without the address that was seen", reason="address")
    return Answer(known, life, number, nonce, endpoint)


def _whole(form: struct.Struct, datagram: bytes, reserved: int, end: int) -> tuple[Any, ...]:
    """Unpack a message of fixed size; the bytes from `reserved` to `end` are zero."""
    if len(datagram) != form.size:
        raise RemoteProtocolError(f"{len(datagram)} bytes instead of {form.size}", reason="length")
    if any(datagram[reserved:end]):
        raise RemoteProtocolError("reserved bytes are not zero", reason="flags")
    return form.unpack(datagram)


def _stack(datagram: bytes, start: int, count: int) -> tuple[Identifier, ...]:
    ends = range(start + IDENTIFIER_BYTES, start + (count + 1) * IDENTIFIER_BYTES, IDENTIFIER_BYTES)
    return tuple(Identifier(datagram[end - IDENTIFIER_BYTES : end]) for end in ends)


def pack_endpoint(endpoint: Endpoint | None) -> bytes:
    """Return family (4 or 6, 0 = none), 16 bytes of address (IPv4 in the first four) and 2 of port."""
    return bytes(ENDPOINT_BYTES) if endpoint is None else _packed(endpoint.address) + endpoint.port.to_bytes(2)


@lru_cache(maxsize=4096)  # a host's requests come several at a time; reading its address takes a fifth of each
def _packed(text: str) -> bytes:
    address = ipaddress.ip_address(text)
    return bytes((address.version,)) + address.packed.ljust(16, b"\0")


def parse_endpoint(data: bytes) -> Endpoint | None:
    """Read what `pack_endpoint` has written; RemoteProtocolError."""
    family, address, port = data[0], data[1:17], int.from_bytes(data[17:19])
    if family == 4 and not any(address[4:]):
        return Endpoint(str(ipaddress.IPv4Address(address[:4])), port)
    if family == 6:
        return Endpoint(str(ipaddress.IPv6Address(address)), port)
    if any(data):
        raise RemoteProtocolError(f"address of family {family}", reason="address")
    return None
