"""One rule of the kernel's routing policy (fib_rules), to and from netlink."""

import contextlib
import errno
import ipaddress
from collections.abc import AsyncIterator, Iterable, Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any

from msgspec import Struct
from pyroute2 import AsyncIPRoute, NetlinkError

from sojourn.linux.interfaces import INET, INET6
from sojourn.linux.numbers import LAST_PRIORITY, MARK, MARK_MASK, PROTOCOL, is_our_priority

IPV6 = Path("/proc/sys/net/ipv6")
NO_SUPPRESSION = 0xFFFFFFFF


class Do(IntEnum):
    """What a rule does with what it matches (linux/fib_rules.h, FR_ACT_*)."""

    LOOKUP = 1
    GOTO = 2
    NOP = 3
    UNREACHABLE = 7


class Rule(Struct, frozen=True, kw_only=True):
    """A conjunction of selectors, and what becomes of a packet that meets it. Absent selectors meet everything."""

    family: int
    priority: int
    do: Do
    target: int = 0
    """LOOKUP: the table; GOTO: the priority."""
    only_specific: bool = False
    """LOOKUP: as if the table had no default route (suppress_prefixlength 0)."""
    source: str | None = None
    destination: str | None = None
    """Prefixes, canonical ("192.0.2.1/32")."""
    incoming: str | None = None
    """Interface the packet came in by; "lo" = it was made here."""
    outgoing: str | None = None
    """Interface the socket is bound to."""
    marked: bool = False
    protocol: int | None = None
    source_ports: tuple[int, int] | None = None
    destination_ports: tuple[int, int] | None = None
    uids: tuple[int, int] | None = None


def request(rule: Rule) -> dict[str, Any]:
    """Return a rule as pyroute2's arguments."""
    words: dict[str, Any] = {
        "family": rule.family,
        "priority": rule.priority,
        "action": int(rule.do),
        "protocol": PROTOCOL,
        "iifname": rule.incoming,
        "oifname": rule.outgoing,
        "ip_proto": rule.protocol,
        "sport_range": _range(rule.source_ports),
        "dport_range": _range(rule.destination_ports),
        "uid_range": _range(rule.uids),
    }
    if rule.do is Do.LOOKUP:
        words["table"] = rule.target
        words["suppress_prefixlen"] = 0 if rule.only_specific else None
    if rule.do is Do.GOTO:
        words["goto"] = rule.target
    if rule.marked:
        words |= {"fwmark": MARK, "fwmask": MARK_MASK}
    for key, prefix in (("src", rule.source), ("dst", rule.destination)):
        if prefix is not None:
            address, _, length = prefix.partition("/")
            words |= {key: address, f"{key}_len": int(length)}
    return {key: value for key, value in words.items() if value is not None}


def read_rule(message: Any) -> Rule | None:  # noqa: ANN401
    """Read RTM_NEWRULE; None for a rule that is not ours."""
    priority = message.get_attr("FRA_PRIORITY") or 0
    if message.get_attr("FRA_PROTOCOL") != PROTOCOL or not is_our_priority(priority):
        return None
    do = Do(message["action"])
    table = message.get_attr("FRA_TABLE") or message["table"]
    return Rule(
        family=message["family"],
        priority=priority,
        do=do,
        target={Do.LOOKUP: table, Do.GOTO: message.get_attr("FRA_GOTO")}.get(do, 0),
        only_specific=message.get_attr("FRA_SUPPRESS_PREFIXLEN") not in (None, NO_SUPPRESSION),
        source=_prefix(message.get_attr("FRA_SRC"), message["src_len"]),
        destination=_prefix(message.get_attr("FRA_DST"), message["dst_len"]),
        incoming=message.get_attr("FRA_IIFNAME"),
        outgoing=message.get_attr("FRA_OIFNAME"),
        marked=bool(message.get_attr("FRA_FWMARK")),
        protocol=message.get_attr("FRA_IP_PROTO"),
        source_ports=_pair(message.get_attr("FRA_SPORT_RANGE")),
        destination_ports=_pair(message.get_attr("FRA_DPORT_RANGE")),
        uids=_pair(message.get_attr("FRA_UID_RANGE")),
    )


def _prefix(address: str | None, length: int) -> str | None:
    return None if address is None else str(ipaddress.ip_network(f"{address}/{length}"))


def _range(pair: tuple[int, int] | None) -> str | None:
    return None if pair is None else f"{pair[0]}:{pair[1]}"


def _pair(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, _, last = text.partition(":")
    return int(first), int(last)


@contextlib.asynccontextmanager
async def kernel() -> AsyncIterator[Any]:
    """Open rtnetlink for some requests; a refusal of the kernel is an OSError."""
    with refusals():
        async with AsyncIPRoute(strict_check=True) as ask:
            yield ask


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Raise pyroute2's own exception as the OSError that it stands for."""
    try:
        yield
    except NetlinkError as error:
        raise OSError(error.code, str(error.args[-1])) from error


def families() -> list[int]:
    """Return the address families that this kernel routes: a dump of another is refused."""
    return [INET, *([INET6] if IPV6.exists() else [])]


async def our_rules(ask: Any) -> list[Rule]:  # noqa: ANN401
    """Return our rules as the kernel has them, in their order."""
    found: list[Rule] = []
    for family in families():
        async for message in await ask.rule("dump", family=family):
            rule = read_rule(message)
            if rule is not None:
                found.append(rule)
    return found


async def replace_rules(ask: Any, present: Iterable[Rule], wanted: Iterable[Rule]) -> None:  # noqa: ANN401
    """Turn what is there into what should be; a rule in both is not touched.

    New ones come before old ones go, and the end of the block, where all others jump, is first and last.
    """
    before, after = set(present), set(wanted)
    for rule in sorted(after - before, key=_order):
        with _unless(errno.EEXIST):
            await ask.rule("add", **request(rule))
    for rule in sorted(before - after, key=_order, reverse=True):
        with _unless(errno.ENOENT):
            await ask.rule("del", **request(rule))


def _order(rule: Rule) -> tuple[bool, int]:
    return (rule.priority != LAST_PRIORITY, rule.priority)


@contextlib.contextmanager
def _unless(harmless: int) -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        if error.code != harmless:
            raise
