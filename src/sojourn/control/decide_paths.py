"""What the decision knows of one network's path, how patient it is with it, and the owner's plain order of networks."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from msgspec import Struct

from sojourn.model import Network

# Ours. Going back costs nothing but patience; flapping costs packets.
SETTLE_NEW: Final = 1.0
"""Seconds for which a better network must have worked before flows move to it, when it is simply new."""
SETTLE_FAILED: Final = 5.0
"""The same, when it had failed before; doubled at each further failure within `FORGIVE`."""
SETTLE_LONGEST: Final = 60.0
FORGIVE: Final = 120.0
GRACE: Final = 0.5
"""Seconds a network in use may take to answer after its address changed, while another one works."""


class PathState(StrEnum):
    """What is known of a path to the anchor over one network."""

    TESTING = "testing"
    WORKS = "works"
    SILENT = "silent"
    BLOCKED = "blocked"
    FAILED = "failed"
    CAPTIVE = "captive"
    """Behind a portal that is not open: no failure of the network's, and nothing is put there."""


class Path:
    """One network's path, with its history as far as it matters for a decision."""

    __slots__ = ("failed_at", "failures", "network", "since", "state", "why")

    def __init__(self, network: Network, now: float) -> None:
        self.network = network
        self.state = PathState.TESTING
        self.since = now
        self.why = "not tested yet"
        self.failures = 0
        self.failed_at = float("-inf")

    @property
    def works(self) -> bool:
        """Say whether flows may be there."""
        return self.state is PathState.WORKS

    def become(self, state: PathState, why: str, now: float) -> None:
        """Change state, and remember a failure for `FORGIVE` seconds."""
        if state not in (PathState.WORKS, PathState.CAPTIVE) and self.state is PathState.WORKS:
            self.failures = self.failures + 1 if now - self.failed_at < FORGIVE else 1
            self.failed_at = now
        if state is not self.state:
            self.since = now
        self.state, self.why = state, why

    def reopen(self, network: Network, now: float) -> None:
        """Take in that the network has another address: the path is to be tested again."""
        self.network, self.state, self.since, self.why = network, PathState.TESTING, now, "address changed"

    def remember(self, before: "Path | None", now: float) -> None:
        """Take over the failures of the path that this network had before it went."""
        if before is not None and now - before.failed_at < FORGIVE:
            self.failures, self.failed_at = before.failures, before.failed_at

    def settled_at(self) -> float:
        """Return when flows may move back to this path, provided that it goes on working."""
        if self.failures == 0:
            return self.since + SETTLE_NEW
        return self.since + min(SETTLE_FAILED * 2.0 ** (self.failures - 1), SETTLE_LONGEST)

    def may_stay(self, now: float) -> bool:
        """Say whether flows may wait a moment longer for its first answer."""
        return self.state is PathState.TESTING and now < self.since + GRACE


class Preferences(Struct, frozen=True):
    """The owner's order of networks: names, kinds, or "*" for all that are left."""

    order: tuple[str, ...] = ("ethernet", "wifi", "cellular", "*")

    def rank(self, network: Network) -> int:
        """Return a network's place; smaller is better. Its name says more than its kind, that more than "*"."""
        for word in (network.name, network.interface, network.kind, "*"):
            if word in self.order:
                return self.order.index(word)
        return len(self.order)


def ranked(preferences: Preferences, networks: Sequence[Network]) -> list[Network]:
    """Return networks in the owner's order, the best first."""
    return sorted(networks, key=lambda network: (preferences.rank(network), network.name))
