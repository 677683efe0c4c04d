"""The event stream: what the daemon's `watch` tells, as server-sent events that the page reads by a streamed fetch.

The daemon is asked once a stream, and nothing is kept between it and the page: while the page does not read, the
daemon's generator stands still (daemon/watch.py). When the daemon goes away the page is told (`away`), and a snapshot
follows as soon as one answers again.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec

from sojourn.api.messages import ApiError
from sojourn.api.stream_client import StreamClient
from sojourn.window.answers import failure

KEEP_ALIVE: Final = 10.0
"""Seconds after which a stream that has nothing to tell says that it lives."""
RETRY_EVERY: Final = 1.0
ALIVE: Final = b": alive\n\n"

_encoder = msgspec.json.Encoder()


def event_of(name: str, value: Any) -> bytes:  # noqa: ANN401 - JSON
    """Return one event (WHATWG HTML §9.2.6); JSON has no newline in it."""
    return b"event: " + name.encode() + b"\ndata: " + _encoder.encode(value) + b"\n\n"


async def feed(client: StreamClient) -> AsyncIterator[bytes]:
    """Yield events for ever."""
    while True:
        source = client.stream("watch")
        try:
            async for chunk in _with_signs_of_life(source):
                yield chunk
        except ApiError as error:
            yield event_of("away", failure(error))
        finally:
            with contextlib.suppress(ApiError):
                await source.aclose()  # type: ignore[attr-defined]
        await asyncio.sleep(RETRY_EVERY)


async def _with_signs_of_life(source: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    pending: asyncio.Future[dict[str, Any]] | None = None
    try:
        while True:
            pending = pending or asyncio.ensure_future(anext(source))
            done, _ = await asyncio.wait((pending,), timeout=KEEP_ALIVE)
            if not done:
                yield ALIVE
                continue
            try:
                item = pending.result()
            except StopAsyncIteration:
                return
            pending = None
            name = item.pop("event")
            yield event_of(name, item)
    finally:
        if pending is not None:
            pending.cancel()
            await asyncio.gather(pending, return_exceptions=True)
