"""Which interface leads from an anchor to correspondents, and which of its addresses are there to stay."""

import ipaddress
from collections.abc import Sequence

from msgspec import Struct
from pyroute2 import IPRoute

from sojourn.errors import ConfigError


class Uplink(Struct, frozen=True):
    """The way out. An address is given only where it is known to stay, so that NAT may name it."""

    interface: str
    address: str | None = None
    address6: str | None = None


def own_addresses() -> list[str]:
    """Return all addresses of this machine, loopback included."""
    with IPRoute() as ask:
        found = [message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS") for message in ask.get_addr()]
    return [str(address) for address in found if address]


def find_uplink(wanted: str, known: Sequence[str]) -> Uplink:
    """Return the uplink: the interface `wanted`, or for "auto" that of the default route.

    `known` are the addresses by which hosts reach this anchor: where one of them is on the
    uplink it is taken as static. Raises ConfigError when there is no such interface.
    """
    with IPRoute() as ask:
        index = _index(ask, wanted)
        name = str(ask.get_links(index)[0].get_attr("IFLA_IFNAME"))
        present = {str(message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS"))
                   for message in ask.get_addr(index=index)}  # fmt: skip
    mine = [ipaddress.ip_address(address) for address in known if address in present]
    by_family = {address.version: str(address) for address in reversed(mine)}
    return Uplink(name, by_family.get(4), by_family.get(6))


def _index(ask: IPRoute, wanted: str) -> int:
    if wanted != "auto":
        found = ask.link_lookup(ifname=wanted)
        if not found:
            raise ConfigError("anchor.toml: uplink", f"there is no interface {wanted!r}", "`ip link` lists them.")
        return int(found[0])
    for family in (2, 10):
        for route in ask.get_default_routes(family=family, table=254):
            if (index := route.get_attr("RTA_OIF")) is not None:
                return int(index)
    why, fix = "this machine has no default route", 'Name the interface to the Internet: uplink = "eth0".'
    raise ConfigError("anchor.toml: uplink", why, fix)
