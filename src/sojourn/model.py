"""The nouns that every package shares: frozen, without behaviour.

Addresses are text in their canonical form ("192.0.2.1", "2001:db8::1"): that is how
people, JSON and configuration write them, and the data paths have a packed form of
their own (packet/ip.py).
"""

from enum import StrEnum
from typing import Final, NewType

from msgspec import Struct

TunnelId = NewType("TunnelId", int)
"""24 bits, chosen by the anchor, the same number at both ends (docs/wire.md, sealed packets)."""

AssociationId = NewType("AssociationId", int)
"""A small number by which one process names a mobile host known to an anchor. Never on the wire."""

TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
"""IP protocol numbers that have a meaning here; every other one is carried all the same."""

HOMES: Final = "fd53:6f6a::/32"
"""All home addresses: each host's own, made of its keys (i3/home.py). Networks give none of these."""


class Endpoint(Struct, frozen=True, order=True):
    """An address and a port. For a protocol without ports the port is 0, for ICMP echo its identifier."""

    address: str
    port: int


class Flow(Struct, frozen=True, order=True):
    """One conversation, seen from the mobile host at both ends: `local` is the Vipa's side."""

    protocol: int
    local: Endpoint
    remote: Endpoint


class Network(Struct, frozen=True):
    """An access network as the mobile host has it now: one interface with one address."""

    name: str
    interface: str
    address: str
    """The address that tunnels over this network are sent from."""
    gateway: str | None = None
    kind: str = "other"
    """ethernet, wifi, cellular, other."""
    metered: bool = False


class Origin(Struct, frozen=True):
    """The program that made a flow, as the kernel saw it when it was executed. Empty text = not known.

    Nothing of it is read from /proc after the fact: by then the process may be gone, or another one.
    """

    owner: int
    """A number of the execution that made the flow: never used twice while the machine runs."""
    executable: str = ""
    """Path of the program, as its own mount namespace has it; of a script, the interpreter's."""
    script: str = ""
    """Path of the script, where one was executed (`#!`)."""
    command: str = ""
    """Command name, 15 bytes at most."""
    pid: int = 0
    uid: int = 0
    cgroup: str = ""
    """Path below the cgroup2 mount, as "/system.slice/ssh.service"."""
    name: str = ""
    """What it is called for certain: by `sojourn run --app NAME`, or the flatpak's or snap's own id."""
    exact: bool = True
    """False: found by looking at a socket that is older than the daemon, or without BPF."""


class NetworkState(StrEnum):
    """What `sojourn status` says of a network."""

    UP = "up"
    DOWN = "down"
    DEGRADED = "degraded"
    CAPTIVE = "captive"
    BLOCKED = "blocked"
