"""Where a mobile host is, as its anchor believes it: the outer address and its proof (DESIGN §3.2, Outer address).

    nowhere --authentic packet--> unproved --response--> proved
    proved --authentic packet from elsewhere, highest counter--> unproved (the old one is challenged, too)
    unproved --no response in 3 RTT--> the last proved, or nowhere

An unproved address gets at most three times the bytes that came from it (RFC 9000 §8.1).
"""

from collections.abc import Callable

from msgspec import Struct

from sojourn.model import Endpoint
from sojourn.packet.frame import CHALLENGE_BYTES, HEAD_BYTES
from sojourn.packet.path_mtu import BASE_DATAGRAM
from sojourn.packet.seal import OVERHEAD_BYTES
from sojourn.upmt.constants import AMPLIFICATION, PROOF_AT_LEAST, PROOF_RTTS

_SMALLEST = OVERHEAD_BYTES + HEAD_BYTES + CHALLENGE_BYTES


class Ask(Struct, frozen=True):
    """Challenge an address."""

    destination: Endpoint
    data: bytes
    pad_to: int


class OuterPath:
    """The address in use, the last proved one, and the challenge between them."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self.current: Endpoint | None = None
        self.proved: Endpoint | None = None
        self.credit: int | None = None
        """Bytes that may still go to an unproved `current`; None = it is proved (or there is none)."""
        self.due = float("inf")
        self._random = random
        self._data = b""
        self._sent_at = 0.0
        self._again_at = 0.0
        self._until = 0.0

    def came(self, source: Endpoint, size: int, highest: bool, now: float, rtt: float) -> list[Ask]:
        """Take note of an authentic packet of `size` bytes."""
        if source == self.current:
            if self.credit is not None:
                self.credit += AMPLIFICATION * size
            return []
        if not highest:
            return []
        if source == self.proved:
            self._settle(source)
            return []
        old = self.proved if self.current == self.proved else None
        self.current = source
        self.credit = AMPLIFICATION * size
        self._data = self._random(CHALLENGE_BYTES)
        self._until = now + max(PROOF_RTTS * rtt, PROOF_AT_LEAST)
        asks = self._challenge(now, rtt, BASE_DATAGRAM)
        if old is not None:
            asks.append(Ask(old, self._random(CHALLENGE_BYTES), BASE_DATAGRAM))
        return asks

    def response(self, source: Endpoint, data: bytes, now: float) -> float | None:
        """Take in a response; return the round trip when it proves the current address, else None."""
        if self.credit is None or source != self.current or data != self._data:
            return None
        self._settle(source)
        return now - self._sent_at

    def set(self, proved: Endpoint | None) -> None:
        """Start from an address that was proved elsewhere or earlier (None: from nowhere)."""
        self._settle(proved)

    def spend(self, size: int) -> bool:
        """Say whether `size` bytes may go to the current address now, and charge them."""
        if self.credit is None:
            return True
        if size > self.credit:
            return False
        self.credit -= size
        return True

    def tick(self, now: float, rtt: float) -> list[Ask]:
        """Challenge again, or give an address up that did not answer."""
        if self.credit is None or now < self.due:
            return []
        if now >= self._until:
            self._settle(self.proved)
            return []
        # Unpadded: the path may carry less than the first challenge had.
        return self._challenge(now, rtt, 0)

    def _challenge(self, now: float, rtt: float, pad_to: int) -> list[Ask]:
        self._sent_at = now
        self.due = min(self._until, now + max(rtt, PROOF_AT_LEAST / PROOF_RTTS))
        pad_to = min(pad_to, self.credit or 0)
        if self.current is None or not self.spend(max(pad_to, _SMALLEST)):
            return []
        return [Ask(self.current, self._data, pad_to)]

    def _settle(self, proved: Endpoint | None) -> None:
        self.current = self.proved = proved
        self.credit = None
        self._data = b""
        self.due = float("inf")
