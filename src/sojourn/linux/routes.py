"""Rules and routes of a mobile host and of an anchor, made so that what stands is adopted.

Nothing is kept outside the kernel: what is ours carries our protocol number in our block
(linux/numbers.py), so a new process, or `cleanup` after `kill -9`, finds all of it.
"""

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct
from pyroute2 import NetlinkError

from sojourn.linux import device as tun
from sojourn.linux import nft
from sojourn.linux.capture import (
    INNER,
    Action,
    Capture,
    capture_rules,
    family_of,
    is_network_rule,
    network_rules,
)
from sojourn.linux.interfaces import INET, INET6, MAIN_TABLE
from sojourn.linux.numbers import (
    CAPTURE_TABLE,
    FIRST_NETWORK_TABLE,
    LAST_NETWORK_TABLE,
    PLACEHOLDER6,
    PROTOCOL,
    is_our_table,
)
from sojourn.linux.rules import Rule, families, kernel, our_rules, replace_rules
from sojourn.model import Network

__all__ = ["INNER", "Action", "AnchorRouting", "Capture", "HostRouting", "cleanup"]

RTN_UNICAST, RTN_BLACKHOLE = 1, 6
RTNH_F_ONLINK = 4
SCOPE_LINK = 253
METRIC = 5200
"""Of every route here: above what the kernel itself adds for an address, where both are in one table."""
LAST_METRIC = 0xFFFFFFFF


class Route(Struct, frozen=True):
    """A route as far as ours differ from each other."""

    family: int
    table: int
    destination: str
    """A prefix; "default" is 0.0.0.0/0 or ::/0."""
    interface: int | None
    gateway: str | None = None
    source: str | None = None
    metric: int = METRIC


class HostRouting:
    """Everything a mobile host has in the kernel's routing.

    All methods may be repeated; OSError when the kernel refuses (an address that has just gone, no permission).
    """

    def __init__(self) -> None:
        self._networks: dict[str, Network] = {}
        self._known: list[Rule] | None = None
        """The networks' rules, once they were read: a network that appears is not to wait for a dump."""
        self._lock = asyncio.Lock()

    async def up(
        self,
        device: str,
        vipa: str,
        vipa6: str | None = None,
        captures: Sequence[Capture] = (),
        *,
        kill_switch: bool = False,
        inner: Sequence[str] = (),
    ) -> None:
        """Capture traffic into `device` (it exists: device.create_tun).

        `inner`: addresses that are always reached through the tunnel (the anchor's inner
        addresses and its resolver). Without `vipa6` IPv6 is left alone, or held back by the
        kill switch. Raises ConfigError for a capture that no rule can say.
        """
        held = kill_switch and vipa6 is None and INET6 in families()
        source6 = PLACEHOLDER6 if held else vipa6
        wanted = capture_rules(INET, vipa, captures, inner, kill_switch=kill_switch)
        if source6 is not None and INET6 in families():
            wanted += capture_rules(INET6, source6, captures, inner, kill_switch=kill_switch)
        async with self._lock:
            await _hold(device, held)
            async with kernel() as ask:
                index = socket.if_nametoindex(device)
                routes = [
                    Route(family_of(source), CAPTURE_TABLE, _everything(source), index, source=source)
                    for source in (vipa, source6)
                    if source is not None
                ]
                await _replace_routes(ask, CAPTURE_TABLE, routes)
                present = await our_rules(ask)
                await replace_rules(ask, _of_capture(present), wanted)

    async def release(self) -> None:
        """Stop capturing, kill switch included; the networks' own tables stay."""
        async with self._lock, kernel() as ask:
            await replace_rules(ask, _of_capture(await our_rules(ask)), [])
            await _replace_routes(ask, CAPTURE_TABLE, [])
            await asyncio.to_thread(nft.remove_held)

    async def set_network(self, network: Network) -> None:
        """Give a network its own table and rules, before sockets are bound to it."""
        async with self._lock, kernel() as ask:
            await self._set(ask, network)

    async def drop_network(self, name: str) -> None:
        """Take them away. Of a network that this process never saw, the name must be the interface's."""
        async with self._lock, kernel() as ask:
            network = self._networks.pop(name, None)
            interface = network.interface if network else name.removesuffix("-6")
            family = family_of(network.address) if network else (INET6 if name.endswith("-6") else INET)
            self._known = None
            await _drop(ask, interface, family)

    async def set_networks(self, networks: Iterable[Network]) -> None:
        """Make it exactly these: what a dead predecessor left of others goes."""
        async with self._lock, kernel() as ask:
            self._networks, self._known = {}, None
            for network in networks:
                await self._set(ask, network)
            kept = {(network.interface, family_of(network.address)) for network in self._networks.values()}
            for rule in await our_rules(ask):
                if rule.outgoing is not None and (rule.outgoing, rule.family) not in kept:
                    await _drop(ask, rule.outgoing, rule.family)

    async def _set(self, ask: Any, network: Network) -> None:  # noqa: ANN401
        family = family_of(network.address)
        first = self._known is None
        rules = await our_rules(ask) if self._known is None else self._known
        table = _table_of(rules, network.interface) or _free_table(rules)
        routes = await _network_routes(ask, network, table)
        if first:
            await _replace_routes(ask, table, routes, family)
        else:  # The kernel itself has removed what went with an address.
            for route in routes:
                await ask.route("replace", **_request(route))
        before = _of_network(rules, network.interface, family)
        wanted = network_rules(family, network.address, network.interface, table)
        await replace_rules(ask, before, wanted)
        self._known = [rule for rule in rules if is_network_rule(rule) and rule not in before] + wanted
        self._networks[network.name] = network

    async def down(self) -> None:
        """Remove everything that a mobile host has."""
        async with self._lock, kernel() as ask:
            self._networks, self._known = {}, None
            await replace_rules(ask, await our_rules(ask), [])
            for route in await _our_routes(ask):
                if is_our_table(route.table):
                    await _remove(ask, route)
            await asyncio.to_thread(nft.remove_held)


class AnchorRouting:
    """The Vipa pool's routes at an anchor: to the device, and a blackhole below for when it is gone.

    So nothing tells a correspondent "unreachable" while a host, or this program, is away.
    """

    async def up(self, device: str, pool: str, pool6: str | None = None) -> None:
        """Make it exactly these pools; repeated it changes nothing."""
        async with kernel() as ask:
            index = socket.if_nametoindex(device)
            routes = [
                Route(family_of(prefix.partition("/")[0]), MAIN_TABLE, prefix, interface, metric=metric)
                for prefix in (pool, pool6)
                if prefix is not None
                for interface, metric in ((None, LAST_METRIC), (index, METRIC))
            ]
            await _replace_routes(ask, MAIN_TABLE, routes)

    async def down(self) -> None:
        """Remove them."""
        async with kernel() as ask:
            await _replace_routes(ask, MAIN_TABLE, [])


async def cleanup() -> list[str]:
    """Remove all rules and routes that Sojourn ever adds, by what the kernel holds; returns what went."""
    async with kernel() as ask:
        rules = await our_rules(ask)
        routes = await _our_routes(ask)
        await replace_rules(ask, rules, [])
        for route in routes:
            await _remove(ask, route)
    return [
        *(f"rule {rule.priority} (IPv{4 if rule.family == INET else 6})" for rule in rules),
        *(f"route {route.destination} in table {route.table}" for route in routes),
    ]


async def tunnel_devices() -> set[str]:
    """Return the TUN devices that our routes lead to: the capture's, and an anchor's."""
    async with kernel() as ask:
        indices = {route.interface for route in await _our_routes(ask) if not _is_network_table(route.table)}
    names = dict(socket.if_nameindex())
    return {names[index] for index in indices if index in names}


def _is_network_table(table: int) -> bool:
    return FIRST_NETWORK_TABLE <= table <= LAST_NETWORK_TABLE


async def _hold(device: str, held: bool) -> None:
    """Hold IPv6 back by a source address of its own, or stop doing so."""
    changed = await tun.set_placeholder(device, wanted=held)
    if held:
        await asyncio.to_thread(nft.set_held)
    elif changed:
        await asyncio.to_thread(nft.remove_held)


def _of_capture(rules: Iterable[Rule]) -> list[Rule]:
    return [rule for rule in rules if not is_network_rule(rule)]


def _of_network(rules: Sequence[Rule], interface: str, family: int) -> list[Rule]:
    """Those of one interface: bound to it, leading to its table, or from an address that leads there."""
    table = _table_of(rules, interface)
    mine = [rule for rule in rules if rule.family == family and is_network_rule(rule)]
    sources = {rule.source for rule in mine if rule.source is not None and rule.target == table}
    return [rule for rule in mine if rule.outgoing == interface or rule.source in sources]


def _table_of(rules: Iterable[Rule], interface: str) -> int | None:
    tables = (rule.target for rule in rules if rule.outgoing == interface and is_our_table(rule.target))
    return next(tables, None)


def _free_table(rules: Iterable[Rule]) -> int:
    taken = {rule.target for rule in rules}
    free = (table for table in range(FIRST_NETWORK_TABLE, LAST_NETWORK_TABLE + 1) if table not in taken)
    table = next(free, None)
    if table is None:
        raise OSError(errno.ENOSPC, "there are no more than 98 routing tables for networks")
    return table


async def _drop(ask: Any, interface: str, family: int) -> None:  # noqa: ANN401
    rules = await our_rules(ask)
    table = _table_of(rules, interface)
    await replace_rules(ask, _of_network(rules, interface, family), [])
    if table is not None:
        await _replace_routes(ask, table, [], family)


async def _network_routes(ask: Any, network: Network, table: int) -> list[Route]:  # noqa: ANN401
    """Return a network's own way out, and for IPv4 its subnet.

    Of two interfaces in one subnet main's first route would take both; IPv6 has main's, where
    the router says what is on the link.
    """
    family, address = family_of(network.address), network.address
    index = socket.if_nametoindex(network.interface)
    routes = [Route(family, table, _everything(address), index, network.gateway, address)]
    if family == INET:
        async for message in await ask.addr("dump", index=index, family=INET):
            if message["index"] == index and message.get_attr("IFA_LOCAL") == address:
                remote = message.get_attr("IFA_ADDRESS")
                subnet = ipaddress.ip_network(f"{remote}/{message['prefixlen']}", strict=False)
                if subnet.prefixlen < 32 or remote != address:
                    routes.insert(0, Route(family, table, str(subnet), index, source=address))
    return routes


def _everything(address: str) -> str:
    return "0.0.0.0/0" if family_of(address) == INET else "::/0"


async def _our_routes(ask: Any, table: int | None = None) -> list[Route]:  # noqa: ANN401
    found = []
    for family in families():
        async for message in await ask.route("dump", family=family, proto=PROTOCOL):
            route = _read_route(message)
            if message["proto"] == PROTOCOL and table in (None, route.table):
                found.append(route)
    return found


def _read_route(message: Any) -> Route:  # noqa: ANN401
    family = message["family"]
    everything = "0.0.0.0" if family == INET else "::"
    via = message.get_attr("RTA_VIA")
    return Route(
        family=family,
        table=message.get_attr("RTA_TABLE") or message["table"],
        destination=f"{message.get_attr('RTA_DST') or everything}/{message['dst_len']}",
        # IPv6 says lo for a blackhole.
        interface=message.get_attr("RTA_OIF") if message["type"] == RTN_UNICAST else None,
        gateway=via["addr"] if via is not None else message.get_attr("RTA_GATEWAY"),
        source=message.get_attr("RTA_PREFSRC"),
        metric=message.get_attr("RTA_PRIORITY") or 0,
    )


async def _replace_routes(ask: Any, table: int, wanted: Sequence[Route], family: int | None = None) -> None:  # noqa: ANN401
    """Turn our routes of one table (and family) into these; what is right already is not touched."""
    present = [route for route in await _our_routes(ask, table) if family in (None, route.family)]
    for route in wanted:
        if route not in present:
            await ask.route("replace", **_request(route))
    places = {_place(route) for route in wanted}
    for route in present:
        # "replace" has taken the place of what had the same destination and metric.
        if route not in wanted and _place(route) not in places:
            await _remove(ask, route)


def _place(route: Route) -> tuple[int, str, int]:
    return (route.family, route.destination, route.metric)


async def _remove(ask: Any, route: Route) -> None:  # noqa: ANN401
    try:
        await ask.route("del", **_request(route))
    except NetlinkError as error:
        if error.code != errno.ESRCH:
            raise


def _request(route: Route) -> dict[str, Any]:
    words: dict[str, Any] = {
        "family": route.family,
        "table": route.table,
        "dst": route.destination,
        "proto": PROTOCOL,
        "priority": route.metric,
    }
    if route.interface is None:
        return words | {"type": RTN_BLACKHOLE}
    words |= {"type": RTN_UNICAST, "oif": route.interface}
    if route.source is not None:
        words["prefsrc"] = route.source
    if route.gateway is None:
        return words | {"scope": SCOPE_LINK}
    # A gateway outside of the subnet (a /32 from DHCP) is told to be on the link, as main's route does by other means.
    words["flags"] = RTNH_F_ONLINK
    if family_of(route.gateway) != route.family:
        return words | {"via": {"family": family_of(route.gateway), "addr": route.gateway}}
    return words | {"gateway": route.gateway}
