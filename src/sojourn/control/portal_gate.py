"""Between execution and decision: what a captive network's tunnel says is kept back until the portal is open.

A portal may let a tunnel's UDP through, or answer in the anchor's place: neither makes the network one to use.
"""

from sojourn.control.portals import PathCaptive, PortalCommand, Portals
from sojourn.upmt.host_events import (
    HostFact,
    PathBlocked,
    PathFailed,
    PathOpened,
    PathRecovered,
    PathSilent,
    PathTested,
)

Told = HostFact | PortalCommand


class PortalGate:
    """Passes facts on, or holds them back, and says what else follows."""

    def __init__(self, portals: Portals) -> None:
        self.portals = portals

    def pass_on(self, fact: HostFact, now: float) -> list[Told]:
        """Take a fact about a path; return what `Decide` is to know now, and what is to be done."""
        match fact:
            case PathOpened(network) if self.portals.is_captive(network.name):
                return [fact, PathCaptive(network.name, self.portals.portal(network.name))]
            case PathTested(name) | PathRecovered(name):
                self.portals.works(name)
                return [] if self.portals.is_captive(name) else [fact]
            case PathSilent(name) | PathBlocked(name) | PathFailed(name):
                probes: list[Told] = [*self.portals.trouble(name, now)]
                return probes if self.portals.is_captive(name) else [fact, *probes]
        return [fact]
