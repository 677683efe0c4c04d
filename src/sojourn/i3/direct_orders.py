"""What the agent of a direct path wants done. Plaintexts are sealed by whoever drives it (roam_direct.py)."""

from msgspec import Struct

from sojourn.model import Endpoint


class Say(Struct, frozen=True):
    """Send this by way of the rendezvous node."""

    plaintext: bytes


class SendTo(Struct, frozen=True):
    """Send this to an address of the peer, over one of our networks."""

    path: str
    remote: Endpoint
    plaintext: bytes
    whole: bool = False
    """With DF: it probes the path's MTU."""


class SendSealed(Struct, frozen=True):
    """Send this, which was sealed and sent directly and may be lost, once more by way of the node."""

    datagram: bytes


class Told(Struct, frozen=True):
    """The direct path came, went or changed its place."""

    what: str


Order = Say | SendTo | SendSealed | Told
