"""What the kernel says of interfaces, folded into access networks: no socket, no clock.

A network is an interface with carrier that has an address and a way out of its subnet: a
default route in any table but Sojourn's own, or a point-to-point peer. IPv4 goes first; an
interface that has IPv6 only is the network "NAME-6".
"""

import ipaddress
from collections.abc import Callable, Container, Iterable, Mapping

from msgspec import Struct

from sojourn.model import Network
from sojourn.upmt.events_network import AnyNetworkFact, NetworkChanged, NetworkDown, NetworkUp

INET, INET6 = 2, 10
"""Address families as netlink numbers them."""
MAIN_TABLE = 254

IFF_UP, IFF_RUNNING, IFF_LOWER_UP = 0x1, 0x40, 0x10000
IFF_LOOPBACK = 0x8
READY = IFF_UP | IFF_RUNNING | IFF_LOWER_UP
"""Taken up by its owner, authenticated (802.1X, WPA) where that is asked, and with carrier."""

IFA_F_TEMPORARY, IFA_F_OPTIMISTIC, IFA_F_DADFAILED, IFA_F_DEPRECATED, IFA_F_TENTATIVE = 0x01, 0x04, 0x08, 0x20, 0x40
IFA_F_SECONDARY = IFA_F_TEMPORARY
"""The same bit: temporary (RFC 8981) for IPv6, secondary for IPv4."""
SCOPE_LINK = 253


class Link(Struct, frozen=True):
    """An interface."""

    index: int
    name: str
    flags: int
    kind: str = "other"
    """As in `Network.kind`."""
    virtual: bool = False
    """Somebody's tunnel, which is a network only when its owner names it."""


class Address(Struct, frozen=True):
    """An address on an interface."""

    index: int
    family: int
    address: str
    peer: str | None = None
    flags: int = 0
    scope: int = 0


class Default(Struct, frozen=True):
    """A default route out of one interface."""

    index: int
    family: int
    gateway: str | None
    metric: int = 0
    table: int = MAIN_TABLE
    source: str | None = None


class Interfaces:
    """Takes changes in and gives the facts that follow from them."""

    def __init__(self, ignore: Container[str] = (), names: Mapping[str, str] | None = None) -> None:
        self._ignore = ignore
        self._names = names or {}
        self._links: dict[int, Link] = {}
        self._addresses: dict[tuple[int, str], Address] = {}
        self._defaults: dict[Default, None] = {}
        self.networks: dict[str, Network] = {}
        """What was told last, by name."""

    def replace(self, links: Iterable[Link], addresses: Iterable[Address], defaults: Iterable[Default]) -> None:
        """Forget all but what was told, and believe this dump."""
        self._links = {link.index: link for link in links}
        self._addresses = {(address.index, address.address): address for address in addresses}
        self._defaults = dict.fromkeys(defaults)

    def set_link(self, link: Link) -> bool:
        """Note an interface, and say whether it is another than before.

        One that is down has lost its routes, and the kernel does not say so.
        """
        changed = self._links.get(link.index) != link
        self._links[link.index] = link
        if not link.flags & IFF_UP:
            self._drop_defaults(lambda route: route.index == link.index)
        return changed

    def drop_link(self, index: int) -> None:
        """Forget an interface with all that it had."""
        self._links.pop(index, None)
        self._addresses = {key: address for key, address in self._addresses.items() if key[0] != index}
        self._drop_defaults(lambda route: route.index == index)

    def set_address(self, address: Address) -> None:
        """Note an address or its new flags."""
        self._addresses[address.index, address.address] = address

    def drop_address(self, address: Address) -> None:
        """Forget an address, and the routes that the kernel silently removes with it (fib_sync_down_addr)."""
        self._addresses.pop((address.index, address.address), None)
        if address.family != INET:
            return
        left = any(kept.index == address.index and kept.family == INET for kept in self._addresses.values())
        self._drop_defaults(
            lambda route: (
                route.family == INET
                and (route.source == address.address or (route.index == address.index and not left))
            )
        )

    def set_default(self, route: Default, *, replaces: bool = False) -> None:
        """Note a default route; `replaces`: instead of the others of the same family, table and metric."""
        if replaces:
            place = (route.family, route.table, route.metric)
            self._drop_defaults(lambda other: (other.family, other.table, other.metric) == place)
        self._defaults[route] = None

    def drop_default(self, route: Default) -> None:
        """Forget a default route."""
        self._defaults.pop(route, None)

    def _drop_defaults(self, gone: Callable[[Default], bool]) -> None:
        self._defaults = {route: None for route in self._defaults if not gone(route)}

    def facts(self) -> list[AnyNetworkFact]:
        """Say what has become different since the last call, losses first."""
        current = {network.name: network for link in self._links.values() if (network := self._network(link))}
        told, self.networks = self.networks, current
        facts: list[AnyNetworkFact] = [
            NetworkDown(name, self._why_lost(network)) for name, network in told.items() if name not in current
        ]
        for name, network in current.items():
            before = told.get(name)
            if before is None:
                facts.append(NetworkUp(network))
            elif before != network:
                facts.append(NetworkChanged(network, _difference(before, network)))
        return facts

    def _network(self, link: Link) -> Network | None:
        named = link.name in self._names
        if link.name in self._ignore or link.flags & IFF_LOOPBACK or (link.virtual and not named):
            return None
        if link.flags & READY != READY:
            return None
        name = self._names.get(link.name, link.name)
        return self._network_of(link, INET, name) or self._network_of(link, INET6, f"{name}-6")

    def _network_of(self, link: Link, family: int, name: str) -> Network | None:
        address = self._best_address(link, family, name)
        if address is None:
            return None
        routes = [route for route in self._defaults if route.index == link.index and route.family == family]
        if not routes and address.peer is None:
            return None
        # Of several the main table's is the one that applications would have used, then the lowest metric.
        gateway = min(routes, key=_route_rank).gateway if routes else None
        return Network(name=name, interface=link.name, address=address.address, gateway=gateway, kind=link.kind)

    def _best_address(self, link: Link, family: int, name: str) -> Address | None:
        usable = [
            address
            for address in self._addresses.values()
            if address.index == link.index and address.family == family and is_usable(address)
        ]
        told = self.networks.get(name)
        current = told.address if told is not None else None
        # A tunnel does not move to another address as long as its own is good.
        return min(usable, key=lambda address: _address_rank(address, current), default=None)

    def _why_lost(self, network: Network) -> str:
        link = next((link for link in self._links.values() if link.name == network.interface), None)
        if link is None:
            return "interface is gone"
        if not link.flags & IFF_UP:
            return "interface was taken down"
        if link.flags & READY != READY:
            return "no carrier"
        if (link.index, network.address) not in self._addresses:
            return "address lost"
        if network.name.endswith("-6") and self.networks.get(network.name.removesuffix("-6")):
            return "IPv4 has come"
        return "no default route"


def is_usable(address: Address) -> bool:
    """Say whether packets may be sent from it to the outside now (RFC 4862 §5.4: not while tentative)."""
    parsed = ipaddress.ip_address(address.address)
    if parsed.is_link_local or parsed.is_loopback or address.scope >= SCOPE_LINK:
        return False
    return address.family == INET or not address.flags & (IFA_F_TENTATIVE | IFA_F_OPTIMISTIC | IFA_F_DADFAILED)


def _address_rank(address: Address, current: str | None) -> tuple[bool, bool, bool, bool]:
    """Order addresses by preference, the smallest first; a stable sort keeps the kernel's order."""
    local_only = address.family == INET6 and ipaddress.ip_address(address.address) in ipaddress.ip_network("fc00::/7")
    return (
        bool(address.flags & IFA_F_DEPRECATED),
        address.address != current,
        local_only,
        bool(address.flags & IFA_F_TEMPORARY),
    )


def _route_rank(route: Default) -> tuple[bool, int]:
    return (route.table != MAIN_TABLE, route.metric)


def _difference(before: Network, after: Network) -> str:
    parts = [word for word in ("address", "gateway", "interface") if getattr(before, word) != getattr(after, word)]
    return f"{' and '.join(parts or ['kind'])} changed"
