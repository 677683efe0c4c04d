"""What a machine's own firewall would do to Sojourn's packets, read from nftables; it is never changed.

An "accept" in one table is no help against a "drop" in another: every chain of a hook has its say.
So only the owner's own firewall can let a packet through, and the remedy names its own command.
"""

import json
from typing import Any

from msgspec import Struct

from sojourn.linux import nft

OURS = frozenset({nft.ANCHOR_TABLE, nft.HOST_TABLE, nft.HELD_TABLE})

LISTING = '{"nftables": [{"list": {"ruleset": null}}]}'


class Barrier(Struct, frozen=True):
    """A chain that drops or rejects what none of its rules accepts."""

    family: str
    table: str
    chain: str
    hook: str
    words: frozenset[str]
    ranges: frozenset[tuple[int, int]]
    """What the rules of its table name and number, to see whether something of ours is among it."""

    @property
    def manager(self) -> str:
        """Who made it, as far as the names tell: ufw, firewalld, docker, or nft itself."""
        if self.table == "firewalld":
            return "firewalld"
        if any(word.startswith("ufw-") for word in self.words):
            return "ufw"
        return "docker" if any(word.startswith("DOCKER") for word in self.words) else "nft"

    def names(self, interface: str) -> bool:
        """Say whether a rule of the table speaks of this interface."""
        return interface in self.words

    def numbers(self, port: int) -> bool:
        """Say whether a rule of the table speaks of this port."""
        return any(first <= port <= last for first, last in self.ranges)


def barriers(listing: dict[str, Any]) -> list[Barrier]:
    """Find them in what `nft -j list ruleset` prints."""
    entries = listing["nftables"]
    rules = [entry["rule"] for entry in entries if "rule" in entry]
    found = []
    for chain in (entry["chain"] for entry in entries if "chain" in entry):
        if chain.get("hook") not in ("input", "forward") or chain["table"] in OURS:
            continue
        own = [rule for rule in rules if _same(rule, chain) and rule["chain"] == chain["name"]]
        if chain.get("policy") == "drop" or (own and _stops_everything(own[-1])):
            words, ranges = _leaves([rule["expr"] for rule in rules if _same(rule, chain)])
            found.append(Barrier(chain["family"], chain["table"], chain["name"], chain["hook"], words, ranges))
    return found


def present_barriers() -> list[Barrier]:
    """Find them on this machine. OSError without permission."""
    return barriers(json.loads(nft.run(LISTING, as_json=True)))


def forward_remedy(barrier: Barrier, device: str) -> str:
    """Say how the owner of a forward chain lets a device's packets through."""
    return {
        "ufw": f"ufw route allow in on {device}; ufw route allow out on {device}",
        "firewalld": f"firewall-cmd --permanent --zone=trusted --add-interface={device}; firewall-cmd --reload",
        "docker": f"iptables -I DOCKER-USER -i {device} -j ACCEPT; iptables -I DOCKER-USER -o {device} -j ACCEPT",
        "nft": "; ".join(
            f"nft insert rule {barrier.family} {barrier.table} {barrier.chain} {side} {device} accept"
            for side in ("iifname", "oifname")
        ),
    }[barrier.manager]


def input_remedy(barrier: Barrier, port: int, protocol: str) -> str:
    """Say how the owner of an input chain opens a port."""
    return {
        "ufw": f"ufw allow {port}/{protocol}",
        "firewalld": f"firewall-cmd --permanent --add-port={port}/{protocol}; firewall-cmd --reload",
    }.get(
        barrier.manager,
        f"nft insert rule {barrier.family} {barrier.table} {barrier.chain} {protocol} dport {port} accept",
    )


def _same(rule: dict[str, Any], chain: dict[str, Any]) -> bool:
    return bool(rule["table"] == chain["table"] and rule["family"] == chain["family"])


def _leaves(value: object) -> tuple[frozenset[str], frozenset[tuple[int, int]]]:
    """Collect the words and the numbers in some rules' expressions; a range of numbers counts whole."""
    if isinstance(value, dict):
        bounds = value.get("range")
        if isinstance(bounds, list) and all(isinstance(bound, int) for bound in bounds):
            return frozenset(), frozenset({(bounds[0], bounds[1])})
        value = [item for pair in value.items() for item in pair]
    if isinstance(value, list):
        parts = [_leaves(item) for item in value]
        return frozenset().union(*(words for words, _ in parts)), frozenset().union(*(found for _, found in parts))
    if isinstance(value, str):
        return frozenset({value}), frozenset()
    return frozenset(), frozenset({(value, value)} if isinstance(value, int) else ())


def _stops_everything(rule: dict[str, Any]) -> bool:
    """Say whether a rule without a condition drops or rejects."""
    statements = [next(iter(statement)) for statement in rule["expr"] if "counter" not in statement]
    return statements in (["drop"], ["reject"])
