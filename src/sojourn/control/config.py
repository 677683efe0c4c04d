"""What the owner has written: host.toml and anchor.toml as typed values.

`parse_host` and `parse_anchor` take text and return a whole, checked configuration or raise
`ConfigError` with file, key and remedy. The host's secret stands in a file of its own
(`Credentials`), so that host.toml can be shown to anybody.
"""

import ipaddress
import re
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from sojourn.control import peer_config
from sojourn.control.capture import Capture, CaptureEntry, captures_of
from sojourn.control.decode import decode
from sojourn.control.metrics_config import MetricsConfig
from sojourn.control.peer_config import PeerConfig, RendezvousPlaces
from sojourn.control.socks_config import SocksConfig
from sojourn.errors import ConfigError
from sojourn.model import TCP, UDP
from sojourn.policy.language import Context
from sojourn.policy.language import parse as parse_policies
from sojourn.upmt import policy_push
from sojourn.upmt.policy_push import MAX_PUSH_BYTES, MAX_PUSHED, PolicyPush, Word
from sojourn.upmt.records import PortForward

Port = Annotated[int, Meta(ge=1, le=65535)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
"""Of a host, a user or a network: it stands in SIP headers and on command lines."""
Text = Annotated[str, Meta(min_length=1, max_length=255)]

SIZE = r"^[0-9]{1,15}(\.[0-9]{1,3})? ?([kKMGT](i?B)?|B)?$"
_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}

DEFAULT_ORDER = ("ethernet", "wifi", "cellular", "*")
SIP_TLS_PORT = 5061
SIP_PORT = 5060
TUNNEL_PORT = 1800
REALM = "sojourn"
"""Digest realm. Fixed: every stored credential is bound to it, an address may change."""


class NetworkConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """`[network.NAME]`: what the owner says about one access network."""

    interface: Text | None = None
    """The interface that this name stands for; without it the name is the interface's."""
    cost: Literal["free", "metered"] | None = None
    """None = as NetworkManager says, where there is one; else free."""
    trusted: bool = False
    """The owner vouches for it (`security = "trusted"` in policies)."""
    cap: Annotated[str, Meta(pattern=SIZE)] | None = None
    """What may be used in a month, both ways: "5GB", "500 MB", "2GiB"."""
    cap_day: Annotated[int, Meta(ge=1, le=31)] = 1
    """The day on which a month begins; where a month is shorter, its last."""
    kind: Literal["ethernet", "wifi", "cellular", "other"] | None = None
    use: bool = True
    """False: no tunnel is ever opened on it."""
    keep_alive: Annotated[float, Meta(ge=1, le=3600)] | None = None
    port: Port | None = None
    """UDP port that the tunnel over this network is sent from, for firewalls that must know it; None = any."""

    @property
    def cap_bytes(self) -> int | None:
        """The cap in bytes (its form was checked when the file was read)."""
        return None if self.cap is None else bytes_of(self.cap)


class PortalConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """`[portal]`: how captive portals are found."""

    url: Annotated[str, Meta(pattern=r"^(http://[!-~]+)?$", max_length=255)] = (
        "http://connectivitycheck.gstatic.com/generate_204"
    )
    """Asked over each new network by plain HTTP, which is what portals answer in another's name; empty = never."""
    expect: Annotated[str, Meta(pattern=r"^(204|200( .+)?)$", max_length=255)] = "204"
    """The status of the true answer; after "200" text that its body holds, as "200 success"."""


class SignallingConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """`[signalling]`: which networks the SIP channel prefers, and what it is."""

    networks: tuple[Text, ...] = ()
    """Names or kinds, in order; empty = as `order`."""
    transport: Literal["tls", "tcp", "udp"] = "tls"
    """TCP and UDP are the paper's form, in the clear: for plain tunnels only."""
    port: Port = SIP_PORT
    """Where the anchor takes TCP and UDP (`sip_plain_port`); that of TLS is `port` above."""


class HostConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """host.toml."""

    anchor: Annotated[str, Meta(max_length=255)] = ""
    """Address or name; empty: this host has peers and no anchor."""
    spki: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?$")] = ""
    """SHA-256 of the anchor's public key (SubjectPublicKeyInfo): who the anchor is, whatever its address."""
    user: Annotated[str, Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,62})?$")] = ""
    tid: Annotated[str, Meta(pattern=r"^[A-Za-z0-9]{0,32}$")] = ""
    """Terminal identifier, made by `join`."""
    name: Name = "host"
    port: Port = SIP_TLS_PORT
    order: tuple[Text, ...] = DEFAULT_ORDER
    """Networks by name or kind, the preferred first; "*" = every other one."""
    networks: dict[str, NetworkConfig] = field(name="network", default_factory=dict)
    capture: tuple[CaptureEntry, ...] = ()
    kill_switch: bool = False
    """Captured traffic never leaves outside a tunnel, not even while Sojourn is down."""
    dns: Literal["anchor", "network"] = "anchor"
    keep_alive: Annotated[float, Meta(ge=1, le=3600)] = 25.0
    tunnels: Literal["sealed", "plain"] = "sealed"
    """Plain: the paper's IP in UDP, readable by anybody on the way; the anchor must allow it (`plain_tunnels`)."""
    zero_checksum6: bool = False
    """Plain tunnels over IPv6 go without UDP checksum (RFC 6936), so that they can be the kernel's; both ends must
    be configured so."""
    signalling: SignallingConfig = SignallingConfig()
    portal: PortalConfig = PortalConfig()
    metrics: MetricsConfig = MetricsConfig()
    device: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,15}$")] = "sojourn0"
    policies: tuple[dict[str, Any], ...] = field(name="policy", default=())
    """`[[policy]]` tables as they are: the policy language is another package's."""
    rendezvous: RendezvousPlaces | None = None
    peers: dict[str, PeerConfig] = field(name="peer", default_factory=dict)
    accept: tuple[Literal["policies", "costs", "preferences"], ...] = ()
    """What of the anchor's PolicyPush is used; nothing unless the owner says so."""

    @property
    def captures(self) -> tuple[Capture, ...]:
        """The `[[capture]]` rules in order, parsed (they were checked when the file was read)."""
        return captures_of(self.capture, "host.toml")


class Credentials(Struct, frozen=True, forbid_unknown_fields=True):
    """D/credentials (0600): what proves that we are `user`."""

    secret: Annotated[str, Meta(min_length=8, max_length=255)]
    one_time: bool = True
    """True until the first association has exchanged it for the host's own."""
    socks_key: str = ""
    """The anchor's SOCKS static public key, hexadecimal."""
    socks_secret: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?$")] = ""
    """Proves us to the anchor's SOCKS proxy; empty where this computer joined before there was one."""
    socks_static: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?$")] = ""
    """Our own X25519 key for it."""

    def __repr__(self) -> str:
        return f"Credentials(one_time={self.one_time})"


class Expires(Struct, frozen=True, forbid_unknown_fields=True):
    """`[expires]`: seconds for which a host's lease is granted (RFC 3261 §10.2.8)."""

    minimum: Annotated[int, Meta(ge=1, le=86400)] = 60
    default: Annotated[int, Meta(ge=1, le=86400)] = 600
    maximum: Annotated[int, Meta(ge=1, le=86400)] = 3600


class Expose(Struct, frozen=True, forbid_unknown_fields=True):
    """`[[expose]]`: a port forward that the configuration itself keeps."""

    host: Name
    port: Annotated[str, Meta(pattern=r"^(tcp|udp)/[0-9]{1,5}$")]
    public: Port = field(name="as")


class PushConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """`[push]`: what is offered to the hosts (PolicyPush); each host uses only what its owner accepts."""

    policies: Annotated[tuple[dict[str, Any], ...], Meta(max_length=MAX_PUSHED)] = ()
    """Tables as in host.toml's `[[policy]]`; here `[[push.policies]]`."""
    cost: Annotated[dict[Word, Literal["free", "metered"]], Meta(max_length=MAX_PUSHED)] = {}
    """Of networks, by name, label or kind."""
    order: Annotated[tuple[Word, ...], Meta(max_length=MAX_PUSHED)] = ()


class AnchorConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """anchor.toml."""

    address: Text
    """The address or name by which hosts reach this anchor; it stands in join tokens."""
    listen: tuple[Text, ...] = ("0.0.0.0", "::")
    """Where SIP and tunnels arrive. An address family that the machine lacks is passed over."""
    sip_port: Port = SIP_TLS_PORT
    sip_plain: bool = False
    """Also the paper's form, SIP over UDP and TCP (such hosts get plain tunnels only)."""
    sip_plain_port: Port = SIP_PORT
    digest: Annotated[tuple[Literal["SHA-256", "MD5"], ...], Meta(min_length=1)] = ("SHA-256",)
    """Digest algorithms, the preferred first. MD5 is for old SIP clients (RFC 8760 §3: a downgrade).

    A token keeps to those of the time when it was made."""
    tunnel_port: Port = TUNNEL_PORT
    plain_tunnels: bool = False
    """Hosts that are configured for it get tunnels without encryption."""
    zero_checksum6: bool = False
    """As in host.toml."""
    pool: Text = "10.201.0.0/16"
    pool6: Text | None = None
    uplink: Text = "auto"
    """The interface that leads to correspondents."""
    resolver: Text = "auto"
    """The DNS server that hosts are given; auto = the machine's own first one."""
    allow: tuple[Text, ...] = ()
    """Inner destinations (CIDR) that are open to hosts although they are private."""
    refuse: tuple[Text, ...] = ()
    """Further inner destinations (CIDR) that are closed to hosts."""
    isolate: bool = True
    """Hosts do not reach each other's Vipa."""
    expires: Expires = Expires()
    expose: tuple[Expose, ...] = ()
    push: PushConfig = PushConfig()
    socks: SocksConfig = SocksConfig()
    metrics: MetricsConfig = MetricsConfig()
    device: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,15}$")] = "sojourn-a0"

    @property
    def offered(self) -> PolicyPush:
        """`[push]` as hosts are told."""
        return policy_push.make_push(self.push.policies, self.push.cost, self.push.order)

    @property
    def forwards(self) -> tuple[PortForward, ...]:
        """The `[[expose]]` entries as the store and the NAT know them."""
        return tuple(_forward(entry) for entry in self.expose)

    @property
    def own_ports(self) -> frozenset[tuple[int, int]]:
        """Protocol and number of the ports that hosts reach this anchor at, and that cannot lead elsewhere."""
        plain = {(TCP, self.sip_plain_port), (UDP, self.sip_plain_port)} if self.sip_plain else set()
        socks = {(TCP, self.socks.port)} if self.socks.port is not None else set()
        return frozenset({(TCP, self.sip_port), (UDP, self.tunnel_port), *plain, *socks})


def _forward(entry: Expose) -> PortForward:
    protocol, port = parse_service(entry.port)
    return PortForward(protocol, entry.public, entry.host, port)


def parse_service(text: str) -> tuple[int, int]:
    """Read "tcp/22" as (protocol number, port). Raises ValueError with a sentence for the user."""
    word, slash, number = text.partition("/")
    protocol = {"tcp": TCP, "udp": UDP}.get(word.lower())
    if protocol is None or not slash or not number.isascii() or not number.isdigit():
        raise ValueError(f"{text!r} is not a service: write it like tcp/22 or udp/5060")
    if not 1 <= int(number[:6]) <= 65535:
        raise ValueError(f"{text!r} has no valid port: 1 to 65535")
    return protocol, int(number)


def bytes_of(size: str) -> int:
    """Return what "5GB" (decimal, as operators count) or "5GiB" says, in bytes. It fits `SIZE`."""
    number, unit = re.findall(r"^([0-9.]+) ?(.*)$", size)[0]
    base = 1024 if "i" in unit else 1000
    return int(float(number) * base ** _UNITS[unit.rstrip("B").rstrip("i").upper()])


def parse_host(text: str | bytes, file: str = "host.toml") -> HostConfig:
    """Read host.toml, whole and checked. Raises ConfigError only."""
    config = decode(text, HostConfig, file)
    captures_of(config.capture, file)
    peer_config.check(config.rendezvous, config.peers, file)
    if config.anchor or config.rendezvous is None:
        _joined(config, file)
    if config.signalling.transport != "tls" and config.tunnels == "sealed":
        why = f"SIP over {config.signalling.transport.upper()} is in the clear: it brings no secret for sealed tunnels"
        raise ConfigError(f"{file}: signalling.transport", why, 'Set tunnels = "plain", or transport = "tls".')
    for name in config.networks:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", name):
            raise ConfigError(f"{file}: network.{name}", "is not a usable name", "Use letters, digits, '.', '_', '-'.")
    taken: dict[str, str] = {}
    for name, network in config.networks.items():
        interface = network.interface or name
        if interface in taken:
            why = f"names {interface!r}, which [network.{taken[interface]}] has already"
            raise ConfigError(f"{file}: network.{name}.interface", why, "Give each interface one network.")
        taken[interface] = name
    return config


def _joined(config: HostConfig, file: str) -> None:
    """Check what a host needs that has an anchor."""
    for key in ("anchor", "spki", "user", "tid"):
        if not getattr(config, key):
            fix = "Make the file with `sojourn join TOKEN`; or give [rendezvous] for a host that has peers only."
            raise ConfigError(f"{file}: {key}", "this key is missing", fix)
    _host_name(config.anchor, f"{file}: anchor")


def parse_credentials(text: str | bytes, file: str = "credentials") -> Credentials:
    """Read the secrets of a host. Raises ConfigError only, and no secret stands in it."""
    return decode(text, Credentials, file)


def parse_anchor(text: str | bytes, file: str = "anchor.toml") -> AnchorConfig:
    """Read anchor.toml, whole and checked. Raises ConfigError only."""
    config = decode(text, AnchorConfig, file)
    _host_name(config.address, f"{file}: address")
    for listen in config.listen:
        _address(listen, f"{file}: listen")
    if config.resolver != "auto":
        _address(config.resolver, f"{file}: resolver")
    _pool(config.pool, 4, 30, f"{file}: pool")
    if config.pool6 is not None:
        _pool(config.pool6, 6, 120, f"{file}: pool6")
    for key in ("allow", "refuse"):
        for network in getattr(config, key):
            _network(network, f"{file}: {key}")
    for where, network in config.socks.networks():
        _network(network, f"{file}: socks.{where}")
    limits = config.expires
    if not limits.minimum <= limits.default <= limits.maximum:
        raise ConfigError(f"{file}: expires", "minimum, default and maximum are out of order", "Sort the three.")
    _exposed(config, file)
    parse_policies(
        config.push.policies, Context(file, user_id=lambda _name: 0, came_from="anchor", array="push.policies")
    )
    if len(policy_push.encode(config.offered)) > MAX_PUSH_BYTES:
        raise ConfigError(f"{file}: push", f"is larger than {MAX_PUSH_BYTES} bytes", "Offer fewer policies.")
    return config


def _exposed(config: AnchorConfig, file: str) -> None:
    taken: set[tuple[int, int]] = set()
    for entry in config.expose:
        try:
            protocol, _ = parse_service(entry.port)
        except ValueError as error:
            raise ConfigError(f"{file}: expose.port", str(error), "Correct it.") from error
        if (protocol, entry.public) in taken:
            raise ConfigError(f"{file}: expose.as", f"port {entry.public} is given twice", "Choose another one.")
        if (protocol, entry.public) in config.own_ports:
            raise ConfigError(f"{file}: expose.as", f"port {entry.public} is the anchor's own", "Choose another one.")
        taken.add((protocol, entry.public))


def _host_name(text: str, where: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        if not re.fullmatch(
            r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*", text
        ):
            raise ConfigError(
                where, f"{text!r} is no address and no host name", "Write 192.0.2.1, 2001:db8::1 or a name."
            ) from None


def _address(text: str, where: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise ConfigError(where, f"{text!r} is not an IP address", "Write it like 192.0.2.1 or 2001:db8::1.") from None


def _network(text: str, where: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ConfigError(where, f"is not a network: {error}", "Write it like 192.0.2.0/24.") from None


def _pool(text: str, version: int, longest: int, where: str) -> None:
    network = _network(text, where)
    if network.version != version:
        raise ConfigError(where, f"{text} is not IPv{version}", f"Give an IPv{version} network here.")
    if network.prefixlen > longest:
        raise ConfigError(where, f"{text} is too small to lend addresses from", f"Use /{longest} or larger.")
