"""Bytes that come in the moment in which the time is up are there for whoever reads next."""

import asyncio
import socket

from sojourn.linux.receive import receive


def test_nothing_is_lost_when_it_is_cancelled_while_bytes_arrive() -> None:
    async def main() -> bytes:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            heard = b""
            for number in range(200):
                reading = asyncio.ensure_future(receive(ours, 100))
                await asyncio.sleep(0)
                theirs.send(bytes([number]))
                for _ in range(number % 4):  # from before the loop sees it to after the task was told
                    await asyncio.sleep(0)
                reading.cancel()
                try:
                    heard += await reading
                except asyncio.CancelledError:
                    heard += await receive(ours, 100)
            return heard

    assert asyncio.run(main()) == bytes(range(200))


def test_the_end_is_empty() -> None:
    async def main() -> bytes:
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)
            theirs.close()
            return await receive(ours, 100)

    assert asyncio.run(main()) == b""
