"""What an anchor keeps of its mobile hosts over a restart: plain values, no behaviour.

A `Subscriber` is a user who may associate, with the lease it has now if it has one. The
store (store/base.py) keeps these; the anchor's machine makes and replaces them, whole.
Times here are Unix seconds: CLOCK_BOOTTIME starts again when the machine does.
"""

from msgspec import Struct

from sojourn.model import TunnelId
from sojourn.packet.seal import Secret


class Subscriber(Struct, frozen=True):
    """One user of this anchor: who it is, what proves it, and what it has been lent."""

    user: str
    name: str
    """What people call this host (`sojourn status`, `sojourn anchor revoke NAME`)."""
    ha1_once: str | None = None
    """Digest H(A1), by algorithm, of the one-time secret in the join token; None once it has been used up."""
    ha1: str | None = None
    """Digest H(A1) of the host's own credential; None before the first association."""
    tid: str | None = None
    """The terminal that the token belongs to since its first use."""
    vipa: str | None = None
    vipa6: str | None = None
    tunnels: tuple[TunnelId, ...] = ()
    """The tunnel index of each slot, in slot order; kept as long as the lease."""
    secrets: tuple[Secret, ...] = ()
    """Association secrets that may still be in use, oldest first."""
    move: int = 0
    """The highest move number that was carried out (DESIGN §2, 3)."""
    lease_until: float | None = None
    """When the lease ends unless it is refreshed; None without one."""
    revoked: bool = False
    created: float = 0.0
    socks_secret: bytes = b""
    """What proves this user to the SOCKS proxy; empty for those who were invited before there was one."""
    socks_static: bytes = b""
    """The one client key that this user comes with, since its first use."""


class PortForward(Struct, frozen=True, order=True):
    """A port of the anchor's own address that leads to a port of a host (the paper's static NAT)."""

    protocol: int
    """TCP or UDP."""
    public_port: int
    user: str
    port: int
