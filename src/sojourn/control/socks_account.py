"""What a user of the SOCKS proxy is known by: derived from the join token's secret, at both ends."""

import hashlib
import hmac

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand


def secret_of(token_secret: bytes) -> bytes:
    """Return the pre-shared key (32 bytes) of whoever got a token with this secret (docs/wire.md, MSOCKS)."""
    return HKDFExpand(SHA256(), 32, b"sojourn/msocks psk 0").derive(token_secret.ljust(32, b"\0"))


def password_of(secret: bytes) -> str:
    """Return the password with which this user's plain SOCKS clients log in (RFC 1929)."""
    return hmac.new(secret, b"sojourn/socks password", hashlib.sha256).hexdigest()[:32]


def is_password(secret: bytes, word: str) -> bool:
    """Say whether a password is right, in a time that does not depend on it."""
    return hmac.compare_digest(password_of(secret).encode(), word.encode())
