"""A SIP listener with an anchor's keys on loopback, and a client for it that notes what happens."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from sojourn.linux.sip_listener import Limits, SipListener
from sojourn.linux.sip_transport import TlsClient
from sojourn.model import Endpoint
from sojourn.store import keys
from sojourn.store.config_dir import ConfigDir

HOST = "127.0.0.1"


class Anchor:
    """A listener on ports that the system chose. It notes messages and closed origins."""

    def __init__(self, directory: Path, limits: Limits | None = None) -> None:
        config = ConfigDir(str(directory))
        self.spki = keys.make(config, HOST).spki
        self.messages: list[tuple[int, Endpoint, str, bytes]] = []
        self.closed: list[int] = []
        self.listener = SipListener(lambda *message: self.messages.append(message), self.closed.append, limits)
        self.tls = self.listener.tls(HOST, 0, config.anchor_certificate, config.anchor_key)
        self.tcp = self.listener.tcp(HOST, 0)
        self.udp = self.listener.udp(HOST, 0)


@contextlib.asynccontextmanager
async def anchor(directory: Path, limits: Limits | None = None) -> AsyncIterator[Anchor]:
    """Run an anchor's listener for the length of a test."""
    made = Anchor(directory, limits)
    serving = asyncio.ensure_future(made.listener.run())
    await asyncio.sleep(0)
    try:
        yield made
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


class Client:
    """A TlsClient and what it said."""

    def __init__(
        self, port: int, spki: bytes, *, source: str = HOST, interface: str | None = None, open_timeout: float = 5.0
    ) -> None:
        self.opened: list[Endpoint] = []
        self.received = bytearray()
        self.closed: list[str] = []
        self.connection = TlsClient(
            Endpoint(HOST, port),
            spki=spki,
            source=source,
            interface=interface,
            on_open=self.opened.append,
            on_message=self.received.extend,
            on_close=self.closed.append,
            open_timeout=open_timeout,
        )
        self.task = asyncio.ensure_future(self.connection.run())


async def until(condition: object, seconds: float = 5.0) -> None:
    """Wait for a callable to be true, or fail."""
    assert callable(condition)
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - a test looks from outside
            await asyncio.sleep(0.005)
