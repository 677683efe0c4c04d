"""The verb "log": entries of the roaming log, and those to come where the client follows."""

import asyncio
from collections.abc import AsyncIterator

from sojourn.api.messages import ApiError, ErrorKind
from sojourn.api.server import Arguments, Peer, StreamHandler
from sojourn.control.roaming_log import RoamingEntry, RoamingLog

MAX_WAITING = 1000
"""Entries that a client may be behind; then it loses the newest rather than the daemon its memory."""


def log_handler(log: RoamingLog) -> StreamHandler:
    """Return the stream handler for `Server.register_stream("log", ...)`.

    Arguments: `limit` (int, newest entries first asked for; absent = all), `follow` (bool).
    """

    async def handle(arguments: Arguments, _peer: Peer) -> AsyncIterator[RoamingEntry]:
        limit, follow = arguments.get("limit"), arguments.get("follow", False)
        if not isinstance(limit, int | None) or not isinstance(follow, bool):
            raise ApiError("log: limit is a number, follow true or false", kind=ErrorKind.USAGE)
        waiting: asyncio.Queue[RoamingEntry] = asyncio.Queue(MAX_WAITING)
        stop = log.listen(lambda entry: None if waiting.full() else waiting.put_nowait(entry))
        try:
            for entry in log.entries(limit):
                yield entry
            while follow:
                yield await waiting.get()
        finally:
            stop()

    return handle
