"""What a ROAM proxy tells, and has done, beside sending (client.Transmit). Paths are called as their networks."""

from msgspec import Struct

from sojourn.i3.commands import Transmit


class PathWorks(Struct, frozen=True):
    """A node has answered over this path, for the first time or again."""

    path: str
    rtt: float
    again: bool = False


class PathSilent(Struct, frozen=True):
    """A path that worked has stopped to answer."""

    path: str
    after: float


class PathBlocked(Struct, frozen=True):
    """No node answers over this path."""

    path: str
    why: str


class Moved(Struct, frozen=True):
    """All triggers stand over this path."""

    path: str
    came_from: str | None
    seconds: float
    soft: bool


class MoveFailed(Struct, frozen=True):
    """The triggers did not come to stand over this path, or nothing came over it: the old one serves."""

    path: str


class Deliver(Struct, frozen=True):
    """A packet of a peer, for this host."""

    home: str
    packet: bytes


class SendAgain(Struct, frozen=True):
    """What was sent to this peer lately may be lost: send the newest packet of each flow once more."""

    home: str


class PeerTold(Struct, frozen=True):
    """Something of a peer changed: met, refused, not found."""

    home: str
    what: str


Command = Transmit | PathWorks | PathSilent | PathBlocked | Moved | MoveFailed | Deliver | SendAgain | PeerTold
