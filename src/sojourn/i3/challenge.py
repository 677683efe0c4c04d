"""Proof that somebody receives at the address that he sends from, without memory for strangers.

A nonce is the node's time and a MAC over that and the address: whoever can show one has received there
within the last `NONCE_LIFE` seconds. Nothing is stored for it.
"""

import hashlib
import hmac
from typing import Final

# Ours.
NONCE_LIFE: Final = 40.0
"""Seconds; two refreshes, so that each answer's fresh nonce is good for the next request."""
EARLY, EARLY_SHARED = 0.01, 1.0
"""Seconds that a nonce may come before its time: by rounding, and where nodes read one clock over a network."""
NONCE_BYTES: Final = 16
NO_NONCE: Final = bytes(NONCE_BYTES)
_TIME_BYTES: Final = 6
_MAC_BYTES: Final = NONCE_BYTES - _TIME_BYTES

Address = tuple[str, int]
"""Host and port, as sockets give them: no Struct, for one is made with every packet."""


class Challenger:
    """Makes and checks nonces. `key`: 32 random bytes, new in every process, because the clock starts anew."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._ahead = 0.0
        self._early = EARLY

    def share(self, key: bytes, ahead: float) -> None:
        """Make and check what other nodes check and make. `ahead`: how far their common clock is ahead of ours."""
        self._key, self._ahead, self._early = key, ahead, EARLY_SHARED

    def nonce(self, address: Address, now: float) -> bytes:
        """Return a nonce for an address."""
        stamp = int((now + self._ahead) * 1000).to_bytes(_TIME_BYTES)
        return stamp + self._mac(stamp, address)

    def holds(self, nonce: bytes, address: Address, now: float) -> bool:
        """Say whether a nonce was made for this address, and lately."""
        if len(nonce) != NONCE_BYTES:
            return False
        stamp = nonce[:_TIME_BYTES]
        age = now + self._ahead - int.from_bytes(stamp) / 1000
        return -self._early <= age <= NONCE_LIFE and hmac.compare_digest(nonce[_TIME_BYTES:], self._mac(stamp, address))

    def _mac(self, stamp: bytes, address: Address) -> bytes:
        return hashlib.blake2s(
            b"%b%d %b" % (stamp, address[1], address[0].encode()), digest_size=_MAC_BYTES, key=self._key
        ).digest()
