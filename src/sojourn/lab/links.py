"""An access network: the mobile host's interface, the NAT box behind it, and all that can go wrong there.

Rate is a token bucket (TBF) on both faces of the NAT box; loss, silence and forgetfulness are nftables rules in it;
delay and jitter are a relay process in the place of its outer cable (relay.py), only where a network asks for it.
A change is one nftables transaction or one netlink request, so that its moment is sharp.
"""

import math
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from sojourn.lab import namespaces
from sojourn.lab.namespaces import LabError

LOSS_STEPS = 10_000
"""Resolution of a loss rate: nftables draws a number below this for each packet."""
BURST_BYTES = 64 * 1024
QUEUE_MS = 60
"""How long a shaped link's queue may grow before it drops (a home router's order of magnitude)."""

# linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h
NETLINK_NETFILTER = 12
CTNETLINK_DELETE = 1 << 8 | 2
NLM_F_REQUEST_ACK = 0x5


class AccessNetwork(Struct, frozen=True):
    """How an access network is made. The interface at the mobile host has the network's name."""

    name: str
    address: str
    gateway: str
    public: str
    address6: str
    gateway6: str
    public6: str
    ipv4: bool = True
    ipv6: bool = False
    """IPv6 is routed, not translated; the box's firewall lets only answers in."""
    rate_mbit: float | None = None
    delay_ms: float = 0.0
    """One way, each way."""
    jitter_ms: float = 0.0
    relayed: bool = False
    """Whether the link can be delayed at all (a relay costs throughput)."""


class Quality(Struct, frozen=True):
    """What the NAT box does to packets at the moment."""

    loss_out: float = 0.0
    loss_in: float = 0.0
    silent: bool = False
    forgets_after: float | None = None
    """Seconds after a mapping's last *outgoing* packet for which incoming ones still pass; None: conntrack's way."""


def firewall(translation: str = "masquerade") -> str:
    """Return the rules of a home router: what goes out is translated, what comes in must be an answer.

    A `translation` with ports in it is for protocols that have ports; the others are masqueraded.
    """
    return f"""
        table inet lab_nat
        delete table inet lab_nat
        table inet lab_nat {{
            chain translate {{
                type nat hook postrouting priority srcnat
                oifname "out" meta nfproto ipv4 {translation}
                oifname "out" meta nfproto ipv4 masquerade
            }}
            chain pass {{
                type filter hook forward priority filter
                ct state established,related accept
                iifname "out" ct state new,invalid drop
            }}
            chain own {{
                type filter hook input priority filter
                ct state established,related accept
                meta l4proto 58 accept
                iifname "out" ip protocol != icmp drop
            }}
        }}
    """


def rules_of(quality: Quality) -> str:
    """Return the nftables table that gives a link this quality."""
    rules = ["icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept"]
    if quality.silent:
        rules.append("drop")
    for face, loss in (("in", quality.loss_out), ("out", quality.loss_in)):
        if loss > 0:
            limit = min(LOSS_STEPS, max(1, round(loss * LOSS_STEPS)))
            rules.append(f'iifname "{face}" numgen random mod {LOSS_STEPS} < {limit} drop')
    memory = forget = ""
    if quality.forgets_after is not None:
        seconds = math.ceil(quality.forgets_after)
        memory = f"set seen {{ type ipv4_addr . inet_service; flags timeout; timeout {seconds}s; }}"
        forget = """
            chain forget {
                type filter hook forward priority -10
                iifname "in" meta l4proto udp update @seen { ip saddr . udp sport }
                iifname "out" meta l4proto udp ip daddr . udp dport != @seen drop
            }
        """
    chain = "\n".join(rules)
    return f"""
        table inet lab_link
        delete table inet lab_link
        table inet lab_link {{
            {memory}
            chain quality {{
                type filter hook prerouting priority -400
                {chain}
            }}
            {forget}
        }}
    """


class AccessLink:
    """The handle of one access network: everything that may happen to it."""

    def __init__(self, host: str, nat: str, index: int, network: AccessNetwork) -> None:
        self.host = host
        """Namespaces of the mobile host and of the NAT box."""
        self.nat = nat
        self.network = network
        self.metric = 100 * (index + 1)
        self.address = network.address
        self.gateway = network.gateway
        self.quality = Quality()
        self.relay_settings: Path | None = None
        self._rebindings = 0

    def build(self, core: str, core_interface: str, *, ipv6: bool) -> None:
        """Lay the cables and give the NAT box its rules. The outer cable's ends exist already."""
        network = self.network
        inner = [namespaces.cable("in", self.host, network.name), "link set in up"]
        outer, middle, end = ["link set out up"], [f"link set {core_interface} up"], []
        if network.ipv4:
            router = _router_of(network.public)
            inner.append(f"addr add {self.gateway}/24 dev in")
            outer += [f"addr add {network.public}/24 dev out", f"route add default via {router}"]
            middle.append(f"addr add {router}/24 dev {core_interface}")
            end.append(f"addr add {self.address}/24 dev {network.name}")
        if ipv6 and network.ipv6:
            router6 = f"{network.public6.rpartition('::')[0]}::fe"
            prefix = f"{network.address6.rpartition('::')[0]}::/64"
            inner.append(f"addr add {network.gateway6}/64 dev in nodad")
            outer += [f"addr add {network.public6}/64 dev out nodad", f"route add default via {router6}"]
            middle += [f"addr add {router6}/64 dev {core_interface} nodad", f"route add {prefix} via {network.public6}"]
            end.append(f"addr add {network.address6}/64 dev {network.name} nodad")
        namespaces.ip(core, middle)
        namespaces.ip(self.nat, [*inner, *outer])
        namespaces.ip(self.host, [f"link set {network.name} up", *end, *self._routes(ipv6=ipv6)])
        self._load(firewall())
        if network.rate_mbit is not None:
            self.set_rate(network.rate_mbit)

    def _routes(self, *, ipv6: bool = False) -> list[str]:
        name, routes = self.network.name, []
        if self.network.ipv4:
            routes.append(f"route replace default via {self.gateway} dev {name} metric {self.metric}")
        if ipv6 and self.network.ipv6:
            routes.append(f"route replace default via {self.network.gateway6} dev {name} metric {self.metric}")
        return routes

    def _load(self, rules: str) -> None:
        namespaces.run(self.nat, "nft", "-f", "-", stdin=rules)

    def _set(self, quality: Quality) -> None:
        self.quality = quality
        self._load(rules_of(quality))

    def set_loss(self, out: float, into: float | None = None) -> None:
        """Lose this share of packets leaving the host, and of those coming in (the same, if not given)."""
        self._set(msgspec.structs.replace(self.quality, loss_out=out, loss_in=out if into is None else into))

    def set_silent(self, silent: bool) -> None:
        """Drop everything and tell nobody: carrier, address and ARP stay as they are."""
        self._set(msgspec.structs.replace(self.quality, silent=silent))

    def set_forgetful(self, seconds: float | None) -> None:
        """Let the NAT forget a UDP mapping this long after its last outgoing packet, however much comes in."""
        self._set(msgspec.structs.replace(self.quality, forgets_after=seconds))

    def set_rate(self, mbit: float | None) -> None:
        """Limit the link in both directions, or lift the limit."""
        for face in ("in", "out"):
            if mbit is None:
                namespaces.run(self.nat, "tc", "qdisc", "del", "dev", face, "root", check=False)
            else:
                namespaces.run(
                    self.nat, "tc", "qdisc", "replace", "dev", face, "root", "tbf", "rate", f"{round(mbit * 1e6)}bit",
                    "burst", str(BURST_BYTES), "latency", f"{QUEUE_MS}ms",
                )  # fmt: skip

    def set_delay(self, delay_ms: float, jitter_ms: float = 0.0) -> None:
        """Delay each packet this long, each way, and up to `jitter_ms` more; LabError on a link without relay."""
        if self.relay_settings is None:
            raise LabError(f"network {self.network.name} has no relay: build it with relayed=True")
        scratch = self.relay_settings.with_suffix(".new")
        scratch.write_bytes(msgspec.json.encode({"delay_ms": delay_ms, "jitter_ms": jitter_ms}))
        scratch.replace(self.relay_settings)

    def set_carrier(self, present: bool) -> None:
        """Pull the cable (or leave the radio's range), or put it back: the host's interface loses its carrier."""
        namespaces.ip(self.nat, [f"link set in {'up' if present else 'down'}"])

    def leave(self) -> None:
        """Go away as under a network manager: no carrier, no address, no route."""
        namespaces.ip(self.nat, ["link set in down"])
        namespaces.ip(self.host, [f"addr flush dev {self.network.name}"])

    def arrive(self) -> None:
        """Be there (again): carrier, then address, then route, as a DHCP client brings them."""
        namespaces.ip(self.nat, ["link set in up"])
        self._address_and_route()

    def _address_and_route(self) -> None:
        ipv6 = self.network.ipv6
        name = self.network.name
        addresses = [f"addr replace {self.address}/24 dev {name}"] if self.network.ipv4 else []
        if ipv6:
            addresses.append(f"addr replace {self.network.address6}/64 dev {name} nodad")
        namespaces.ip(self.host, [*addresses, *self._routes(ipv6=ipv6)])

    def change_address(self, address: str) -> None:
        """Take the host's address away and give it another one of the same network."""
        namespaces.ip(self.host, [f"addr del {self.address}/24 dev {self.network.name}"])
        self.address = address
        self._address_and_route()

    def change_gateway(self, gateway: str) -> None:
        """Replace the gateway: another address and another hardware address; the old one is gone."""
        namespaces.ip(self.nat, [
            f"addr del {self.gateway}/24 dev in", f"link set in address {_hardware_address(gateway)}",
            f"addr add {gateway}/24 dev in",
        ])  # fmt: skip
        self.gateway = gateway
        namespaces.ip(self.host, self._routes())

    def rebind(self, *, public: str | None = None) -> None:
        """Forget all mappings of the NAT and make new ones with other ports, and on `public` if that is given."""
        self._rebindings += 1
        first = 20_000 + 1_000 * (self._rebindings % 40)
        ports = f"{first}-{first + 999}"
        if public is not None:
            namespaces.ip(self.nat, [f"addr replace {public}/24 dev out"])
            self._load(firewall(f"meta l4proto {{ tcp, udp }} snat ip to {public}:{ports}"))
        else:
            self._load(firewall(f"meta l4proto {{ tcp, udp }} masquerade to :{ports}"))
        self.forget_mappings()

    def forget_mappings(self) -> None:
        """Empty the NAT's table of connections, as a restarted router does."""
        flush_conntrack(self.nat)


def flush_conntrack(namespace: str) -> None:
    """Delete every conntrack entry of a namespace (what `conntrack -F` does, without needing that package)."""

    def flush() -> int:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as netlink:
            netlink.settimeout(5.0)
            netlink.send(struct.pack("=LHHLLBBH", 20, CTNETLINK_DELETE, NLM_F_REQUEST_ACK, 1, 0, 0, 0, 0))
            (error,) = struct.unpack_from("=i", netlink.recv(4096), 16)
            return int(error)

    error = namespaces.inside(namespace, flush)
    if error:
        raise LabError(f"the connections of {namespace} could not be flushed: error {-error}")


def _router_of(public: str) -> str:
    return f"{public.rpartition('.')[0]}.254"


def _hardware_address(address: str) -> str:
    """Return a locally administered address made from an IPv4 address."""
    return "02:00:" + ":".join(f"{byte:02x}" for byte in _packed(address))


def _packed(address: str) -> Iterable[int]:
    return socket.inet_aton(address)
