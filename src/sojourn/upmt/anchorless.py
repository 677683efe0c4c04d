"""A mobile host without an anchor: networks that lead to peers only, told to the decision as paths all the same."""

from collections.abc import Callable, Sequence

from sojourn.model import Endpoint, Network
from sojourn.upmt.association import AssociationClient, AssociationSettings
from sojourn.upmt.events_network import NetworkChanged, NetworkDown, NetworkUp
from sojourn.upmt.host_events import (
    HostCommand,
    HostEvent,
    HostSettings,
    HostState,
    PathBlocked,
    PathGone,
    PathOpened,
    PathRecovered,
    PathSilent,
    PathTested,
)
from sojourn.upmt.mobile_host import MobileHost
from sojourn.upmt.peer_events import RendezvousBlocked, RendezvousSilent, RendezvousWorks
from sojourn.upmt.slots import HostNetwork

_NOWHERE = AssociationSettings(user="nobody", domain="invalid", tid="0", secret="nothing here", vipa=None, expires=60)


class AnchorlessHost(MobileHost):
    """The same surface; nothing is ever asked of an anchor."""

    def __init__(self, state: HostState, random: Callable[[int], bytes]) -> None:
        super().__init__(
            HostSettings(Endpoint("", 0)), AssociationClient(_NOWHERE, random), state, random, _as_they_are
        )

    def handle(self, event: HostEvent, now: float) -> list[HostCommand]:
        """Take in one fact; handovers need nothing here, because flows with peers go where `PeerPaths` says."""
        match event:
            case NetworkUp(network) | NetworkChanged(network):
                known = self.networks.get(network.name)
                self.networks[network.name] = held = HostNetwork(network, 0)
                if known is not None and known.network.address == network.address:
                    held.state = known.state
                    return []
                held.state = "testing"
                return [PathOpened(network)]
            case NetworkDown(name, reason, wanted):
                return [PathGone(name, reason, wanted)] if self.networks.pop(name, None) is not None else []
            case RendezvousWorks(name, rtt, again):
                fact = PathRecovered(name) if again else PathTested(name, rtt, "a rendezvous node")
                return self._become(name, "works", fact)
            case RendezvousSilent(name, after):
                return self._become(name, "silent", PathSilent(name, after))
            case RendezvousBlocked(name, why):
                return self._become(name, "blocked", PathBlocked(name, why))
        return []

    def _become(
        self, name: str, state: str, fact: PathTested | PathRecovered | PathSilent | PathBlocked
    ) -> list[HostCommand]:
        held = self.networks.get(name)
        if held is None:
            return []
        held.state = state
        return [fact]

    def deadline(self) -> float | None:
        """Return None: nothing here has a time."""
        return None

    def tick(self, now: float) -> list[HostCommand]:
        """Do nothing."""
        return []


def _as_they_are(networks: Sequence[Network]) -> list[Network]:
    return list(networks)
