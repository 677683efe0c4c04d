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

    def nonce(self, address: Address, now: float) -> bytes:
        """Return a nonce for an address."""
        stamp = int(now * 1000).to_bytes(_TIME_BYTES)
        return stamp + self._mac(stamp, address)

    def holds(self, nonce: bytes, address: Address, now: float) -> bool:
        """Say whether a nonce was made for this address, and lately."""
        if len(nonce) != NONCE_BYTES:
            return False
        stamp = nonce[:_TIME_BYTES]
        age = now - int.from_bytes(stamp) / 1000
        return -0.01 <= age <= NONCE_LIFE and hmac.compare_digest(nonce[_TIME_BYTES:], self._mac(stamp, address))

    def _mac(self, stamp: bytes, address: Address) -> bytes:
        return hashlib.blake2s(
            b"%b%d %b" % (stamp, address[1], address[0].encode()), digest_size=_MAC_BYTES, key=self._key
        ).digest()
