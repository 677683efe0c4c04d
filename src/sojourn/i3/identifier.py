"""Identifiers: 256 bits, of which the first 128 must match exactly and the rest by the longest prefix.

    bytes 0-7    prefix: the first bit says whether the identifier is public
    bytes 8-23   key: what the rules of triggers speak of (proof.py)
    bytes 24-31  suffix: the members of an anycast group differ here

The layout and the two one-way rules are i3's; the hash is SHA-256 where i3's code had AES, and the public bit stands
first instead of last in the prefix. Bytes 0-15 are the *place*: all identifiers that share it live on one node.
"""

import hashlib
import ipaddress
from typing import Final, NewType

from sojourn.errors import RemoteProtocolError

Identifier = NewType("Identifier", bytes)
"""32 bytes."""

IDENTIFIER_BYTES: Final = 32
PLACE_BYTES: Final = 16
PREFIX_BYTES: Final = 8
KEY_BYTES: Final = 16
SUFFIX_BYTES: Final = 8
PUBLIC: Final = 0x80
"""In byte 0."""

_LEFT: Final = b"sojourn i3 left\0"
_RIGHT: Final = b"sojourn i3 right\0"
_PUBLIC: Final = b"sojourn i3 public\0"


def identifier(data: bytes) -> Identifier:
    """Check the length of what is to be an identifier; RemoteProtocolError."""
    if len(data) != IDENTIFIER_BYTES:
        raise RemoteProtocolError(f"an identifier has 32 bytes, not {len(data)}", reason="identifier")
    return Identifier(bytes(data))


def key_of(of: Identifier) -> bytes:
    """Return the key of an identifier."""
    return of[PREFIX_BYTES : PREFIX_BYTES + KEY_BYTES]


def place_of(of: Identifier) -> bytes:
    """Return the part that must match exactly."""
    return of[:PLACE_BYTES]


def is_public(of: Identifier) -> bool:
    """Say whether an identifier is a public one: H(home address)."""
    return bool(of[0] & PUBLIC)


def left(key: bytes) -> bytes:
    """Return the key of an identifier that may lead to `key` (h_l: the identifier's key is made of the target's)."""
    return hashlib.sha256(_LEFT + key).digest()[:KEY_BYTES]


def right(key: bytes) -> bytes:
    """Return the key of what an identifier with `key` may lead to (h_r: the target's key is made of its own)."""
    return hashlib.sha256(_RIGHT + key).digest()[:KEY_BYTES]


def private(secret: bytes, prefix: bytes, suffix: bytes = bytes(SUFFIX_BYTES)) -> Identifier:
    """Return the private identifier that only whoever knows `secret` (16 random bytes) can lead to an address.

    `prefix` is 8 random bytes, or those of another identifier, to be on the same node as that; members of an anycast
    group share secret and prefix and differ in the suffix.
    """
    return Identifier(bytes((prefix[0] & ~PUBLIC,)) + prefix[1:PREFIX_BYTES] + left(secret) + suffix)


def public(home: str) -> Identifier:
    """Return H(home address), the identifier under which a host is found (ROAM, table 1). ValueError: no address."""
    digest = hashlib.sha256(_PUBLIC + ipaddress.ip_address(home).packed).digest()
    return Identifier(bytes((digest[0] | PUBLIC,)) + digest[1:])
