"""Who moves packets of peers where they are many: what peering.py tells the C core's side (core_peers.py)."""

from typing import Protocol

from sojourn.i3.handshake import Session
from sojourn.i3.peer import Peer
from sojourn.i3.roam import RoamProxy
from sojourn.model import TunnelId


class PeerCore(Protocol):
    """Who moves packets of peers where they are many (core_peers.py)."""

    def took(self, session: Session) -> None:
        """Seal and open under a new session."""
        ...

    def gone(self, index: TunnelId) -> None:
        """Forget a session."""
        ...

    def moved(self, home: bytes, peer: Peer, now: float) -> None:
        """Take note of a packet that Python has moved."""
        ...

    def placed(self) -> None:
        """Take note that rows may have changed their place."""
        ...

    def follow(self, proxy: RoamProxy, now: float) -> None:
        """Take note that something may be otherwise."""
        ...
