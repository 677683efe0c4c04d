"""Sojourn's own nftables tables, each replaced in one transaction; no other table is touched.

The texts are pure functions of their rules; `set_*` and `remove_*` hand them to nft(8), which takes some 5 ms.
"""

import errno
import ipaddress
import subprocess
from collections.abc import Iterable

from msgspec import Struct

from sojourn.errors import ConfigError, NotSupported
from sojourn.linux.numbers import MARK, MARK_MASK, PLACEHOLDER6

ANCHOR_TABLE = "sojourn_anchor"
HOST_TABLE = "sojourn_host"
HELD_TABLE = "sojourn_held"

UDP_IDLE = 3600
TCP_WAITING = 86400
"""Seconds that the anchor's NAT remembers a flow of a host that is away (ours; DESIGN, Anchor NAT).

The kernel's are 30 s or 120 s for UDP, and 300 s for TCP with data that nobody acknowledges. TCP that is
idle keeps the kernel's own 5 days.
"""
UDP_UNANSWERED = 30
"""The kernel's own, for datagrams to a forwarded port that the host has not answered yet: anybody can send them."""
NFT_SECONDS = 30


class PortForward(Struct, frozen=True):
    """`sojourn expose tcp/22 --as 2222` of the host with this Vipa (IPv4 or IPv6)."""

    protocol: str
    """tcp or udp."""
    port: int
    vipa: str
    public_port: int


class AnchorRules(Struct, frozen=True):
    """What an anchor's table is made from."""

    device: str
    pool: str
    uplink: str
    pool6: str | None = None
    snat: str | None = None
    """The uplink's static IPv4 address; None = masquerade, which forgets its flows when the uplink goes down."""
    snat6: str | None = None
    nat6: bool = True
    """False: the pool is a prefix that is routed to this anchor."""
    forwards: tuple[PortForward, ...] = ()
    isolate: bool = True
    """Hosts do not reach each other."""


class HostRules(Struct, frozen=True):
    """What a mobile host's table is made from."""

    device: str
    vipa: str
    vipa6: str | None = None
    resolver: str | None = None
    """Port 53 goes here through the tunnel (it must be among `inner` of HostRouting.up); None = DNS is left alone."""


def anchor_text(rules: AnchorRules) -> str:
    """Return the anchor's table as nft reads it.

    "flush table" takes the rules only. The time-outs stay as they are: deleting one would
    take it from the flows that have it (nft_ct_timeout_obj_destroy).
    """
    return f"""
add table inet {ANCHOR_TABLE}
flush table inet {ANCHOR_TABLE}
table inet {ANCHOR_TABLE} {{
{_time_outs("ip")}
{_time_outs("ip6")}
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    {_lines(_forward_nat(rules, forward) for forward in rules.forwards)}
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    {_lines(_source_nat(rules))}
  }}
  chain time_outs {{
    {_lines(_time_out_rules("udp"))}
  }}
  chain called {{
    {_lines(_time_out_rules("called"))}
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    {_lines(_forwarding(rules))}
  }}
}}
"""


def host_text(rules: HostRules) -> str:
    """Return the host's table as nft reads it."""
    return f"""
add table inet {HOST_TABLE}
flush table inet {HOST_TABLE}
table inet {HOST_TABLE} {{
  chain redirect_dns {{
    type nat hook output priority -100; policy accept;
    {_lines(_dns(rules))}
  }}
  chain dns_source {{
    type nat hook postrouting priority srcnat; policy accept;
    {_lines(_dns_source(rules))}
  }}
}}
"""


HELD_TEXT = f"""
add table inet {HELD_TABLE}
flush table inet {HELD_TABLE}
table inet {HELD_TABLE} {{
  chain output {{
    type filter hook output priority filter; policy accept;
    ip6 saddr {PLACEHOLDER6} meta l4proto tcp reject with tcp reset
    ip6 saddr {PLACEHOLDER6} reject with icmpv6 type no-route
  }}
}}
"""
"""IPv6 under a kill switch without vipa6: applications are told at once, and take IPv4."""


def set_anchor(rules: AnchorRules) -> None:
    """Replace the anchor's table. Flows keep their translations and time-outs."""
    run(anchor_text(rules))


def set_host(rules: HostRules) -> None:
    """Replace the host's table."""
    run(host_text(rules))


def set_held() -> None:
    """Answer IPv6 that the kill switch holds back (linux/capture.py) instead of leaving it unanswered."""
    run(HELD_TEXT)


def remove_held() -> bool:
    """Remove that table; say whether it was there."""
    return remove(HELD_TABLE)


def remove_anchor() -> bool:
    """Remove the anchor's table; say whether it was there."""
    return remove(ANCHOR_TABLE)


def remove_host() -> bool:
    """Remove the host's table; say whether it was there."""
    return remove(HOST_TABLE)


def remove(table: str) -> bool:
    """Remove one of our tables (family inet); say whether it was there."""
    if not is_there(table):
        return False
    run(f"delete table inet {table}\n")
    return True


def is_there(table: str) -> bool:
    """Say whether a table of family inet is there: others' "flush ruleset" takes ours, too."""
    return f"table inet {table}" in run("list tables inet\n").splitlines()


def run(text: str, *, only_check: bool = False, as_json: bool = False) -> str:
    """Carry out one transaction and return what nft printed; OSError with its complaint when it refuses."""
    options = [*(["-c"] if only_check else []), *(["-j"] if as_json else [])]
    try:
        done = subprocess.run(
            ["nft", *options, "-f", "-"], input=text, text=True, capture_output=True, timeout=NFT_SECONDS, check=False
        )
    except FileNotFoundError as error:
        raise NotSupported("nftables", "the command nft: apt install nftables") from error
    if done.returncode != 0:
        complaint = done.stderr.strip()
        raise OSError(errno.EPERM if "not permitted" in complaint else errno.EINVAL, f"nft: {complaint}")
    return done.stdout


def _time_outs(family: str) -> str:
    return f"""  ct timeout udp_{family} {{
    protocol udp; l3proto {family}; policy = {{ unreplied : {UDP_IDLE}, replied : {UDP_IDLE} }};
  }}
  ct timeout called_{family} {{
    protocol udp; l3proto {family}; policy = {{ unreplied : {UDP_UNANSWERED}, replied : {UDP_IDLE} }};
  }}
  ct timeout tcp_{family} {{
    protocol tcp; l3proto {family}; policy = {{ retrans : {TCP_WAITING}, unack : {TCP_WAITING} }};
  }}"""


def _forward_nat(rules: AnchorRules, forward: PortForward) -> str:
    family, address = _family(forward.vipa)
    if family == "ip6":
        if not rules.nat6 and forward.port == forward.public_port:
            return ""  # reached at its own address
        address = f"[{address}]"
    return (
        f"iifname != {_name(rules.device)} meta nfproto {_nfproto(family)} fib daddr type local "
        f"{_transport(forward)} dport {forward.public_port:d} dnat {family} to {address}:{forward.port:d}"
    )


def _source_nat(rules: AnchorRules) -> list[str]:
    device, uplink = _name(rules.device), _name(rules.uplink)
    lines = []
    for pool, address in ((rules.pool, rules.snat), (rules.pool6 if rules.nat6 else None, rules.snat6)):
        if pool is None:
            continue
        family, prefix = _family(pool)
        if address is not None:
            lines.append(f"{family} saddr {prefix} oifname {uplink} snat {family} to {_family(address)[1]}")
        lines.append(f"{family} saddr {prefix} oifname != {device} masquerade")
    return lines


def _time_out_rules(udp: str) -> list[str]:
    return [
        f'meta nfproto {_nfproto(family)} meta l4proto {protocol} ct timeout set "{policy}_{family}"'
        for family in ("ip", "ip6")
        for protocol, policy in (("tcp", "tcp"), ("udp", udp))
    ]


def _forwarding(rules: AnchorRules) -> list[str]:
    device = _name(rules.device)
    between = f"iifname {device} oifname {device}"
    lines = [
        # All below is about a flow's first packet: for each further one it would be an eighth of what it costs here,
        # also where nobody ever answers. What is translated is never between two hosts, so no names are compared.
        "ct status snat accept",
        "ct state established ct status dnat accept",
        *([f"{between} counter drop"] if rules.isolate else []),
        "ct state established accept",
        f"iifname {device} ct state new jump time_outs",
        f"oifname {device} ct state new jump called",
    ]
    # What belongs to no connection is not translated: it would show the correspondent a Vipa.
    lines.append(f"iifname {device} ct state invalid counter drop")
    lines.append(f"iifname {device} ip saddr != {_family(rules.pool)[1]} counter drop")
    if rules.pool6 is None:
        lines.append(f"iifname {device} meta nfproto ipv6 counter drop")
    else:
        lines.append(f"iifname {device} ip6 saddr != {_family(rules.pool6)[1]} counter drop")
    lines += [
        *([] if rules.isolate else [f"{between} accept"]),
        f"oifname {device} ct state related accept",
        f"oifname {device} ct status dnat accept",
    ]
    for forward in rules.forwards:
        family, address = _family(forward.vipa)
        if family == "ip6" and not rules.nat6:
            lines.append(f"oifname {device} ip6 daddr {address} {_transport(forward)} dport {forward.port:d} accept")
    # A neighbour of the anchor could send to a Vipa directly.
    lines.append(f"oifname {device} counter drop")
    return lines


def _dns(rules: HostRules) -> list[str]:
    if rules.resolver is None:
        return []
    family, address = _family(rules.resolver)
    local = "127.0.0.0/8" if family == "ip" else "::1"
    return [
        # Our own look-ups on a network, before there is a tunnel.
        f"meta mark & {MARK_MASK:#x} == {MARK:#x} return",
        f"{family} daddr {local} return",
        f"meta nfproto {_nfproto(family)} meta l4proto {{ tcp, udp }} th dport 53 dnat {family} to {address}",
    ]


def _dns_source(rules: HostRules) -> list[str]:
    """Give redirected queries our source: theirs was chosen for the resolver that the application meant."""
    if rules.resolver is None:
        return []
    family, _ = _family(rules.resolver)
    vipa = rules.vipa if family == "ip" else rules.vipa6
    if vipa is None:
        return []
    return [f"oifname {_name(rules.device)} {family} saddr != {vipa} ct status dnat snat {family} to {vipa}"]


def _transport(forward: PortForward) -> str:
    if forward.protocol not in ("tcp", "udp"):
        raise ConfigError("expose", f"{forward.protocol!r} has no ports to forward", "Name tcp/PORT or udp/PORT")
    return forward.protocol


def _family(text: str) -> tuple[str, str]:
    """Return nft's name of the family, and the address or prefix in canonical form."""
    parsed = ipaddress.ip_network(text) if "/" in text else ipaddress.ip_address(text)
    return ("ip" if parsed.version == 4 else "ip6"), str(parsed)


def _nfproto(family: str) -> str:
    return {"ip": "ipv4", "ip6": "ipv6"}[family]


def _name(interface: str) -> str:
    if not interface or len(interface) > 15 or not all(char.isalnum() or char in "-_.:@" for char in interface):
        raise ConfigError("interface", f"{interface!r} is no name of an interface", "See `ip link` for those there are")
    return f'"{interface}"'


def _lines(lines: Iterable[str]) -> str:
    return "\n    ".join(line for line in lines if line)
