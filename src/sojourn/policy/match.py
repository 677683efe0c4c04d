"""A match on flows in iptables syntax, as HandoverRequest (paper, Fig. 9) and `[[capture]]` write it.

    -p tcp -destination 160.80.81.1 -destination-port 80        the paper's form
    -p udp ! -d 10.0.0.0/8 --dport 5000:5100                    iptables' own

A match speaks of packets as the mobile host sends them: source = the host's side.
"""

import ipaddress
import shlex
from collections.abc import Callable

from msgspec import Struct

from sojourn.errors import RemoteProtocolError
from sojourn.model import Flow

PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "ipv6-icmp": 58, "sctp": 132, "esp": 50, "gre": 47}
SERVICES = {"domain": 53, "ssh": 22, "http": 80, "https": 443, "ntp": 123, "smtp": 25, "imaps": 993, "sip": 5060}
MAX_MATCH_BYTES = 512


class Term(Struct, frozen=True):
    """One condition: a value that must, or with `negated` must not, be met."""

    value: str
    negated: bool = False


class Match(Struct, frozen=True):
    """A conjunction of terms; an absent one is met by every flow. Ports as "80" or "5000:5100"."""

    protocol: Term | None = None
    source: Term | None = None
    destination: Term | None = None
    source_ports: Term | None = None
    destination_ports: Term | None = None


_OPTIONS = {
    "p": "protocol", "protocol": "protocol",
    "s": "source", "src": "source", "source": "source",
    "d": "destination", "dst": "destination", "destination": "destination",
    "sport": "source_ports", "source-port": "source_ports", "sports": "source_ports", "source-ports": "source_ports",
    "dport": "destination_ports", "destination-port": "destination_ports", "dports": "destination_ports",
    "destination-ports": "destination_ports",
}  # fmt: skip


def parse(text: str) -> Match:
    """Read iptables options (one dash or two); raise RemoteProtocolError for anything else."""
    if len(text) > MAX_MATCH_BYTES:
        raise RemoteProtocolError("match is too long", reason="match")
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise RemoteProtocolError(f"match has an open quote: {text!r}", reason="match") from error
    terms: dict[str, Term] = {}
    negated = False
    rest = iter(words)
    for word in rest:
        if word == "!":
            negated = True
            continue
        option = word.lstrip("-")
        if word.startswith("-") and option in {"m", "match", "j", "jump"}:
            next(rest, None)
            continue
        name = _OPTIONS.get(option) if word.startswith("-") else None
        value = next(rest, None)
        if value == "!":
            negated, value = True, next(rest, None)
        if name is None or value is None or name in terms:
            raise RemoteProtocolError(f"match has no meaning at {word!r}: {text!r}", reason="match")
        terms[name] = Term(_canonical(name, value), negated)
        negated = False
    return Match(**terms)


_WRITTEN = {
    "protocol": "-p", "source": "-s", "destination": "-d", "source_ports": "--sport", "destination_ports": "--dport",
}  # fmt: skip


def write(match: Match) -> str:
    """Return the iptables options that `parse` reads back as the same match."""
    words: list[str] = []
    for name, option in _WRITTEN.items():
        term: Term | None = getattr(match, name)
        if term is not None:
            words += ["!", option, term.value] if term.negated else [option, term.value]
    return " ".join(words)


def _canonical(name: str, value: str) -> str:
    try:
        if name == "protocol":
            number = PROTOCOLS.get(value.lower())
            return str(number if number is not None else _bounded(value, 255))
        if name in {"source", "destination"}:
            return str(ipaddress.ip_network(value, strict=False))
        low, colon, high = value.partition(":")
        first = _port(low) if low else 0
        last = (_port(high) if high else 65535) if colon else first
        if first > last:
            raise ValueError(value)
        return f"{first}:{last}"
    except ValueError as error:
        raise RemoteProtocolError(f"match has a bad {name.replace('_', ' ')}: {value!r}", reason="match") from error


def _port(word: str) -> int:
    service = SERVICES.get(word)
    return service if service is not None else _bounded(word, 65535)


def _bounded(word: str, limit: int) -> int:
    if not word.isascii() or not word.isdigit() or int(word) > limit:
        raise ValueError(word)
    return int(word)


def covers(match: Match, flow: Flow) -> bool:
    """Say whether a flow meets every term of the match."""
    return (
        _meets(match.protocol, lambda value: int(value) == flow.protocol)
        and _meets(match.source, lambda value: _inside(flow.local.address, value))
        and _meets(match.destination, lambda value: _inside(flow.remote.address, value))
        and _meets(match.source_ports, lambda value: _between(flow.local.port, value))
        and _meets(match.destination_ports, lambda value: _between(flow.remote.port, value))
    )


def _meets(term: Term | None, test: Callable[[str], bool]) -> bool:
    return term is None or test(term.value) is not term.negated


def _inside(address: str, network: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(network)


def _between(port: int, ports: str) -> bool:
    first, _, last = ports.partition(":")
    return int(first) <= port <= int(last)
