"""The `watch` verb: a picture of everything, then what changes of it, as fast as the client reads.

A change that somebody would see (a network, a flow that moves, an entry of the log) is told at once, but not more than
`MOST_A_SECOND` times a second; what is measured is looked at every `LOOK_EVERY` seconds, counters of flows as often as
`look` finds it worth its cost. With nobody watching nothing is looked at.

A client that does not read stops its own generator in `drain`: it holds no queue, and is told the newest state later.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from sojourn.api.server import Arguments, Peer
from sojourn.control.picture import Picture
from sojourn.daemon.driver import Tasks

MOST_A_SECOND: Final = 60
LOOK_EVERY: Final = 0.1


class Watch:
    """One daemon's picture, and those who watch it."""

    def __init__(self, role: str, picture: Picture, tasks: Tasks, look: Callable[[], Awaitable[None]]) -> None:
        """`look` brings the picture up to date; it may take its time."""
        self.picture = picture
        self._role = role
        self._tasks = tasks
        self._look = look
        self._clients: set[asyncio.Event] = set()
        self._poked = asyncio.Event()
        self._running = False

    @property
    def watched(self) -> bool:
        """Say whether anybody watches."""
        return bool(self._clients)

    def poke(self) -> None:
        """Look at once: something has happened."""
        self._poked.set()

    def tell(self) -> None:
        """Tell those who watch that the picture has changed."""
        for client in self._clients:
            client.set()

    async def stream(self, _arguments: Arguments, _peer: Peer) -> AsyncIterator[dict[str, Any]]:
        """Yield a snapshot, then deltas until the client hangs up."""
        news = asyncio.Event()
        self._clients.add(news)
        try:
            await self._look()
            if not self._running:
                self._running = True
                self._tasks.start(self._run(), "watch")
            seen = self.picture.number
            yield self._snapshot()
            while True:
                await news.wait()
                news.clear()
                delta = self.picture.delta(seen)
                seen = self.picture.number
                if delta is None:
                    yield self._snapshot()
                elif delta:
                    yield {"event": "delta", "at": _today(), **delta}
                await asyncio.sleep(1 / MOST_A_SECOND)
        finally:
            self._clients.discard(news)

    async def _run(self) -> None:
        try:
            while self._clients:
                before = self.picture.number
                self._poked.clear()
                await self._look()
                if self.picture.number != before:
                    self.tell()
                try:
                    await asyncio.wait_for(self._poked.wait(), LOOK_EVERY)
                except TimeoutError:
                    continue
        finally:
            self._running = False

    def _snapshot(self) -> dict[str, Any]:
        return {"event": "snapshot", "version": 1, "role": self._role, "at": _today(), **self.picture.snapshot()}


def _today() -> float:
    return round(time.time(), 3)  # noqa: TID251 - a date for people
