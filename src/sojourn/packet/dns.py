"""DNS questions for an address, and their answers (RFC 1035 §4): what a stub resolver needs, no more."""

import ipaddress
import struct
from typing import Final

from msgspec import Struct

from sojourn.errors import RemoteProtocolError

A, AAAA, CNAME = 1, 28, 5
IN: Final = 1
_HEADER: Final = struct.Struct("!6H")
_RECORD: Final = struct.Struct("!HHIH")
RECURSION_DESIRED, RESPONSE, TRUNCATED = 0x0100, 0x8000, 0x0200
MAX_RECORDS: Final = 64
MAX_POINTERS: Final = 32
MAX_NAME: Final = 255


class Answer(Struct, frozen=True):
    """What a server said to one question."""

    identifier: int
    question: str
    """The name asked about, lower case, without the last dot."""
    kind: int
    code: int
    """RCODE: 0 no error, 3 no such name (§4.1.1)."""
    truncated: bool
    addresses: tuple[str, ...]
    """Of the type asked for, in the server's order; aliases are followed by the server."""


def question(name: str, kind: int, identifier: int) -> bytes:
    """Return the datagram that asks for `kind` (A or AAAA) of `name`. ValueError for what is no host name."""
    try:
        labels = name.rstrip(".").encode("idna").split(b".")
    except UnicodeError as error:
        raise ValueError(f"{name!r} is no host name") from error
    if not all(0 < len(label) < 64 for label in labels) or sum(len(label) + 1 for label in labels) >= MAX_NAME:
        raise ValueError(f"{name!r} is no host name")
    encoded = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return _HEADER.pack(identifier, RECURSION_DESIRED, 1, 0, 0, 0) + encoded + struct.pack("!HH", kind, IN)


def parse(data: bytes) -> Answer:
    """Read a response to one question. Raises RemoteProtocolError only."""
    try:
        return _parse(data)
    except (struct.error, IndexError) as error:
        raise RemoteProtocolError("a DNS answer ends too early") from error


def _parse(data: bytes) -> Answer:
    identifier, flags, questions, answers, _, _ = _HEADER.unpack_from(data)
    if not flags & RESPONSE or questions != 1:
        raise RemoteProtocolError("not an answer to one DNS question")
    asked, at = _name(data, _HEADER.size)
    kind, group = struct.unpack_from("!HH", data, at)
    if group != IN:
        raise RemoteProtocolError("a DNS answer of another class")
    at += 4
    addresses = []
    for _ in range(min(answers, MAX_RECORDS)):
        _, at = _name(data, at)
        record, record_group, _, length = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        value = data[at : at + length]
        if len(value) != length:
            if flags & TRUNCATED:
                break
            raise RemoteProtocolError("a DNS record ends too early")
        at += length
        if record == kind and record_group == IN and length == {A: 4, AAAA: 16}.get(kind):
            addresses.append(str(ipaddress.ip_address(value)))
    return Answer(identifier, asked, kind, flags & 0xF, bool(flags & TRUNCATED), tuple(addresses))


def _name(data: bytes, at: int) -> tuple[str, int]:
    """Return a name, and where what follows it begins (§4.1.4: pointers lead backwards only, and a few times)."""
    labels: list[bytes] = []
    after: int | None = None
    for _ in range(MAX_POINTERS + MAX_NAME):
        length = data[at]
        if length == 0:
            name = b".".join(labels).lower().decode("latin-1")
            return name, at + 1 if after is None else after
        if length >= 0xC0:
            after = at + 2 if after is None else after
            target = (length & 0x3F) << 8 | data[at + 1]
            if target >= at:
                raise RemoteProtocolError("a DNS name points forward")
            at = target
            continue
        if length > 63:
            raise RemoteProtocolError("a DNS label of an unknown form")
        labels.append(data[at + 1 : at + 1 + length])
        at += 1 + length
        if sum(len(label) + 1 for label in labels) > MAX_NAME:
            raise RemoteProtocolError("a DNS name is too long")
    raise RemoteProtocolError("a DNS name has no end")
