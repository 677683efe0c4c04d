"""What a client tells whoever drives it: what to send, and what has become of triggers, nodes and packets."""

from msgspec import Struct

from sojourn.i3.identifier import Identifier
from sojourn.i3.packet import Status
from sojourn.model import Endpoint


class Transmit(Struct, frozen=True):
    """Order: send a datagram over a path."""

    path: str
    node: Endpoint
    data: bytes
    whole: bool = False
    """Never in fragments: it probes the path's MTU."""


class TriggerStands(Struct, frozen=True):
    """Packets to this identifier now come over this path. Told once."""

    identifier: Identifier
    path: str
    seen: Endpoint
    """The path's outer address."""


class TriggerRefused(Struct, frozen=True):
    """The node doesn't want this trigger; asked for again after REFRESH (LATER: 2 s) where that may help."""

    identifier: Identifier
    path: str
    status: Status


class TriggerGone(Struct, frozen=True):
    """The trigger has been removed, or ends by itself soon."""

    identifier: Identifier
    path: str


class NodeSilent(Struct, frozen=True):
    """A node did not answer; everything is asked of the next one."""

    node: Endpoint


class NotPresent(Struct, frozen=True):
    """Nobody has a trigger for an identifier that we sent to."""

    identifier: Identifier


class Arrived(Struct, frozen=True):
    """A packet for us. The first of the stack is the identifier that led here."""

    path: str
    stack: tuple[Identifier, ...]
    payload: bytes


Command = Transmit | TriggerStands | TriggerRefused | TriggerGone | NodeSilent | NotPresent | Arrived
