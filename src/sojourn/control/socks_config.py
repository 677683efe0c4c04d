"""`[socks]` of anchor.toml: whether there is a SOCKS proxy, who may use it, and where to."""

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

SOCKS_PORT = 1080
Port = Annotated[int, Meta(ge=1, le=65535)]
Word = Annotated[str, Meta(min_length=1, max_length=255)]
Ports = Annotated[str, Meta(pattern=r"^[0-9]{1,5}(-[0-9]{1,5})?$")]


class SocksRule(Struct, frozen=True, forbid_unknown_fields=True):
    """`[[socks.rule]]`: the first that fits decides; what is left out fits everything."""

    action: Literal["allow", "refuse"]
    user: tuple[Word, ...] = ()
    to: tuple[Word, ...] = ()
    """Networks (CIDR). Names are resolved first: what is compared is the address that is really called."""
    ports: tuple[Ports, ...] = ()
    """"443" or "1024-65535"."""


class SocksConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """`[socks]`. Without a port there is no proxy."""

    port: Port | None = None
    """TCP; 1080 is usual. Open it in the firewall."""
    passwords: Literal["local", "anywhere", "never"] = "local"
    """Where plain SOCKS clients may log in from: a password is sent as it is. Local: this machine and tunnels."""
    anonymous: tuple[Word, ...] = ()
    """Networks (CIDR) whose clients need no login at all."""
    allow: tuple[Word, ...] = ()
    """Destinations (CIDR) that are open although they are private."""
    refuse: tuple[Word, ...] = ()
    """Further destinations (CIDR) that are closed."""
    rules: tuple[SocksRule, ...] = field(name="rule", default=())
    sessions: Annotated[int, Meta(ge=1, le=1_000_000)] = 20_000
    """At once, of all users."""
    sessions_per_user: Annotated[int, Meta(ge=1, le=1_000_000)] = 2048
    hold: Annotated[float, Meta(ge=1, le=86400 * 30)] = 7200.0
    """Seconds for which a session waits for its mobile client."""
    held: Annotated[int, Meta(ge=0, le=1_000_000)] = 4096
    """Sessions that wait at once; above it the one that has waited longest is dropped."""
    splice: bool = True
    """Whether the kernel is asked to splice connections; SOJOURN_SPLICE=on or off goes before it. It relays where the
    kernel does not let it."""
    idle: Annotated[float, Meta(ge=1, le=86400 * 30)] = 7440.0
    """Seconds without a packet after which a spliced session ends (RFC 5382, REQ-5: two hours and four minutes)."""
    buffer_kib: Annotated[int, Meta(ge=128, le=65536)] = 1024
    """Memory of one direction of one session, at most."""

    def networks(self) -> Iterator[tuple[str, str]]:
        """Yield each network that is named, and where."""
        for key in ("anonymous", "allow", "refuse"):
            yield from ((key, network) for network in getattr(self, key))
        for rule in self.rules:
            yield from (("rule.to", network) for network in rule.to)
