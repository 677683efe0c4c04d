"""Sojourn's own nftables tables, each replaced in one transaction; no other table is touched."""

from msgspec import Struct

ANCHOR_TABLE = "sojourn_anchor"
HOST_TABLE = "sojourn_host"


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
    """The uplink's static IPv4 address; None = masquerade."""
    snat6: str | None = None
    nat6: bool = True
    """False: the pool is a prefix that is routed to this anchor."""
    forwards: tuple[PortForward, ...] = ()
    isolate: bool = True


class HostRules(Struct, frozen=True):
    """What a mobile host's table is made from."""

    device: str
    vipa: str
    vipa6: str | None = None
    resolver: str | None = None
    """Port 53 goes here through the tunnel; None = DNS is left alone."""


def set_anchor(rules: AnchorRules) -> None:
    """Replace the anchor's table. Flows keep their translations and time-outs."""
    raise NotImplementedError


def set_host(rules: HostRules) -> None:
    """Replace the host's table."""
    raise NotImplementedError


def remove_anchor() -> bool:
    """Remove the anchor's table; say whether it was there."""
    raise NotImplementedError


def remove_host() -> bool:
    """Remove the host's table; say whether it was there."""
    raise NotImplementedError
