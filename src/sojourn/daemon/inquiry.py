"""Questions that a daemon asks its data path: what it counts, and what its table holds."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from sojourn.upmt.commands import AnyCommand, Report, Snapshot
from sojourn.upmt.events import AnyEvent, Counters, State

MEASURE_PATIENCE = 0.5
SNAPSHOT_PATIENCE = 5.0


class Inquiry:
    """Asks by commands, and is shown every event, because the answers are among them."""

    def __init__(self, submit: Callable[[AnyCommand], None]) -> None:
        self.counters: Counters | None = None
        """What the data path told last."""
        self._submit = submit
        self._counted = asyncio.Event()
        self._waiting: list[asyncio.Future[State]] = []

    def see(self, event: AnyEvent) -> None:
        """Take note of an event, if it is an answer."""
        match event:
            case State():
                waiting, self._waiting = self._waiting, []
                for future in waiting:
                    if not future.done():
                        future.set_result(event)
            case Counters():
                self.counters = event
                self._counted.set()

    async def measure(self, *, tunnels: bool = True) -> None:
        """Have counters told anew, and what is measured of tunnels; without an answer, the last ones stand."""
        self._counted.clear()
        self._submit(Report(tunnels))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._counted.wait(), MEASURE_PATIENCE)

    async def snapshot(self) -> State:
        """Return what the table holds now; TimeoutError when the data path does not answer."""
        future: asyncio.Future[State] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._submit(Snapshot())
        return await asyncio.wait_for(future, SNAPSHOT_PATIENCE)


def copies(counters: Counters | None) -> dict[str, int]:
    """Return how many copies of packets were sent, and how many that came a second time were dropped."""
    totals = counters.totals if counters is not None else {}
    return {"sent": totals.get("copies-sent", 0), "dropped": totals.get("duplicates-dropped", 0)}


def data_path(counters: Counters | None) -> dict[str, Any]:
    """Say for `status` which engine moves the packets, and if plain tunnels are the kernel's (None: there are none)."""
    said = counters.served_by if counters is not None else {}
    why = said.get("kernel")
    engine = {"engine": said.get("engine", ""), "because": said.get("because", "")}
    return {**engine, "kernel": None if why is None else not why, "why": why or ""}
