"""What policies, and people, are told of a network: kernel, NetworkManager, owner and counters in one place.

`Network` (model.py) is what tunnels need. `NetworkFacts` is what decides whether a flow should be
there. The owner's word (`[network.NAME]`) goes before the anchor's (costs only, where
accepted), that before NetworkManager's, that before a guess.
"""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from sojourn.control.config import NetworkConfig
from sojourn.model import Network
from sojourn.policy.language import KINDS
from sojourn.upmt.events_network import Description

UNKNOWN = Description()


class NetworkFacts(Struct, frozen=True):
    """One network as rules see it. None = nobody says, and a condition on it is then not met."""

    name: str
    interface: str
    kind: str
    """ethernet, wifi, cellular, other."""
    label: str | None = None
    """The name that people know, e.g. the NetworkManager connection's."""
    metered: bool = False
    signal: float | None = None
    """0 to 1."""
    cost: str = "free"
    """The owner's word, else "metered" where the network says so."""
    security: tuple[str, ...] = ()
    """Which of "trusted" (the owner's word), "encrypted" and "open" (the air's) hold. A cable says nothing."""
    technology: str | None = None
    operator: str | None = None
    roaming: bool | None = None
    captive: bool = False
    """Behind a portal that is not open yet: `Decide` puts nothing there."""
    used: int = 0
    """Bytes in this month, both ways, as the operator counts them (outer packets)."""
    cap: int | None = None
    """Bytes that the owner allows in a month."""

    @property
    def over_cap(self) -> bool:
        """Say whether the month's allowance is used up."""
        return self.cap is not None and self.used >= self.cap


class NetworkBook:
    """What was said of networks, and the facts that follow. Facts of a network are made when asked for."""

    def __init__(self, configured: Mapping[str, NetworkConfig]) -> None:
        self.configured = configured
        self.captive: set[str] = set()
        """Names of networks behind a closed portal."""
        self.used: Mapping[str, int] = {}
        """Bytes in this month by name; IPv6 of an interface ("NAME-6") counts as its network's."""
        self.pushed: Mapping[str, str] = {}
        """Costs that the anchor says, by name, label or kind, where the owner accepts that (PolicyPush)."""
        self._described: dict[str, Description] = {}

    def describe(self, interface: str, description: Description) -> bool:
        """Note what is known of an interface, and say whether that is news."""
        changed = self._described.get(interface, UNKNOWN) != description
        if description == UNKNOWN:
            self._described.pop(interface, None)
        else:
            self._described[interface] = description
        return changed

    def description(self, interface: str) -> Description:
        """Return what is known of an interface."""
        return self._described.get(interface, UNKNOWN)

    def facts(self, network: Network) -> NetworkFacts:
        """Return all that is known of a network now."""
        name = network.name.removesuffix("-6")
        said = self.configured.get(name) or NetworkConfig()
        told = self.description(network.interface)
        label = self._label(network.interface)
        kind = said.kind or told.kind or network.kind
        cost: str | None = said.cost
        cost = cost or next((c for n in (network.name, label, kind) if n and (c := self.pushed.get(n))), None)
        metered = cost == "metered" if cost is not None else bool(told.metered)
        trusted = ("trusted",) if said.trusted else ()
        return NetworkFacts(
            name=network.name,
            interface=network.interface,
            kind=kind,
            label=label,
            metered=metered,
            cost="metered" if metered else "free",
            signal=told.signal,
            security=(*trusted, told.security) if told.security is not None else trusted,
            technology=told.technology,
            operator=told.operator,
            roaming=told.roaming,
            captive=network.name in self.captive,
            used=self.used.get(name, 0),
            cap=said.cap_bytes,
        )

    def named(self, word: str, networks: Iterable[Network]) -> str | None:
        """Return the name of the network that `word` means: its name, else a label that only one has."""
        present = list(networks)
        if any(network.name == word for network in present):
            return word
        found = [network.name for network in present if self._label(network.interface) == word]
        return found[0] if len(found) == 1 else None

    def _label(self, interface: str) -> str | None:
        """Return the name that people know, unless it is a word that means something else where policies are read.

        Strangers choose the names of Wi-Fis: one that is called "ethernet" is none.
        """
        label = self.description(interface).label
        taken = label in KINDS or label == "*" or label in self.configured
        return None if taken else label
