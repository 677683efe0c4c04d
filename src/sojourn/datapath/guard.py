"""Which inner destinations an anchor lets its mobile hosts reach (DESIGN §3.2, Plaintext).

Its own inner address answers echo and the listed ports. Loopback, link-local (where clouds keep
their metadata), multicast and reserved ranges are never reached; what else is refused (the pool
of Vipas, private ranges, the machine's own addresses) and what is allowed after all, `Setup` says.
"""

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from sojourn.model import ICMP, ICMPV6
from sojourn.packet.ip import packed
from sojourn.upmt.commands import Setup

ALWAYS_REFUSED: Final = (
    "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4",
    "::/127", "::ffff:0:0/96", "fe80::/10", "fec0::/10", "ff00::/8",
)  # fmt: skip
_MOST_REMEMBERED: Final = 4096


class Ranges:
    """A set of networks, asked with packed addresses."""

    def __init__(self, cidrs: tuple[str, ...]) -> None:
        """Read networks in CIDR notation; ValueError for one that is none."""
        self._masks: dict[int, list[tuple[int, int]]] = {4: [], 16: []}
        for cidr in cidrs:
            network: IPv4Network | IPv6Network = ip_network(cidr, strict=False)
            size = network.max_prefixlen // 8
            self._masks[size].append((int(network.netmask), int(network.network_address)))

    def __contains__(self, address: bytes) -> bool:
        number = int.from_bytes(address)
        return any(number & mask == network for mask, network in self._masks[len(address)])


class Guard:
    """The verdict on a new flow of a mobile host, by destination. Flows that came from outside pass as answers."""

    def __init__(self, setup: Setup) -> None:
        self._inner = {packed(address) for address in setup.inner_addresses}
        self._ports = frozenset(setup.inner_ports)
        self._refused = Ranges(ALWAYS_REFUSED + setup.refused)
        self._allowed = Ranges(setup.allowed)
        self._known: dict[bytes, bool] = {}

    def refuses(self, key: bytes) -> str | None:
        """Return the word to count a refused flow under, or None for one that may pass; `key` is its flow key."""
        size = (len(key) - 5) // 2
        destination = key[1 + size : -4]
        if destination in self._inner:
            if key[0] in (ICMP, ICMPV6) or int.from_bytes(key[-2:]) in self._ports:
                return None
            return "inner-port"
        allowed = self._known.get(destination)
        if allowed is None:
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            allowed = destination in self._allowed or destination not in self._refused
            self._known[destination] = allowed
        return None if allowed else "inner-destination"
