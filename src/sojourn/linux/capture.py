"""Which rules make a mobile host: the layout of the block of priorities. Pure: values in, rules out.

| priority | what it is for |
| --- | --- |
| 5300 | the anchor's inner addresses and resolver: always through the tunnel |
| 5301-5303 | packets from a network's own address: its subnet, main's specific routes, its gateway |
| 5304-5305 | sockets bound to a network's interface: likewise |
| 5306 | sockets with our mark: direct |
| 5307 | multicast, broadcast, link-local: direct |
| 5308-5309 | packets from the Vipa: the tunnel or nowhere |
| 5310-5312 | packets made here whose source is any other address of this machine: direct |
| 5320-5379 | `[[capture]]` |
| 5380 | what main has a specific route for (the LAN): direct |
| 5385 | all else: the tunnel |
| 5390 | kill switch: unreachable |
| 5399 | "direct" jumps here, and then to the rules of this machine's owner |

A socket that is not bound has no source address yet when its route is looked up; the route to
the TUN device gives it the Vipa, and its second lookup meets 5308. So flows that are older than
the capture, and sockets that chose a physical address, stay direct.

Kill switch and IPv6: a lookup without source that ends in an error is repeated by the kernel with the
source that it would have taken (ip6_dst_lookup_tail), and that one meets 5302. An error alone is therefore
no barrier; the capture table has a working route to the TUN device for IPv6 as well, from a
placeholder address while there is no vipa6.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

from msgspec import Struct

from sojourn.errors import ConfigError
from sojourn.linux.interfaces import INET, INET6, MAIN_TABLE
from sojourn.linux.numbers import CAPTURE_TABLE, LAST_PRIORITY
from sojourn.linux.rules import Do, Rule
from sojourn.model import ICMP, ICMPV6
from sojourn.policy.match import Match, Term

INNER = 5300
FROM_SUBNET, FROM_SPECIFIC, FROM_GATEWAY = 5301, 5302, 5303
BOUND_SPECIFIC, BOUND_GATEWAY = 5304, 5305
MARKED, LOCAL_SCOPE, FROM_VIPA, NOT_BARE = 5306, 5307, 5308, 5309
UNBOUND, BOUND, AFTER_BOUND = 5310, 5311, 5312
FIRST_ENTRY, LAST_ENTRY = 5320, 5379
LAN, TUNNEL, KILL, DIRECT = 5380, 5385, 5390, LAST_PRIORITY

LOCAL_DESTINATIONS = {
    INET: ("224.0.0.0/4", "255.255.255.255/32", "169.254.0.0/16"),
    INET6: ("ff00::/8", "fe80::/10"),
}


class Action(StrEnum):
    """What becomes of packets that a `[[capture]]` entry matches."""

    TUNNEL = "tunnel"
    DIRECT = "direct"


class Capture(Struct, frozen=True):
    """One `[[capture]]` entry; the first that matches decides, and what none matches is captured."""

    match: Match
    action: Action
    uids: tuple[int, int] | None = None


def network_rules(family: int, address: str, interface: str, table: int) -> list[Rule]:
    """Lead packets from a network's address, and sockets bound to its interface, to its own gateway."""
    source = _host(address)
    return [
        Rule(family=family, priority=FROM_SUBNET, do=Do.LOOKUP, target=table, only_specific=True, source=source),
        Rule(family=family, priority=FROM_SPECIFIC, do=Do.LOOKUP, target=MAIN_TABLE, only_specific=True, source=source),
        Rule(family=family, priority=FROM_GATEWAY, do=Do.LOOKUP, target=table, source=source),
        Rule(
            family=family,
            priority=BOUND_SPECIFIC,
            do=Do.LOOKUP,
            target=MAIN_TABLE,
            only_specific=True,
            outgoing=interface,
        ),
        Rule(family=family, priority=BOUND_GATEWAY, do=Do.LOOKUP, target=table, outgoing=interface),
    ]


def is_network_rule(rule: Rule) -> bool:
    """Say whether a rule belongs to a network and not to the capture."""
    return FROM_SUBNET <= rule.priority <= BOUND_GATEWAY


def capture_rules(
    family: int, vipa: str | None, captures: Sequence[Capture], inner: Iterable[str], *, kill_switch: bool
) -> list[Rule]:
    """Lead what is to be captured to the capture table, all else on to the owner's own rules."""
    rules = [
        Rule(family=family, priority=INNER, do=Do.LOOKUP, target=CAPTURE_TABLE, destination=_host(address))
        for address in inner
        if family_of(address) == family
    ]
    rules.append(Rule(family=family, priority=MARKED, do=Do.GOTO, target=DIRECT, marked=True))
    rules += [
        Rule(family=family, priority=LOCAL_SCOPE, do=Do.GOTO, target=DIRECT, destination=prefix)
        for prefix in LOCAL_DESTINATIONS[family]
    ]
    if vipa is not None:
        source = _host(vipa)
        rules += [
            Rule(family=family, priority=FROM_VIPA, do=Do.LOOKUP, target=CAPTURE_TABLE, source=source),
            Rule(family=family, priority=NOT_BARE, do=Do.UNREACHABLE, source=source),
        ]
    rules += _bound_rules(family)
    rules += _entry_rules(family, captures)
    rules += [
        Rule(family=family, priority=LAN, do=Do.LOOKUP, target=MAIN_TABLE, only_specific=True),
        Rule(family=family, priority=TUNNEL, do=Do.LOOKUP, target=CAPTURE_TABLE),
        Rule(family=family, priority=DIRECT, do=Do.NOP),
    ]
    if kill_switch:
        rules.append(Rule(family=family, priority=KILL, do=Do.UNREACHABLE))
    return rules


def _bound_rules(family: int) -> list[Rule]:
    if family == INET6:
        # A lookup without source meets no rule that has one (fib6_rule_match), so two halves are "any source".
        return [
            Rule(family=family, priority=BOUND, do=Do.GOTO, target=DIRECT, incoming="lo", source=half)
            for half in ("::/1", "8000::/1")
        ]
    return [
        Rule(family=family, priority=UNBOUND, do=Do.GOTO, target=AFTER_BOUND, incoming="lo", source="0.0.0.0/32"),
        Rule(family=family, priority=BOUND, do=Do.GOTO, target=DIRECT, incoming="lo"),
        Rule(family=family, priority=AFTER_BOUND, do=Do.NOP),
    ]


def _entry_rules(family: int, captures: Sequence[Capture]) -> list[Rule]:
    """Lay out the entries one below the other. Neighbours that do the same share their priorities."""
    rules: list[Rule] = []
    priority, shared = FIRST_ENTRY, ""
    for number, capture in enumerate(captures, 1):
        where = f"[[capture]] entry {number}"
        terms = _terms(capture, family, where)
        if terms is None:
            continue
        positive, negated = terms
        kind = _kind(capture)
        if rules and (negated or kind != shared):
            priority += 4
        if priority + 3 > LAST_ENTRY:
            raise ConfigError(where, "the capture list needs more rules than there is room for", _FEWER)
        # A packet that meets what the entry excludes jumps over it.
        rules += [_entry(family, priority, Do.GOTO, priority + 3, positive | term) for term in negated]
        if negated:
            rules.append(Rule(family=family, priority=priority + 3, do=Do.NOP))
        if kind == "tunnel but the LAN":
            rules.append(_entry(family, priority + 1, Do.LOOKUP, MAIN_TABLE, positive | {"only_specific": True}))
        if kind == "direct":
            rules.append(_entry(family, priority + 2, Do.GOTO, DIRECT, positive))
        else:
            rules.append(_entry(family, priority + 2, Do.LOOKUP, CAPTURE_TABLE, positive))
        shared = "" if negated else kind
    return rules


_FEWER = "Order it so that entries with the same action stand together, and avoid '!'"


def _kind(capture: Capture) -> str:
    if capture.action is Action.DIRECT:
        return "direct"
    # Whoever names a destination means it, be it on the LAN; a mere protocol or port does not take the LAN in.
    return "tunnel but the LAN" if capture.match.destination is None else "tunnel"


def _entry(family: int, priority: int, do: Do, target: int, selectors: dict[str, Any]) -> Rule:
    return Rule(family=family, priority=priority, do=do, target=target, **selectors)


def _terms(capture: Capture, family: int, where: str) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
    """Return the selectors to meet and those not to meet; None when no packet of this family can match."""
    positive: dict[str, Any] = {} if capture.uids is None else {"uids": capture.uids}
    negated: list[dict[str, Any]] = []
    for name in ("protocol", "source", "destination", "source_ports", "destination_ports"):
        term: Term | None = getattr(capture.match, name)
        if term is None:
            continue
        selector = _selector(name, term, family, where)
        if selector is None:
            if not term.negated:
                return None
        elif not term.negated:
            positive |= selector
        elif not selector:
            return None
        else:
            negated.append(selector)
    return positive, negated


def _selector(name: str, term: Term, family: int, where: str) -> dict[str, Any] | None:
    """Return one term as a rule's selector, {} when all packets meet it, None when none of this family does."""
    if name == "protocol":
        number = int(term.value)
        return None if number == {INET: ICMPV6, INET6: ICMP}[family] else {"protocol": number}
    if name in ("source", "destination"):
        prefix = ipaddress.ip_network(term.value)
        if (INET if prefix.version == 4 else INET6) != family:
            return None
        return {} if prefix.prefixlen == 0 else {name: str(prefix)}
    first, last = (int(port) for port in term.value.split(":"))
    if last == 0:
        raise ConfigError(where, "a routing rule can't match port 0", "Name ports from 1 to 65535")
    return {name: (max(first, 1), last)}


def _host(address: str) -> str:
    return f"{address}/{32 if family_of(address) == INET else 128}"


def family_of(address: str) -> int:
    """Return the address family as netlink numbers it."""
    return INET if ipaddress.ip_address(address).version == 4 else INET6
