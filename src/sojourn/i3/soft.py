"""The soft handover's stop rule: for how long triggers stand over two networks at once (ROAM §6.1).

While both stand, the node sends everything over both, and what comes a second time is dropped: ROAM kept digests for
1 s, here a sealed packet's counter says exactly which one it is. ROAM's rule ends it when the duplicates are more than
min(p0 / k, p1 / k) of the packets that came over each network, and takes out the one over which fewer came; the new one
not before a while. Here it is the old one that goes, unless nothing came over the new one.
"""

from typing import Final

# The protocol's (ROAM).
WINDOW: Final = 1.0
"""Seconds after which it ends whatever was seen: idle peers have no packets to count."""

# Ours.
K: Final = 2
AT_LEAST: Final = 4
"""Packets over each: the first one is chance."""
NOT_WORKING: Final = 16
"""So many over the old network and none over the new one within `WINDOW`: the new one is given up."""


class SoftHandover:
    """Counts over the old and the new path."""

    __slots__ = ("_duplicates", "_packets", "_until", "new", "old")

    def __init__(self, old: str, new: str, now: float) -> None:
        """Begin when the triggers stand over both."""
        self.old, self.new = old, new
        self._packets = {old: 0, new: 0}
        self._duplicates = 0
        self._until = now + WINDOW

    @property
    def due(self) -> float:
        """When it ends at the latest."""
        return self._until

    def came(self, path: str, *, duplicate: bool) -> None:
        """Note a packet of a peer."""
        if path in self._packets:
            self._packets[path] += 1
            self._duplicates += duplicate

    def loser(self, now: float) -> str | None:
        """Return the path to be taken out, None while it is too early to say."""
        before, after = self._packets[self.old], self._packets[self.new]
        fewer = min(before, after)
        if fewer >= AT_LEAST and self._duplicates > fewer / K:
            return self.old
        if now < self._until:
            return None
        return self.new if before >= NOT_WORKING and not after else self.old
