"""The `log` verb of every daemon: the newest entries of the roaming log, then new ones as they come."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from sojourn.api.messages import ApiError, ErrorKind
from sojourn.api.server import Arguments
from sojourn.control.roaming_log import RoamingEntry, RoamingLog

MAX_BEHIND = 1000
"""Entries that wait for a client that does not read; further ones are not for it."""


async def stream_log(log: RoamingLog, arguments: Arguments) -> AsyncIterator[dict[str, Any]]:
    """Yield the newest `limit` entries (absent: all); with `follow` go on until the client hangs up."""
    limit, follow = arguments.get("limit"), arguments.get("follow", False)
    if not isinstance(limit, int | None) or not isinstance(follow, bool):
        raise ApiError("log: limit is a number, follow is true or false", kind=ErrorKind.USAGE)
    queue: asyncio.Queue[RoamingEntry] = asyncio.Queue(MAX_BEHIND)
    stop = log.listen(lambda entry: None if queue.full() else queue.put_nowait(entry))
    try:
        for entry in log.entries(limit):
            yield msgspec.to_builtins(entry)
        while follow:
            yield msgspec.to_builtins(await queue.get())
    finally:
        stop()
