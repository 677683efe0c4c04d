"""Who may reach what through the SOCKS proxy. Asked with the very address that is called, after names were resolved."""

import ipaddress
from collections.abc import Iterable
from typing import Final

from sojourn.control.socks_config import SocksConfig, SocksRule

DISGUISED: Final = ("::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16", "fec0::/10", "192.0.0.0/24")
"""To be closed like private networks: behind IPv4-compatible addresses (RFC 4291 §2.5.5.1), a local translator's (RFC
8215), Teredo's and 6to4's (RFC 4380, 3056) may be a private one; site-local (RFC 3879); protocols' own (RFC 6890)."""

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
Net = ipaddress.IPv4Network | ipaddress.IPv6Network


class Access:
    """The rules of one proxy."""

    def __init__(
        self, config: SocksConfig, refused: Iterable[str], own: Iterable[str], allowed: Iterable[str] = ()
    ) -> None:
        """`refused` are private networks, `own` this machine's addresses: both closed unless allowed by name."""
        self._rules = [(rule, _networks(rule.to), [_span(ports) for ports in rule.ports]) for rule in config.rules]
        self._allowed = _networks([*config.allow, *allowed])
        self._refused = _networks([*config.refuse])
        self._private = _networks(refused)
        self._own = frozenset(ipaddress.ip_address(address.partition("%")[0]) for address in own)
        self._anonymous = _networks(config.anonymous)
        self._passwords = config.passwords

    def may(self, user: str, address: str, port: int) -> bool:
        """Say whether this user may reach this address."""
        ip = _plain(ipaddress.ip_address(address.partition("%")[0]))
        for rule, networks, spans in self._rules:
            if _fits(rule, user) and _within(ip, networks, True) and _spans(port, spans):
                return rule.action == "allow"
        if _within(ip, self._refused, False):
            return False
        if _within(ip, self._allowed, False):
            return True
        return ip not in self._own and not _within(ip, self._private, False) and not ip.is_unspecified

    def anonymous(self, source: str) -> bool:
        """Say whether a client from there needs no login."""
        return _within(_plain(ipaddress.ip_address(source.partition("%")[0])), self._anonymous, False)

    def password(self, source: str, tunnels: Iterable[str]) -> bool:
        """Say whether a client from there may send a password; `tunnels` are the networks of hosts' addresses."""
        if self._passwords != "local":
            return self._passwords == "anywhere"
        ip = _plain(ipaddress.ip_address(source.partition("%")[0]))
        return ip.is_loopback or _within(ip, _networks(tunnels), False)


def _plain(ip: Ip) -> Ip:
    """Return the IPv4 address that an IPv4-mapped one means: who dials ::ffff:10.0.0.1 reaches 10.0.0.1."""
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return mapped if mapped is not None else ip


def _fits(rule: SocksRule, user: str) -> bool:
    return not rule.user or user in rule.user


def _within(ip: Ip, networks: list[Net], without: bool) -> bool:
    return any(ip in network for network in networks) if networks else without


def _spans(port: int, spans: list[tuple[int, int]]) -> bool:
    return not spans or any(low <= port <= high for low, high in spans)


def _networks(texts: Iterable[str]) -> list[Net]:
    return [ipaddress.ip_network(text, strict=False) for text in texts]


def _span(text: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    return int(low), int(high or low)
