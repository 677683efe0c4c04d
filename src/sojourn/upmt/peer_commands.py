"""What control orders a data path to do about peers: hosts that are reached over rendezvous nodes (i3/roam.py)."""

from typing import Final

from msgspec import Struct

from sojourn.model import AssociationId, Endpoint, TunnelId

HOME: Final = AssociationId(1 << 32)
"""Whose rows flows with peers are: the host's own, under its home address. No anchor gives this number."""
PEERS: Final = TunnelId(1 << 24)
"""The place of a row whose flow goes to a peer: which one, its remote address says. No tunnel has this index."""


class PeerEntry(Struct, frozen=True):
    """A peer as the configuration names it; keys are empty where they are not known."""

    name: str
    home: str
    signing: bytes = b""
    exchange: bytes = b""
    direct: bool = False
    """It may learn where this host is, and be spoken to without a node."""


class SetHome(Struct, frozen=True, tag=True):
    """Who this host is to its peers, and who they are. Repeated with the same keys and nodes it changes the rest."""

    signing: bytes
    exchange: bytes
    """Private keys, 32 bytes each (i3/home.py)."""
    nodes: tuple[Endpoint, ...]
    peers: tuple[PeerEntry, ...] = ()
    anyone: bool = False
    piggyback: float = 0.2
    wall_offset: float = 0.0
    """What added to CLOCK_BOOTTIME gives seconds of the wall clock, for the times of greetings."""

    def __repr__(self) -> str:
        return f"SetHome(nodes={self.nodes}, peers={len(self.peers)})"


class OpenRendezvous(Struct, frozen=True, tag=True):
    """Have a network for peers: a UDP socket of its own, bound to interface and address. Another address: a new one."""

    network: str
    interface: str
    local: Endpoint


class CloseRendezvous(Struct, frozen=True, tag=True):
    """A network has gone."""

    network: str


class UseRendezvous(Struct, frozen=True, tag=True):
    """Move to this network: softly where the one in use works, else at once."""

    network: str


PeerCommand = SetHome | OpenRendezvous | CloseRendezvous | UseRendezvous
