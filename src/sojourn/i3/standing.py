"""A trigger as its host wants it, and what has become of it (client.py tells the states)."""

from enum import Enum, auto

from msgspec import Struct

from sojourn.i3.identifier import Identifier
from sojourn.i3.packet import Right
from sojourn.model import Endpoint


class Wanted(Struct, frozen=True):
    """A trigger that a host wants: from an identifier to itself, or to further identifiers."""

    identifier: Identifier
    right: Right
    evidence: bytes = b""
    """The secret of a KEY, the address of a HOME4; a SIGNED one is signed with the client's identity."""
    target: tuple[Identifier, ...] = ()


class State(Enum):
    """What a trigger of ours is doing."""

    ASKING = auto()
    STANDS = auto()
    REMOVING = auto()


class Standing:
    """One trigger by one path."""

    def __init__(self, wanted: Wanted, path: str) -> None:
        self.wanted, self.path = wanted, path
        self.via = path
        """Where requests for it go out: another path when its own has gone."""
        self.state = State.ASKING
        self.number = 0
        self.tries = 0
        self.due: float | None = None
        self.seen: Endpoint | None = None
        self.left: Endpoint | None = None
        """What the node before this one has seen, whose trigger other nodes may have still."""
        self.quiet = False
        """Its end is nobody's business."""

    def ask(self, state: State) -> None:
        """Begin to ask for something."""
        self.state, self.tries = state, 0


class Cached(Struct):
    """Where packets for one place of identifiers go."""

    node: Endpoint
    until: float
    asked: float
