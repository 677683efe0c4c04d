"""The path MTU of the direct path in use: packet/path_mtu.py's search, with probes that are sealed as checks are.

A peer may be sent 1280 bytes inside at any time. More than that only over the pair in use, and only as much as a probe
of that size has shown to pass: another pair begins at 1280 again, and so does one on which the known size is lost while
checks pass (a black hole). By way of a node it stays 1280: either end may move there without the other's knowing, and
each move to a narrower network would be a black hole.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from sojourn.i3.direct_checks import Pair
from sojourn.i3.direct_message import PROBE_BYTES, TRANSACTION_BYTES, SizeProbe
from sojourn.packet.path_mtu import (
    MIN_INNER_MTU,
    MTU_TIMEOUT_AT_LEAST,
    OUTER_UDP_IPV4,
    OUTER_UDP_IPV6,
    MtuSearch,
)
from sojourn.packet.seal import OVERHEAD_BYTES

# Ours.
ACTIVE_FOR: Final = 2.0
"""Seconds after the last packet for which the size is confirmed."""
MAX_ASKED: Final = 64
_NEVER: Final = float("inf")


class DirectMtu:
    """What passes over the pair in use."""

    def __init__(self, random: Callable[[int], bytes], device_mtu: int = MIN_INNER_MTU) -> None:
        """`device_mtu`: the TUN's; more need not pass."""
        self.device_mtu = device_mtu
        self._random = random
        self._search: MtuSearch | None = None
        self._asked: OrderedDict[bytes, tuple[Pair, int]] = OrderedDict()
        """By transaction: bytes of UDP payload."""

    @property
    def inner(self) -> int:
        """The largest inner packet that may be sent now."""
        return self._search.shown() if self._search is not None else MIN_INNER_MTU

    def begin(self, pair: Pair, now: float) -> None:
        """Begin a search: another pair is in use."""
        self.stop()
        if self.device_mtu > MIN_INNER_MTU:
            overhead = OUTER_UDP_IPV6 if ":" in pair.remote.address else OUTER_UDP_IPV4
            self._search = MtuSearch(self.device_mtu, overhead, OVERHEAD_BYTES)
            self._search.start(now)

    def stop(self) -> None:
        """Forget the path."""
        self._search = None
        self._asked.clear()

    def deadline(self) -> float | None:
        """When `tick` wants to be called next."""
        due = self._search.due if self._search is not None else _NEVER
        return due if due < _NEVER else None

    def tick(self, pair: Pair, now: float) -> tuple[list[SizeProbe], bool]:
        """Return the probes to send now, and whether a check is to be sent with them: to see that the path lives."""
        if self._search is not None and self._search.inner_max != self.device_mtu:
            self.begin(pair, now)
        search = self._search
        if search is None:
            return [], False
        active = now - pair.used < ACTIVE_FOR
        if active:
            search.resume(now)
        timeout = max(pair.rtt.late_after(), MTU_TIMEOUT_AT_LEAST)
        sizes = search.tick(now, timeout, max(pair.heard, pair.answered), active)
        return [self._probe(pair, size) for size in sizes if size], 0 in sizes

    def _probe(self, pair: Pair, size: int) -> SizeProbe:
        transaction = self._random(TRANSACTION_BYTES)
        self._asked[transaction] = pair, size
        while len(self._asked) > MAX_ASKED:
            self._asked.popitem(last=False)
        return SizeProbe(transaction, size - OVERHEAD_BYTES - PROBE_BYTES)

    def answered(self, transaction: bytes, now: float) -> Pair | None:
        """Take in an answer; return the pair whose probe it answers, None where it answers none."""
        pair, size = self._asked.pop(transaction, (None, 0))
        if pair is not None and self._search is not None:
            self._search.passed(size, now)
        return pair
