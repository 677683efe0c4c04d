"""The join token: all that a new mobile host must know of its anchor, in one line of text.

    sojourn1:BASE64URL        of   SHA-256(body)[:4] ‖ body
    body = MessagePack array [address, port, SPKI hash, user, secret, SOCKS key]

It carries a one-time secret: whoever has the token may join, once.
"""

import base64
import binascii
import hashlib
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from sojourn.errors import RemoteProtocolError

PREFIX: Final = "sojourn1:"
CHECKSUM_BYTES: Final = 4
SECRET_BYTES: Final = 16
MAX_TOKEN_CHARACTERS: Final = 1024

Key = Annotated[bytes, Meta(min_length=32, max_length=32)]


class JoinToken(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What `sojourn init` prints and `sojourn join` takes."""

    address: Annotated[str, Meta(pattern=r"^[A-Za-z0-9.:_-]{1,253}$")]
    port: Annotated[int, Meta(ge=1, le=65535)]
    spki: Key
    """SHA-256 of the anchor's SubjectPublicKeyInfo."""
    user: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    secret: Annotated[bytes, Meta(min_length=SECRET_BYTES, max_length=SECRET_BYTES)]
    """One-time; its hexadecimal form is the digest password."""
    socks_key: Annotated[bytes, Meta(max_length=32)] = b""
    """The anchor's static X25519 public key for MSOCKS, or empty."""

    def __str__(self) -> str:
        body = msgspec.msgpack.encode(self)
        return PREFIX + base64.urlsafe_b64encode(_checksum(body) + body).decode().rstrip("=")

    def __repr__(self) -> str:
        return f"JoinToken(address={self.address!r}, port={self.port}, user={self.user!r})"

    @property
    def password(self) -> str:
        """The one-time secret as digest authentication takes it."""
        return self.secret.hex()


def parse(text: str) -> JoinToken:
    """Read a token, with whatever white space a terminal or a mail has put into it."""
    word = "".join(text.split())
    if len(word) > MAX_TOKEN_CHARACTERS:
        raise _garbled("it is too long")
    if not word.startswith(PREFIX):
        raise _garbled(f"it does not start with {PREFIX!r}")
    encoded = word.removeprefix(PREFIX)
    try:
        data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _garbled("it holds characters that no token has, or one is missing") from error
    checksum, body = data[:CHECKSUM_BYTES], data[CHECKSUM_BYTES:]
    if checksum != _checksum(body):
        raise _garbled("its checksum is wrong: some characters are missing or changed")
    try:
        return msgspec.msgpack.decode(body, type=JoinToken)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _garbled("its content is of a kind that this version does not know") from error


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:CHECKSUM_BYTES]


def _garbled(why: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"this is not a whole join token: {why}", reason="token")
