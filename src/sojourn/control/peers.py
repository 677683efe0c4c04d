"""Which network peers are reached over: one machine beside `Decide`, for a host with an anchor and for one without.

The data path tests each network at a rendezvous node and says what it finds. The one that is used is what the decision
wants, if a node answers over it; else the best by the user's order over which one does; else the best that is there.
"""

from collections.abc import Callable, Sequence

from sojourn.model import Endpoint, Network
from sojourn.upmt.commands import AnyCommand
from sojourn.upmt.events_network import NetworkChanged, NetworkDown, NetworkUp
from sojourn.upmt.peer_commands import CloseRendezvous, OpenRendezvous, UseRendezvous
from sojourn.upmt.peer_events import (
    RendezvousBlocked,
    RendezvousMoved,
    RendezvousSilent,
    RendezvousStayed,
    RendezvousWorks,
)

PeerFact = NetworkUp | NetworkChanged | NetworkDown | RendezvousWorks | RendezvousSilent | RendezvousBlocked


class PeerPath:
    """One network as far as peers go."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.state = "testing"
        """testing, works, silent, blocked."""
        self.why = ""
        self.rtt: float | None = None
        self.stayed = False
        """A move there did not succeed: it comes after all others that work."""


class PeerPaths:
    """Facts in, orders for the data path out."""

    def __init__(self, rank: Callable[[Sequence[Network]], list[Network]]) -> None:
        self.paths: dict[str, PeerPath] = {}
        self.used: str | None = None
        """What was ordered last."""
        self.serving: str | None = None
        """Where the triggers stand, as far as was told."""
        self._rank = rank

    def handle(self, event: PeerFact) -> list[AnyCommand]:
        """Take in one fact."""
        match event:
            case NetworkUp(network) | NetworkChanged(network):
                return self._up(network)
            case NetworkDown(name):
                if self.paths.pop(name, None) is None:
                    return []
                self.used = None if self.used == name else self.used
                return [CloseRendezvous(name)]
            case RendezvousWorks(name, rtt):
                self._become(name, "works", "")
                if name in self.paths:
                    self.paths[name].rtt = rtt
            case RendezvousSilent(name, after):
                self._become(name, "silent", f"no answer for {after * 1000:.0f} ms")
            case RendezvousBlocked(name, why):
                self._become(name, "blocked", why)
        return []

    def moved(self, event: RendezvousMoved) -> None:
        """Note where the triggers stand."""
        self.serving = event.network
        if event.network in self.paths:
            self.paths[event.network].stayed = False

    def stayed(self, event: RendezvousStayed) -> None:
        """Note that a move did not succeed: the network before serves, and this one is tried when no other works."""
        if event.network in self.paths:
            self.paths[event.network].stayed = True
        if self.used == event.network:
            self.used = self.serving if self.serving in self.paths else None

    def _up(self, network: Network) -> list[AnyCommand]:
        known = self.paths.get(network.name)
        same = known is not None and (known.network.address, known.network.interface) == (
            network.address, network.interface)  # fmt: skip
        if known is not None and same:
            known.network = network
            return []
        if known is not None and self.used == network.name:
            self.used = None
        self.paths[network.name] = PeerPath(network)
        return [OpenRendezvous(network.name, network.interface, Endpoint(network.address, 0))]

    def _become(self, name: str, state: str, why: str) -> None:
        path = self.paths.get(name)
        if path is not None:
            path.state, path.why = state, why

    def follow(self, wanted: str | None) -> list[AnyCommand]:
        """Return the order that brings peers where they should be; `wanted`: the decision's network."""
        chosen = self._choose(wanted)
        if chosen is None or chosen == self.used:
            return []
        self.used = chosen
        return [UseRendezvous(chosen)]

    def _choose(self, wanted: str | None) -> str | None:
        ranked = [network.name for network in self._rank([path.network for path in self.paths.values()])]
        order = [wanted, *ranked] if wanted in self.paths else [*ranked]
        names = [name for name in order if name is not None]
        names.sort(key=lambda name: self.paths[name].stayed)
        working = [name for name in names if self.paths[name].state == "works"]
        testing = [name for name in names if self.paths[name].state == "testing"]
        if not working and self.used in self.paths and self.used not in testing and not testing:
            return self.used
        return next(iter([*working, *testing, *names]), None)
