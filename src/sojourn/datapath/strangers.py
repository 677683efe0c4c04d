"""How much outer addresses without a tunnel may say to an anchor's control (plain tunnels, DESIGN §3.2).

A token bucket for each source, and one for all together: whoever forges sources can keep others from setting up
plain tunnels, and nothing else. Bounded; the source that was silent for longest is forgotten first.
"""

from typing import Final

from sojourn.bucket import Bucket, Buckets
from sojourn.model import Endpoint

# Ours. A set-up takes two datagrams, and four more when both get lost.
PER_SOURCE: Final = 5.0
"""Datagrams a second from one source, after a burst of `SOURCE_BURST`."""
SOURCE_BURST: Final = 20.0
IN_ALL: Final = 200.0
BURST_IN_ALL: Final = 400.0
MOST_SOURCES: Final = 4096
SIX_PREFIX_GROUPS: Final = 4
"""One IPv6 customer has a /64 at least: that is one source."""


class Strangers:
    """Lets a few datagrams of each source through."""

    def __init__(self) -> None:
        self._sources: Buckets[str] = Buckets(PER_SOURCE, SOURCE_BURST, MOST_SOURCES)
        self._all = Bucket(IN_ALL, BURST_IN_ALL)

    def __len__(self) -> int:
        return len(self._sources)

    def admit(self, source: Endpoint, now: float) -> bool:
        """Say whether a datagram of this source may go to control. Ports don't make another source."""
        return self._sources.take(_place(source.address), now) and self._all.take(now)


def _place(address: str) -> str:
    if ":" not in address:
        return address
    return ":".join(_groups(address)[:SIX_PREFIX_GROUPS])


def _groups(address: str) -> list[str]:
    """Return the eight groups of an IPv6 address in its canonical text form."""
    front, gap, back = address.partition("::")
    before, after = (part.split(":") if part else [] for part in (front, back))
    return [*before, *["0"] * (8 - len(before) - len(after)), *after] if gap else before
