"""Digest authentication, both halves (RFC 7616, RFC 8760, RFC 3261 §22).

SHA-256 first; MD5 only where a configuration lists it. qop `auth` protects the request line,
`auth-int` the body, too. This file computes and reads headers; `sip/digest_server.py` makes and
checks nonces, `sip/digest_client.py` answers challenges.
"""

import hashlib
import hmac
import re
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final, TypeVar

from msgspec import Struct

from sojourn.errors import RemoteProtocolError
from sojourn.sip.grammar import is_token, quote, split, unquote

MemberT = TypeVar("MemberT", bound=StrEnum)

MAX_FIELD: Final = 512
"""Characters in one parameter: a nonce of ours has 48."""


class Algorithm(StrEnum):
    """The hash functions of RFC 7616 that we know."""

    SHA256 = "SHA-256"
    MD5 = "MD5"


class Qop(StrEnum):
    """What the digest covers."""

    AUTH = "auth"
    AUTH_INT = "auth-int"


_HASHES: Final[dict[Algorithm, Callable[..., Any]]] = {Algorithm.SHA256: hashlib.sha256, Algorithm.MD5: hashlib.md5}
_LOWER_HEX: Final = re.compile(r"[0-9a-f]+")


class Challenge(Struct, frozen=True):
    """One WWW-Authenticate header."""

    realm: str
    nonce: str
    algorithm: Algorithm = Algorithm.SHA256
    qops: tuple[Qop, ...] = (Qop.AUTH, Qop.AUTH_INT)
    stale: bool = False
    opaque: str | None = None

    def __str__(self) -> str:
        text = f"Digest realm={quote(self.realm)}, nonce={quote(self.nonce)}, algorithm={self.algorithm.value}"
        text += f', qop="{",".join(qop.value for qop in self.qops)}"'
        if self.opaque is not None:
            text += f", opaque={quote(self.opaque)}"
        return text + ", stale=true" if self.stale else text


class Credentials(Struct, frozen=True):
    """One Authorization header."""

    username: str
    realm: str
    nonce: str
    uri: str
    response: str
    algorithm: Algorithm
    qop: Qop
    cnonce: str
    count: int
    """nc, from 1."""
    opaque: str | None = None

    def __str__(self) -> str:
        text = f"Digest username={quote(self.username)}, realm={quote(self.realm)}, nonce={quote(self.nonce)}"
        text += f', uri={quote(self.uri)}, response="{self.response}", algorithm={self.algorithm.value}'
        text += f", qop={self.qop.value}, cnonce={quote(self.cnonce)}, nc={self.count:08x}"
        return text if self.opaque is None else f"{text}, opaque={quote(self.opaque)}"


class AuthenticationInfo(Struct, frozen=True):
    """One Authentication-Info header: the server's own proof, and perhaps the next nonce (RFC 7616 §3.5)."""

    response: str
    qop: Qop
    cnonce: str
    count: int
    next_nonce: str | None = None

    def __str__(self) -> str:
        text = f'rspauth="{self.response}", qop={self.qop.value}, cnonce={quote(self.cnonce)}, nc={self.count:08x}'
        return text if self.next_nonce is None else f"nextnonce={quote(self.next_nonce)}, {text}"


def hash_of(algorithm: Algorithm, text: str | bytes) -> str:
    """H() of RFC 7616 §3.4, in lower-case hexadecimal."""
    data = text.encode() if isinstance(text, str) else text
    digest: str = _HASHES[algorithm](data).hexdigest()
    return digest


def secret_hash(algorithm: Algorithm, username: str, realm: str, password: str) -> str:
    """H(A1), RFC 7616 §3.4.2: what a server keeps instead of the password."""
    return hash_of(algorithm, f"{username}:{realm}:{password}")


def digest(a1: str, method: str, credentials: Credentials, body: bytes) -> str:
    """Return the `response` of a request (RFC 7616 §3.4.1); with method "" the rspauth of an answer (§3.5)."""
    h = credentials.algorithm
    a2 = f"{method}:{credentials.uri}"
    if credentials.qop is Qop.AUTH_INT:
        a2 += f":{hash_of(h, body)}"
    parts = (credentials.nonce, f"{credentials.count:08x}", credentials.cnonce, credentials.qop.value, hash_of(h, a2))
    return hash_of(h, ":".join((a1, *parts)))


def same(one: str, other: str) -> bool:
    """Compare two digests in constant time."""
    return hmac.compare_digest(one.encode(), other.encode())


def parse_challenge(text: str) -> Challenge | None:
    """Read WWW-Authenticate; None for a scheme, algorithm or qop that we don't know (RFC 8760 §2.4: ignore it)."""
    fields = _digest_fields(text)
    if fields is None:
        return None
    algorithm = _member(Algorithm, fields.get("algorithm", Algorithm.MD5.value))
    offered = [_member(Qop, name.strip().lower()) for name in fields.get("qop", "").split(",")]
    qops = tuple(qop for qop in offered if qop is not None)
    if algorithm is None or not qops:
        return None
    stale = fields.get("stale", "").lower() == "true"
    return Challenge(_need(fields, "realm"), _need(fields, "nonce"), algorithm, qops, stale, fields.get("opaque"))


def parse_credentials(text: str) -> Credentials | None:
    """Read Authorization; None for another scheme or algorithm."""
    fields = _digest_fields(text)
    if fields is None:
        return None
    algorithm = _member(Algorithm, fields.get("algorithm", Algorithm.MD5.value))
    if algorithm is None:
        return None
    return Credentials(
        username=_need(fields, "username"),
        realm=_need(fields, "realm"),
        nonce=_need(fields, "nonce"),
        uri=_need(fields, "uri"),
        response=_hex(_need(fields, "response")),
        algorithm=algorithm,
        qop=_qop(_need(fields, "qop")),
        cnonce=_need(fields, "cnonce"),
        count=_count(_need(fields, "nc")),
        opaque=fields.get("opaque"),
    )


def parse_info(text: str) -> AuthenticationInfo:
    """Read Authentication-Info with its proof."""
    fields = _fields(split(text, ","))
    return AuthenticationInfo(
        _hex(_need(fields, "rspauth")),
        _qop(_need(fields, "qop")),
        _need(fields, "cnonce"),
        _count(_need(fields, "nc")),
        fields.get("nextnonce"),
    )


def _digest_fields(text: str) -> dict[str, str] | None:
    scheme, _, rest = text.strip().partition(" ")
    return _fields(split(rest, ",")) if scheme.lower() == "digest" else None


def _fields(parts: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        name, value = name.strip().lower(), value.strip()
        if not equals or not is_token(name) or name in found or len(value) > MAX_FIELD:
            raise RemoteProtocolError(f"a digest parameter cannot be read: {part[:40]!r}", reason="digest")
        found[name] = unquote(value)
    return found


def _need(fields: dict[str, str], name: str) -> str:
    value = fields.get(name)
    if not value:
        raise RemoteProtocolError(f"the digest lacks {name}", reason="digest")
    return value


def _hex(text: str) -> str:
    if _LOWER_HEX.fullmatch(text.lower()) is None:
        raise RemoteProtocolError("a digest is not hexadecimal", reason="digest")
    return text.lower()


def _count(text: str) -> int:
    if len(text) != 8 or _LOWER_HEX.fullmatch(text.lower()) is None:
        raise RemoteProtocolError("nc is not eight hexadecimal digits", reason="digest")
    return int(text, 16)


def _qop(text: str) -> Qop:
    qop = _member(Qop, text.lower())
    if qop is None:
        raise RemoteProtocolError(f"an unknown qop: {text[:40]!r}", reason="digest")
    return qop


def _member(kind: type[MemberT], text: str) -> MemberT | None:
    return next((member for member in kind if member.value.lower() == text.lower()), None)
