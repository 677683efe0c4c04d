"""Captive portals: when each network is asked, and what follows for it.

    new, or its tunnel blocked or silent --ProbePortal--> open      (nothing follows)
                                                      --> captive   PathCaptive: nothing is put there
                                                      --> unknown   asked again, more and more rarely
    captive --every CAPTIVE_EVERY, or when somebody asks--> open    PathReleased: it is used at once

While a network is captive, what its tunnel says is kept from `Decide`: a portal may well let UDP through.
Timers: the next probe of each network (`deadline`), and PATIENCE for a probe whose answer never comes.
"""

from msgspec import Struct

from sojourn.control.portal_answer import Finding, Verdict
from sojourn.model import Network
from sojourn.upmt.events_network import NetworkChanged, NetworkDescribed, NetworkDown, NetworkUp

CAPTIVE_EVERY = 10.0
"""Seconds between two looks whether a portal was opened."""
UNKNOWN_AFTER = (2.0, 5.0, 15.0, 30.0)
"""Seconds until a network without a verdict is asked again, as long as its tunnel does not work."""
TROUBLE_EVERY = 30.0
"""Least seconds between two probes because a tunnel does not work."""
PATIENCE = 15.0
NEVER = float("inf")


class ProbePortal(Struct, frozen=True, tag=True):
    """Ask over this network; the answer is a `PortalProbed`."""

    network: Network


class PortalProbed(Struct, frozen=True, tag=True):
    """What the probe of a network, as it was then, found."""

    network: Network
    finding: Finding


class ProbeWanted(Struct, frozen=True, tag=True):
    """Somebody wants to know now."""

    network: str


class PathCaptive(Struct, frozen=True, tag=True):
    """A network's portal is closed."""

    network: str
    portal: str | None


class PathReleased(Struct, frozen=True, tag=True):
    """A network's portal was opened."""

    network: Network


PortalEvent = NetworkUp | NetworkChanged | NetworkDown | NetworkDescribed | PortalProbed | ProbeWanted
PortalCommand = ProbePortal | PathCaptive | PathReleased


class _Held:
    """One network."""

    __slots__ = ("at", "captive", "network", "portal", "told", "unknown")

    def __init__(self, network: Network, now: float) -> None:
        self.network = network
        self.at = now
        """When it is asked next."""
        self.told = float("-inf")
        """When the last answer came."""
        self.captive = False
        self.portal: str | None = None
        self.unknown = 0
        """Probes in a row without a verdict."""


class Portals:
    """A machine (machine.py). `enabled` False: only NetworkManager's word counts."""

    def __init__(self, *, enabled: bool = True) -> None:
        self._enabled = enabled
        self._networks: dict[str, _Held] = {}
        self._connectivity: dict[str, str | None] = {}
        """What NetworkManager found, by interface."""

    def is_captive(self, network: str) -> bool:
        """Say whether a network is behind a closed portal."""
        held = self._networks.get(network)
        return held is not None and held.captive

    def portal(self, network: str) -> str | None:
        """Return where its portal is, if it said so."""
        held = self._networks.get(network)
        return held.portal if held is not None and held.captive else None

    def handle(self, event: PortalEvent, now: float) -> list[PortalCommand]:
        """Take in one event."""
        match event:
            case NetworkUp(network) | NetworkChanged(network):
                fresh = self._networks.setdefault(network.name, _Held(network, now))
                fresh.network, fresh.at, fresh.unknown = network, now, 0
                if not self._enabled and self._connectivity.get(network.interface) == "portal":
                    return self._close(fresh, None)
            case NetworkDown(name):
                self._networks.pop(name, None)
            case NetworkDescribed(interface, description):
                return self._connectivity_is(interface, description.connectivity, now) + self.tick(now)
            case PortalProbed(network, finding) if (held := self._networks.get(network.name)) is not None:
                if network.address == held.network.address:  # else it was another one's, and this one was asked since
                    held.told = now
                    return self._found(held, finding, now)
            case ProbeWanted(name) if (held := self._networks.get(name)) is not None:
                held.at = min(held.at, now)
        return self.tick(now)

    def trouble(self, network: str, now: float) -> list[PortalCommand]:
        """Note that a network's tunnel does not work: a portal that closed again may be why."""
        held = self._networks.get(network)
        if held is not None:
            held.at = min(held.at, max(now, held.told + TROUBLE_EVERY))
        return self.tick(now)

    def works(self, network: str) -> None:
        """Note that a network's tunnel works: where there was no verdict, none is needed any more."""
        held = self._networks.get(network)
        if held is not None and held.unknown and not held.captive:
            held.at = NEVER

    def deadline(self) -> float | None:
        """Return when a network is to be asked."""
        if not self._enabled:
            return None
        return min((held.at for held in self._networks.values() if held.at != NEVER), default=None)

    def tick(self, now: float) -> list[PortalCommand]:
        """Ask what is due."""
        commands: list[PortalCommand] = []
        for held in self._networks.values() if self._enabled else ():
            if held.at <= now:
                held.at = now + PATIENCE  # in case that no answer comes
                commands.append(ProbePortal(held.network))
        return commands

    def _found(self, held: _Held, finding: Finding, now: float) -> list[PortalCommand]:
        verdict = finding.verdict
        if verdict is Verdict.UNKNOWN and self._connectivity.get(held.network.interface) == "portal":
            verdict = Verdict.CAPTIVE
        if verdict is Verdict.CAPTIVE:
            held.at, held.unknown = now + CAPTIVE_EVERY, 0
            return self._close(held, finding.portal)
        if verdict is Verdict.UNKNOWN:
            wait = UNKNOWN_AFTER[min(held.unknown, len(UNKNOWN_AFTER) - 1)]
            held.unknown += 1
            held.at = now + (CAPTIVE_EVERY if held.captive else wait)
            return []
        held.at, held.unknown = NEVER, 0
        return self._open(held)

    def _connectivity_is(self, interface: str, connectivity: str | None, now: float) -> list[PortalCommand]:
        before = self._connectivity.get(interface)
        if connectivity is None:
            self._connectivity.pop(interface, None)
        else:
            self._connectivity[interface] = connectivity
        commands: list[PortalCommand] = []
        for held in self._networks.values():
            if held.network.interface != interface or connectivity == before:
                continue
            if self._enabled:
                held.at = min(held.at, now) if "portal" in (before, connectivity) else held.at
            elif connectivity == "portal":
                commands += self._close(held, None)
            elif connectivity == "full":
                commands += self._open(held)
        return commands

    def _close(self, held: _Held, portal: str | None) -> list[PortalCommand]:
        was, held.captive, held.portal = held.captive, True, portal or held.portal
        return [] if was else [PathCaptive(held.network.name, portal)]

    def _open(self, held: _Held) -> list[PortalCommand]:
        was, held.captive, held.portal = held.captive, False, None
        return [PathReleased(held.network)] if was else []
