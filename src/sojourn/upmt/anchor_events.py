"""What goes in and out of the anchor's machine (upmt/anchor.py), beside the data path's own vocabulary."""

from msgspec import Struct

from sojourn.model import Endpoint
from sojourn.sip.server import Send
from sojourn.upmt import events
from sojourn.upmt.commands import AnyCommand
from sojourn.upmt.records import Subscriber


class SipArrived(Struct, frozen=True, tag=True):
    """One whole SIP message from outside of the tunnels."""

    origin: int
    """Names the connection, or the socket of a datagram."""
    source: Endpoint
    transport: str
    """TLS, TCP or UDP."""
    data: bytes


class SubscriberChanged(Struct, frozen=True, tag=True):
    """The administrator made, changed or revoked a token (the record is stored already)."""

    subscriber: Subscriber
    ended: bool = False
    """Its association ends now; the host may come back, unless it is revoked."""


class SubscriberRemoved(Struct, frozen=True, tag=True):
    """The administrator removed a user."""

    user: str


class NotKept(Struct, frozen=True, tag=True):
    """A record that was `promised` could not be stored, and nothing that followed it was done."""


class Keep(Struct, frozen=True, tag=True):
    """Order: store this record before what follows is sent."""

    subscriber: Subscriber
    promised: bool = False
    """What follows tells a host a secret that only this record proves: without it nothing of that (`NotKept`)."""
    lasting: bool = True
    """False: it need not outlive a power cut, only this process. A restarted machine has no old keys either."""


class Trust(Struct, frozen=True, tag=True):
    """Order: whoever is at this origin has proved a secret (linux/sip_listener.py)."""

    origin: int
    source: Endpoint


class Associated(Struct, frozen=True, tag=True):
    """For the log: a host associated, refreshed or left."""

    user: str
    name: str
    vipa: str | None
    what: str
    source: Endpoint
    push: int = 0
    """The version of the PolicyPush that the host says it has; 0 = none."""


AnchorEvent = SipArrived | SubscriberChanged | SubscriberRemoved | NotKept | events.AnyEvent
AnchorCommand = Send | AnyCommand | Keep | Trust | Associated
