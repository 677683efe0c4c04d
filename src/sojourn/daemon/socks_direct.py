"""Where a host daemon runs, its tunnels keep connections alive: what applications ask for is then opened plainly."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Final

from sojourn.api.client import Client
from sojourn.api.messages import HOST_SOCKET
from sojourn.control.socks_access import Access
from sojourn.control.socks_config import SocksConfig
from sojourn.daemon.driver import now
from sojourn.daemon.socks_open import NotOpened, Opener
from sojourn.errors import SojournError
from sojourn.linux.relay import Over, Relay
from sojourn.linux.stream_file import private_session
from sojourn.msocks.socks5 import Address

LOOK: Final = 5.0
"""Seconds for which the answer to "is one there?" holds."""
BUFFER_BYTES: Final = 256 * 1024


class Direct:
    """Connections of applications that somebody else keeps alive."""

    def __init__(self, path: str = HOST_SOCKET) -> None:
        self._path = path
        self._looked = -LOOK
        self._there = False
        self._opener = Opener(Access(SocksConfig(), (), ()))
        self._relays: set[Relay] = set()

    async def there(self) -> bool:
        """Say whether a host daemon carries this machine's traffic."""
        if now() >= self._looked + LOOK:
            self._looked = now()
            self._there = await asyncio.to_thread(host_daemon_carries, self._path)
        return self._there

    async def serve(
        self,
        near: socket.socket,
        to: Address,
        first: bytes,
        opened: Callable[[], bytes],
        failed: Callable[[int], bytes],
    ) -> bool:
        """Open and carry one connection; say whether it was opened."""
        loop = asyncio.get_running_loop()
        try:
            far = await self._opener.connect("", to)
        except NotOpened as error:
            await loop.sock_sendall(near, failed(error.code))
            return False
        await loop.sock_sendall(near, opened())
        session = private_session(BUFFER_BYTES)
        session.out.space()[: len(first)] = first
        session.out.took(len(first))

        def over(_how: Over) -> None:
            self._relays.discard(relay)

        relay = Relay(near, session, returns=False, on_leg_lost=lambda: None, on_over=over)
        self._relays.add(relay)
        relay.start(far)
        return True

    def close(self) -> None:
        """End everything."""
        for relay in self._relays:
            relay.close(reset=True)
        self._relays.clear()
        self._opener.close()


def host_daemon_carries(path: str) -> bool:
    """Ask a host daemon whether it is there and associated."""
    with contextlib.suppress(SojournError, OSError):
        return bool(Client(path).call("status").get("state") == "associated")
    return False
