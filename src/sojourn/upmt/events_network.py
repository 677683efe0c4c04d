"""What happened to the access networks of a mobile host: past facts, frozen, of plain values.

linux/netlink.py tells them in the order in which the kernel did. Of one network a first
`NetworkUp` is followed by any number of `NetworkChanged`, then by one `NetworkDown`.
"""

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


AnyNetworkFact = NetworkUp | NetworkChanged | NetworkDown
