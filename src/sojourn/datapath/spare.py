"""A second data-path process, loaded and waiting, so that a dead one is replaced in milliseconds.

Timers: started 0.2 s after the process that it stands by for has said that it runs (two never load at once, and
the gap in which a second death finds none is short), 5 s after one has died.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from sojourn.datapath.child import Child

DELAY: Final = 0.2
DELAY_AFTER_DEATH: Final = 5.0


class Spare:
    """Keeps one process waiting, if wanted at all."""

    def __init__(self, arguments: Sequence[str], *, wanted: bool) -> None:
        self.child: Child | None = None
        self._arguments = arguments
        self._wanted = wanted
        self._timer: asyncio.TimerHandle | None = None

    def want(self, delay: float = DELAY) -> None:
        """Have one soon."""
        self._cancel()
        if self._wanted:
            self._timer = asyncio.get_running_loop().call_later(delay, self.start)

    def start(self) -> None:
        """Have one now."""
        if self._wanted and self.child is None:
            self.child = Child.start(self._arguments, self._on_exit)

    def take(self) -> Child | None:
        """Return the one that waits, the caller's from now on."""
        child, self.child = self.child, None
        return child

    async def close(self, patience: float) -> None:
        """Have none any more."""
        self._wanted = False
        self._cancel()
        child = self.child
        if child is not None:
            child.close_control()
            await child.ended(patience)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_exit(self, child: Child) -> None:
        self.child = None
        child.forget()
        self.want(DELAY_AFTER_DEATH)
