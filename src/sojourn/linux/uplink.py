"""Which interface leads from an anchor to correspondents, and which of its addresses are there to stay."""

import ipaddress
import socket
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct
from pyroute2 import AsyncIPRoute

from sojourn.errors import ConfigError

MAIN_TABLE: Final = 254


class Uplink(Struct, frozen=True):
    """The way out. An address is given only where it is known to stay, so that NAT may name it."""

    interface: str
    address: str | None = None
    address6: str | None = None


async def own_addresses() -> list[str]:
    """Return all addresses of this machine, loopback included."""
    async with AsyncIPRoute() as ask:
        return [_address(message) async for message in await ask.get_addr()]


async def find_uplink(wanted: str, known: Sequence[str]) -> Uplink:
    """Return the uplink: the interface `wanted`, or for "auto" that of the default route.

    `known` are the addresses by which hosts reach this anchor: where one of them is on the
    uplink it is taken as static. Raises ConfigError when there is no such interface.
    """
    async with AsyncIPRoute() as ask:
        index = await _index(ask, wanted)
        links = [message async for message in await ask.get_links(index)]
        present = {_address(message) async for message in await ask.get_addr(index=index)}
    mine = [ipaddress.ip_address(address) for address in known if address in present]
    by_family = {address.version: str(address) for address in reversed(mine)}
    return Uplink(str(links[0].get("ifname")), by_family.get(4), by_family.get(6))


def _address(message: Any) -> str:  # noqa: ANN401 - pyroute2 has no types
    return str(message.get("local") or message.get("address"))


async def _index(ask: Any, wanted: str) -> int:  # noqa: ANN401
    if wanted != "auto":
        found = await ask.link_lookup(ifname=wanted)
        if not found:
            raise ConfigError("anchor.toml: uplink", f"there is no interface {wanted!r}", "`ip link` lists them.")
        return int(found[0])
    for family in (socket.AF_INET, socket.AF_INET6):
        async for route in await ask.get_default_routes(family=family, table=MAIN_TABLE):
            if (index := route.get("oif")) is not None:
                return int(index)
    why, fix = "this machine has no default route", 'Name the interface to the Internet: uplink = "eth0".'
    raise ConfigError("anchor.toml: uplink", why, fix)
