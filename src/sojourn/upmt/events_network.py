"""What happened to the access networks of a mobile host: past facts, frozen, of plain values.

linux/netlink.py tells them in the order in which the kernel did. Of one network a first
`NetworkUp` is followed by any number of `NetworkChanged`, then by one `NetworkDown`.
What NetworkManager and ModemManager know of an interface (`NetworkDescribed`) may come before or after.
"""

from typing import Literal

from msgspec import Struct

from sojourn.model import Network


class NetworkFact(Struct, frozen=True, tag=True):
    """Anything that is told of an access network."""


class NetworkUp(NetworkFact, frozen=True):
    """An interface has carrier, a usable address and a way out of its subnet."""

    network: Network


class NetworkChanged(NetworkFact, frozen=True):
    """The same network goes on with another address or gateway."""

    network: Network
    why: str


class NetworkDown(NetworkFact, frozen=True):
    """No packet can leave over this network any more."""

    name: str
    reason: str
    wanted: bool = False
    """The user took it away: nothing is wrong with it."""


class Description(Struct, frozen=True):
    """What is known of an interface beyond its address; None = nobody says."""

    label: str | None = None
    """Its name as people know it: the connection's, for Wi-Fi without one the SSID."""
    kind: str | None = None
    """As in `Network.kind`."""
    metered: bool | None = None
    """NetworkManager's yes and guess-yes, no and guess-no."""
    signal: float | None = None
    """Of Wi-Fi or cellular, 0 to 1."""
    ssid: str | None = None
    security: Literal["open", "encrypted"] | None = None
    """Whether the air is encrypted."""
    technology: str | None = None
    """Of cellular access: "lte", "5g", "umts"..."""
    operator: str | None = None
    roaming: bool | None = None
    connectivity: Literal["none", "portal", "limited", "full"] | None = None
    """What NetworkManager's own check found."""
    dns: tuple[str, ...] = ()
    """The DNS servers that this network gave."""


class NetworkUnderstood(NetworkFact, frozen=True):
    """The same network at the same address, of which more is known: kind, metered, or facts that rules look at."""

    network: Network


class NetworkDescribed(NetworkFact, frozen=True):
    """What is known of an interface has changed; this is all of it."""

    interface: str
    description: Description


AnyNetworkFact = NetworkUp | NetworkChanged | NetworkDown
