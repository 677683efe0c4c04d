"""How many connections may wait at the window's door: nobody's can keep the page's own out.

Every program of every user of this machine can connect to 127.0.0.1, and a web page can make the user's own browser do
so. Until a connection has shown the token (guard.py) it is a visitor. Visitors have few places, each user has a share
of them, a newcomer takes the place of the oldest, and none stays long (connections.py). A connection that has shown
the token is turned out by nobody. Whose a connection is, the kernel says: no other user can take the places of the
window's own.

    own        the user whose window it is, and root            OWN_PLACES
    strangers  all others together                              STRANGERS_PLACES, of which one user has STRANGER_SHARE
"""

from collections.abc import Collection, Hashable
from typing import Final, Generic, TypeVar

Visitor = TypeVar("Visitor", bound=Hashable)

OWN_PLACES: Final = 48
STRANGERS_PLACES: Final = 64
STRANGER_SHARE: Final = 16
MOST_VISITORS: Final = OWN_PLACES + STRANGERS_PLACES


class Door(Generic[Visitor]):
    """The visitors, in the order in which they came."""

    def __init__(self, own: Collection[int]) -> None:
        """`own`: the users whose window it is."""
        self._own = frozenset(own)
        self._inside: dict[Visitor, int | None] = {}
        self._strangers: dict[Visitor, int | None] = {}

    def enter(self, visitor: Visitor, user: int | None) -> Visitor | None:
        """Let a visitor in; return the one who must go for it. `user`: None where the kernel knows none (any more)."""
        if user in self._own:
            return self._take(self._inside, visitor, user, OWN_PLACES, OWN_PLACES)
        return self._take(self._strangers, visitor, user, STRANGERS_PLACES, STRANGER_SHARE)

    def leave(self, visitor: Visitor) -> None:
        """Forget a visitor: it has shown the token, or has gone."""
        self._inside.pop(visitor, None)
        self._strangers.pop(visitor, None)

    def waits(self, visitor: Visitor) -> bool:
        """Say whether a visitor is still one."""
        return visitor in self._inside or visitor in self._strangers

    @staticmethod
    def _take(
        places: dict[Visitor, int | None], visitor: Visitor, user: int | None, most: int, share: int
    ) -> Visitor | None:
        places[visitor] = user
        same = [one for one, whose in places.items() if whose == user]
        if len(same) > share:
            oldest = same[0]
        elif len(places) > most:
            oldest = next(iter(places))
        else:
            return None
        del places[oldest]
        return oldest
