"""Which peers' packets do not go one at a time: the C core moves them, or the hot loops of the Python engine.

Few packets stay with roam.py, which keeps what a dying path may lose (i3/direct_pairs.py). Many (`MANY` within
`WITHIN`) on a direct path that works are served otherwise, until they are few again or the path is in doubt: what dies
with a path there is TCP's to send again.
"""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from sojourn.i3.peer import Peer
from sojourn.i3.roam import RoamProxy
from sojourn.i3.roam_paths import network_of
from sojourn.model import Endpoint, TunnelId

# Ours.
MANY: Final = 400
WITHIN: Final = 0.25
FEW: Final = 100
"""Packets within `IDLE` seconds: fewer, and they go one at a time again."""
IDLE: Final = 2.0
MOST_HOMES: Final = 4096
"""Home addresses that are kept in mind: anybody may come with a new one where host.toml says `anyone`."""


class Place(NamedTuple):
    """Where a peer's packets are sent."""

    session: TunnelId
    network: str
    remote: Endpoint
    mtu: int
    """The largest inner packet."""


class Served:
    """A peer whose packets are many."""

    def __init__(self, peer: Peer, now: float) -> None:
        self.peer = peer
        self.place: Place | None = None
        self.packets = 0
        self.since = now


class ServedPeers(ABC):
    """Who is served, and from when to when."""

    many = MANY

    def __init__(self) -> None:
        self.served: dict[bytes, Served] = {}
        """By home address."""
        self._seen: OrderedDict[bytes, tuple[float, int]] = OrderedDict()
        """By home address: since when, and how many packets have gone one at a time over a direct path."""

    @abstractmethod
    def has(self, index: TunnelId) -> bool:
        """Say whether packets can be served under a session."""

    @abstractmethod
    def enter(self, home: bytes, served: Served, place: Place) -> bool:
        """Send to another place from now on; False: the network has no socket."""

    @abstractmethod
    def leave(self, served: Served) -> None:
        """Send nothing any more."""

    @abstractmethod
    def borrowed(self) -> Iterable[str]:
        """Return the networks whose socket is read here."""

    def back(self, network: str) -> None:
        """Give a network's socket back: what went by it goes one at a time again."""
        self._leave_where(lambda place: place.network == network)

    def gone(self, index: TunnelId) -> None:
        """Forget a session."""
        self._leave_where(lambda place: place.session == index)

    def _leave_where(self, is_meant: Callable[[Place], bool]) -> None:
        for served in self.served.values():
            if served.place is not None and is_meant(served.place):
                self.leave(served)

    def moved(self, home: bytes, peer: Peer, now: float) -> None:
        """Count a packet of a peer that has gone or come alone; many are better served."""
        if peer.agent is None or peer.agent.selected is None or home in self.served:
            return
        since, count = self._seen.get(home, (now, 0))
        if now - since > WITHIN:
            since, count = now, 0
        self._seen[home] = since, count + 1
        self._seen.move_to_end(home)
        if len(self._seen) > MOST_HOMES:
            self._seen.popitem(last=False)
        if count + 1 >= self.many:
            del self._seen[home]
            self.served[home] = Served(peer, now)

    def follow(self, proxy: RoamProxy, now: float) -> None:
        """Go to where each peer's direct path is now."""
        if not self.served:  # as mostly, and each packet asks
            return
        for home, served in list(self.served.items()):
            place = self._wanted(served, now) if proxy.by_home.get(home) is served.peer else None
            if place is None or (place != served.place and not self.enter(home, served, place)):
                self.leave(served)
                del self.served[home]
        used = {each.place.network for each in self.served.values() if each.place is not None}
        for network in set(self.borrowed()) - used:
            self.back(network)

    def _wanted(self, served: Served, now: float) -> Place | None:
        """Return where a peer's packets are to go now; None: one at a time again."""
        if now - served.since > IDLE:
            few, served.packets, served.since = served.packets < FEW, 0, now
            if few:
                return None
        agent, session = served.peer.agent, served.peer.usable(now)
        pair = agent.selected if agent is not None else None
        if pair is None or pair.is_suspect() or session is None or not self.has(session.index):
            return None
        return Place(session.index, network_of(pair.path), pair.remote, served.peer.room())
