"""Whom a policy about peers speaks of: `peer = "alice"`, or `via = "peer"` for all of them.

A peer is known by its home address, so this is a destination, and nothing else of the language knows about it. A flow
with a peer goes by rendezvous nodes whatever a policy says, as no anchor can reach a home address: such a policy says
which of these flows it is about, over which networks they may go, and what their private identifiers are for.
"""

import difflib
import ipaddress
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from sojourn.model import HOMES
from sojourn.policy.rules import Subject, Via
from sojourn.policy.values import Bad, explained, strings

_ALL = ipaddress.IPv6Network(HOMES)


def narrowed(table: Mapping[str, Any], subject: Subject, peers: Mapping[str, str]) -> Subject:
    """Return the subject of a table, of peers alone if that speaks of peers. `peers`: home addresses by name.

    Raises Bad with every mistake.
    """
    via, given = table.get("via"), table.get("peer")
    if given is None and via != Via.PEER:
        return subject
    if given is None:
        return _within(subject) if subject.destinations or subject.names else _of(subject, HOMES)
    if via is not None and via != Via.PEER:
        raise Bad([("via", "leads to no peer, and the policy is about one", 'Write via = "peer", or leave it out.')])
    if subject.destinations or subject.names:
        raise Bad([("destination", "stands beside `peer`, which is one", "Remove one of the two.")])
    try:
        names = strings(given)
    except ValueError as error:
        raise Bad([("peer", *explained(error))]) from error
    unknown = [name for name in names if name != "*" and name not in peers]
    if unknown:
        near = difflib.get_close_matches(unknown[0], peers, 1)
        fix = f"Did you mean {near[0]!r}?" if near else "`sojourn peers` shows their names; `*` is every peer."
        raise Bad([("peer", f"no peer is called {unknown[0]!r}", fix)])
    return _of(subject, *(HOMES if name == "*" else f"{peers[name]}/128" for name in names))


def _of(subject: Subject, *networks: str) -> Subject:
    return replace(subject, destinations=tuple(dict.fromkeys(networks)))


def _within(subject: Subject) -> Subject:
    """Let home addresses be a destination, and nothing else: a name may mean any address some day."""
    for text in subject.destinations:
        network = ipaddress.ip_network(text)
        if not isinstance(network, ipaddress.IPv6Network) or not network.subnet_of(_ALL):
            fix = f'Those are in {HOMES}; or write peer = "NAME".'
            raise Bad([("destination", f"{text} is no peer's", fix)])
    if subject.names:
        raise Bad([("destination", f"{subject.names[0]!r} is no home address", 'Write peer = "NAME".')])
    return subject
