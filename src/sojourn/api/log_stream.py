"""The `log` verb of every daemon: the newest entries of the roaming log, then new ones as they come."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from sojourn.api.server import Arguments
from sojourn.control.roaming_log import RoamingEntry, RoamingLog

MAX_BEHIND = 1000
"""Entries that wait for a client that does not read; further ones are not for it."""


async def stream_log(log: RoamingLog, arguments: Arguments) -> AsyncIterator[dict[str, Any]]:
    """Yield `limit` entries; with `follow` go on until the client hangs up."""
    queue: asyncio.Queue[RoamingEntry] = asyncio.Queue(MAX_BEHIND)
    stop = log.listen(lambda entry: None if queue.full() else queue.put_nowait(entry))
    try:
        for entry in log.entries(arguments.get("limit")):
            yield msgspec.to_builtins(entry)
        while arguments.get("follow"):
            yield msgspec.to_builtins(await queue.get())
    finally:
        stop()
