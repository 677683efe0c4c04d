"""What the user did last, and how each thing is taken back (`undo`): orders, networks, policies."""

import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

from sojourn.api.messages import ApiError, ErrorKind

KEPT: Final = 32
"""Things that can be taken back; the oldest is forgotten."""

Back = Callable[[], Awaitable[object]]


class Undo:
    """A stack, in memory: a daemon that starts anew has nothing to take back."""

    def __init__(self) -> None:
        self._done: deque[tuple[str, float, Back]] = deque(maxlen=KEPT)

    def done(self, what: str, back: Back) -> None:
        """Note that something was done; `what` in a few words, past tense."""
        self._done.append((what, round(time.time(), 3), back))  # noqa: TID251 - a date for people

    def told(self) -> dict[str, Any] | None:
        """Return what would be taken back next."""
        if not self._done:
            return None
        what, at, _ = self._done[-1]
        return {"what": what, "at": at}

    async def undo(self) -> str:
        """Take the last thing back, and return what it was. Raises ApiError when there is none, or it can't be."""
        if not self._done:
            raise ApiError("there is nothing to take back", "Only orders since the daemon's start.", ErrorKind.USAGE)
        what, _, back = self._done.pop()
        await back()
        return what
