"""Access networks as netlink tells them: links, addresses and routes in, facts out.

A loss is told from the very message that says it. What the kernel does not say (it flushes
IPv4 routes of a lost address in silence) is found by a dump 50 ms later, and messages that
were lost to a full buffer (ENOBUFS) by a dump at once. A dump is newer than the messages that wait:
they are taken first, or they would tell of losses that have passed.
"""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Container, Iterator, Mapping
from pathlib import Path
from typing import Any

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from sojourn.linux.interfaces import Address, Default, Interfaces, Link
from sojourn.linux.numbers import is_our_table
from sojourn.linux.rules import families
from sojourn.model import Network
from sojourn.upmt.events_network import AnyNetworkFact

RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE = 1, 0x10, 0x40, 0x100, 0x400
GROUPS = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR | RTMGRP_IPV6_ROUTE
NLM_F_REPLACE = 0x100
RTN_UNICAST = 1
ARPHRD_ETHER, ARPHRD_PPP, ARPHRD_RAWIP, ARPHRD_NONE = 1, 512, 519, 0xFFFE

BUFFER_BYTES = 1 << 20
MESSAGE_BYTES = 1 << 16
SECOND_LOOK = 0.05
"""Seconds after a change that may have flushed routes in silence until the next dump."""

LOOKS = 3
"""Dumps in a row until one is believed although messages came meanwhile: more are on their way."""

TUNNEL_KINDS = frozenset(
    {"wireguard", "ipip", "sit", "gre", "ip6gre", "ip6tnl", "vti", "vti6", "xfrm", "geneve", "vxlan"}
)
PHONE_DRIVERS = frozenset({"rndis_host", "ipheth", "cdc_mbim", "qmi_wwan", "cdc_ncm"})
"""A telephone on a cable, or a modem: what it offers is the cellular network."""


class NetworkWatcher:
    """`async with NetworkWatcher(...) as watcher: async for fact in watcher: ...`.

    The first facts are a `NetworkUp` for each network that is there already. It watches the
    network namespace that it is entered in.
    """

    def __init__(self, *, ignore: Container[str] = (), names: Mapping[str, str] | None = None) -> None:
        """`ignore`: interfaces that are never networks; `names`: interface -> name (default: the same)."""
        self._interfaces = Interfaces(ignore, names)
        self._marshal = MarshalRtnl()
        self._events: socket.socket | None = None
        self._look_at: float | None = None
        """Loop time of the second look, while one is due."""

    @property
    def networks(self) -> Mapping[str, Network]:
        """The networks that are up, by name, as of the last fact."""
        return self._interfaces.networks

    async def __aenter__(self) -> "NetworkWatcher":
        # A plain socket: pyroute2's own transport stays broken after ENOBUFS and queues without a bound.
        self._events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        self._events.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self._events.bind((0, GROUPS))
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._events is not None:
            self._events.close()

    async def __aiter__(self) -> AsyncIterator[AnyNetworkFact]:
        async for fact in self._look():
            yield fact
        while True:
            data = await self._receive()
            if data is not None:
                for fact in self._taken(data):
                    yield fact
                continue
            async for fact in self._look():
                yield fact

    async def _look(self) -> AsyncIterator[AnyNetworkFact]:
        """Believe a dump. What waits to be read may be older than it, and would undo it: that comes first."""
        for _ in range(LOOKS):
            found = await self._dump()
            waiting = self._waiting()
            for data in waiting:
                for fact in self._taken(data):
                    yield fact
            if not waiting:
                break
        else:
            self._look_again()
        self._interfaces.replace(*found)
        for fact in self._interfaces.facts():
            yield fact

    def _taken(self, data: bytes) -> Iterator[AnyNetworkFact]:
        for message in self._marshal.parse(data):
            # Fact by fact: a link that goes and comes back within one buffer did go.
            self._take(message)
            yield from self._interfaces.facts()

    def _waiting(self) -> list[bytes]:
        """Return the datagrams that are there to be read; what was lost to a full buffer the next dump tells."""
        assert self._events is not None
        datagrams: list[bytes] = []
        while True:
            try:
                datagrams.append(self._events.recv(MESSAGE_BYTES))
            except BlockingIOError:
                return datagrams
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._look_again()

    async def _receive(self) -> bytes | None:
        """Return the next datagram, or None when only a dump can tell what is so."""
        assert self._events is not None
        loop = asyncio.get_running_loop()
        wait = None if self._look_at is None else max(0.0, self._look_at - loop.time())
        try:
            return await asyncio.wait_for(loop.sock_recv(self._events, MESSAGE_BYTES), wait)
        except TimeoutError:
            return None
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            self._waiting()  # for nobody: the kernel tells of the next loss only after the queue was empty
            return None

    async def _dump(self) -> tuple[list[Link], list[Address], list[Default]]:
        self._look_at = None
        async with AsyncIPRoute() as ask:
            links = [read_link(message) async for message in await ask.link("dump")]
            addresses = [read_address(message) async for message in await ask.addr("dump")]
            defaults = [
                route
                for family in families()
                async for message in await ask.route("dump", family=family)
                for route in read_defaults(message)
            ]
        return links, addresses, defaults

    def _look_again(self) -> None:
        if self._look_at is None:
            self._look_at = asyncio.get_running_loop().time() + SECOND_LOOK

    def _take(self, message: Any) -> None:  # noqa: ANN401
        event = message.get("event")
        if event in ("RTM_NEWLINK", "RTM_DELLINK"):
            self._take_link(message, gone=event == "RTM_DELLINK")
        elif event == "RTM_NEWADDR":
            self._interfaces.set_address(read_address(message))
        elif event == "RTM_DELADDR":
            self._interfaces.drop_address(read_address(message))
            self._look_again()
        elif event == "RTM_NEWROUTE":
            replaces = bool(message["header"]["flags"] & NLM_F_REPLACE)
            for route in read_defaults(message):
                self._interfaces.set_default(route, replaces=replaces)
                replaces = False
        elif event == "RTM_DELROUTE":
            for route in read_defaults(message):
                self._interfaces.drop_default(route)

    def _take_link(self, message: Any, *, gone: bool) -> None:  # noqa: ANN401
        if message["family"] != socket.AF_UNSPEC:
            return  # a bridge port (AF_BRIDGE) joined or left
        if gone:
            self._interfaces.drop_link(message["index"])
        elif self._interfaces.set_link(read_link(message)):
            self._look_again()


def read_link(message: Any) -> Link:  # noqa: ANN401
    """RTM_NEWLINK."""
    name = message.get_attr("IFLA_IFNAME")
    info = message.get_attr("IFLA_LINKINFO")
    driver = info.get_attr("IFLA_INFO_KIND") if info is not None else None
    hardware = message["ifi_type"]
    virtual = driver in TUNNEL_KINDS or (driver == "tun" and hardware == ARPHRD_NONE)
    return Link(message["index"], name, message["flags"], kind_of(name, hardware, driver), virtual)


def kind_of(name: str, hardware: int, driver: str | None) -> str:
    """Guess what an interface gives access by, from its ARPHRD number and what rtnetlink calls its kind."""
    sysfs = Path("/sys/class/net") / name
    if (sysfs / "wireless").exists() or (sysfs / "phy80211").exists():
        return "wifi"
    module = sysfs / "device" / "driver"
    if hardware in (ARPHRD_PPP, ARPHRD_RAWIP) or (driver is None and hardware == ARPHRD_NONE):
        return "cellular"
    if module.exists() and module.resolve().name in PHONE_DRIVERS:
        return "cellular"
    return "ethernet" if hardware == ARPHRD_ETHER else "other"


def read_address(message: Any) -> Address:  # noqa: ANN401
    """RTM_NEWADDR and RTM_DELADDR: of a point-to-point interface IFA_ADDRESS is the other end (linux/if_addr.h)."""
    remote = message.get_attr("IFA_ADDRESS")
    local = message.get_attr("IFA_LOCAL") or remote
    flags = message.get_attr("IFA_FLAGS")  # 32 bits, where the header has 8
    return Address(
        index=message["index"],
        family=message["family"],
        address=local,
        peer=remote if remote != local else None,
        flags=message["flags"] if flags is None else flags,
        scope=message["scope"],
    )


def read_defaults(message: Any) -> Iterator[Default]:  # noqa: ANN401
    """Yield the default routes in RTM_NEWROUTE or RTM_DELROUTE: none, one, or one a next hop."""
    table = message.get_attr("RTA_TABLE") or message["table"]
    if message["dst_len"] != 0 or message["type"] != RTN_UNICAST or is_our_table(table):
        return
    metric = message.get_attr("RTA_PRIORITY") or 0
    for hop in message.get_attr("RTA_MULTIPATH") or [message]:
        index = hop["oif"] if "oif" in hop else hop.get_attr("RTA_OIF")
        via = hop.get_attr("RTA_VIA")  # the gateway is of the other family (RFC 8950)
        gateway = via["addr"] if via is not None else hop.get_attr("RTA_GATEWAY")
        if index is not None:
            yield Default(index, message["family"], gateway, metric, table, message.get_attr("RTA_PREFSRC"))
