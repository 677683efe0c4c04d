"""How a daemon is told to end, and what then becomes of all that its flows stand on.

    SIGTERM, SIGINT  a clean stop: nothing stays, neither in the kernel nor in the anchor's table
    SIGUSR2          make way: a successor is about to start (an upgrade). The data path goes on for 60 s, and
                     device, routes and NAT stay, until it adopts them; no flow is touched
    a failure        like SIGUSR2, with an exit code: whoever starts next adopts what stands

The last word counts: SIGTERM after SIGUSR2 is a clean stop, as long as it comes in time.
"""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any


class Ending:
    """One daemon's end. `wait` returns when it has come; `clean` and `failed` say which it is."""

    def __init__(self) -> None:
        self.failed: BaseException | None = None
        self.makes_way = False
        self._told = asyncio.Event()

    def listen(self) -> None:
        """Take the signals."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGUSR2, self.make_way)

    @property
    def clean(self) -> bool:
        """Nothing is to stay."""
        return self.failed is None and not self.makes_way

    def stop(self) -> None:
        """Order a clean stop."""
        self.makes_way = False
        self._told.set()

    def make_way(self) -> None:
        """Order an end that a successor goes on from."""
        self.makes_way = True
        self._told.set()

    def fail(self, error: BaseException) -> None:
        """End because of an error; the first one is the one that is told."""
        self.failed = self.failed or error
        self._told.set()

    async def wait(self) -> None:
        """Wait until it is time."""
        await self._told.wait()

    async def unless_told(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do `work`, a set-up that may take its time, but end it at once when told to; say whether it was done."""
        working = asyncio.ensure_future(work)
        told = asyncio.ensure_future(self._told.wait())
        try:
            await asyncio.wait((working, told), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (working, told):
                if not task.done():
                    task.cancel()
            await asyncio.gather(told, return_exceptions=True)
        if not working.done():
            await asyncio.gather(working, return_exceptions=True)
        if working.cancelled():
            return False
        working.result()
        return True
