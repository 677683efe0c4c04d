"""Home addresses made of keys, so that the public identifier H(home address) can be proved (DESIGN §5).

The way is RFC 7343's (ORCHIDv2), with a prefix of our own:

    28 bits  fd53:6f6, a unique local prefix (RFC 4193): never routed, never somebody else's
     4 bits  a: which functions made the rest: 10 = SHA-256 over both keys below
    96 bits  the middle of SHA-256(context ‖ Ed25519 key ‖ X25519 key)

A host signs what it tells nodes with the first key and opens handshakes of peers with the second; one address
vouches for both.
"""

import hashlib
import ipaddress
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from msgspec import Struct

from sojourn.model import HOMES

KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64

_CONTEXT: Final = bytes.fromhex("84e6ec5ba67a40bfbbe3b7b4d5e44a1e")
"""The context identifier of RFC 7343 §2.1: 128 bits that were drawn at random, once, for this use."""
_PREFIX: Final = ipaddress.IPv6Network(HOMES).network_address.packed[:4]


class HomeKeys(Struct, frozen=True):
    """The public halves of a host's two keys."""

    signing: bytes
    """Ed25519."""
    exchange: bytes
    """X25519."""

    @property
    def address(self) -> str:
        """The home address that these keys make."""
        digest = hashlib.sha256(_CONTEXT + self.signing + self.exchange).digest()
        return str(ipaddress.IPv6Address(_PREFIX + digest[10:22]))

    def signed(self, message: bytes, signature: bytes) -> bool:
        """Say whether the owner of these keys has signed a message."""
        try:
            Ed25519PublicKey.from_public_bytes(self.signing).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


class HomeIdentity:
    """Both keys of this host."""

    def __init__(self, signing: bytes, exchange: bytes) -> None:
        """Take the private halves, 32 random bytes each."""
        self._signing = Ed25519PrivateKey.from_private_bytes(signing)
        self.exchange = X25519PrivateKey.from_private_bytes(exchange)
        self.keys = HomeKeys(
            self._signing.public_key().public_bytes_raw(), self.exchange.public_key().public_bytes_raw()
        )
        self.address = self.keys.address

    def sign(self, message: bytes) -> bytes:
        """Sign a message."""
        return self._signing.sign(message)
