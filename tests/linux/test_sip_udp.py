"""SIP over UDP, and over TCP in the clear, against the real listener on loopback."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sojourn.linux.sip_client import SipClient, sip_client
from sojourn.linux.sip_transport import TcpClient, TlsClient
from sojourn.linux.sip_udp import UdpClient
from sojourn.model import Endpoint
from tests.linux.sip_ends import HOST, anchor, until
from tests.sip.test_message import plain_request

MESSAGE = bytes(plain_request())


class Client:
    """A client of any kind and what it said."""

    def __init__(self, transport: str, port: int, spki: bytes = bytes(32), source: str = HOST) -> None:
        self.opened: list[Endpoint] = []
        self.received: list[bytes] = []
        self.closed: list[str] = []
        self.connection: SipClient = sip_client(
            transport, Endpoint(HOST, port), spki=spki, source=source, interface=None,
            on_open=self.opened.append, on_message=self.received.append, on_close=self.closed.append,
        )  # fmt: skip
        self.task = asyncio.ensure_future(self.connection.run())


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


@pytest.mark.parametrize(("transport", "kind"), [("udp", UdpClient), ("tcp", TcpClient), ("tls", TlsClient)])
def test_messages_pass_both_ways_and_the_end_is_told_once(transport: str, kind: type, tmp_path: Path) -> None:
    async def test() -> None:
        async with anchor(tmp_path) as there:
            here = Client(transport, getattr(there, transport), there.spki)
            assert type(here.connection) is kind
            await until(lambda: here.opened)
            here.connection.send(MESSAGE)
            await until(lambda: there.messages)
            origin, source, by, data = there.messages[0]
            assert (source, by, data) == (here.opened[0], transport.upper(), MESSAGE)
            there.listener.send(origin, source, b"answer")
            await until(lambda: here.received == [b"answer"])
            here.connection.close()
            await here.task
            assert here.closed == ["closed here"]
            here.connection.send(MESSAGE)

    run(test)


@pytest.mark.parametrize(
    ("transport", "why"),
    [
        ("udp", "refuses datagrams: is `sojourn anchor` running there, with sip_plain = true?"),
        ("tcp", "refuses connections: is `sojourn anchor` running there?"),
    ],
)
def test_nobody_there_is_one_clear_line(transport: str, why: str) -> None:
    async def test() -> None:
        kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
        with socket.socket(type=kind) as free:
            free.bind((HOST, 0))
            port = free.getsockname()[1]
        here = Client(transport, port)
        if transport == "udp":
            await until(lambda: here.opened)
            here.connection.send(MESSAGE)
        await here.task
        assert here.closed == [f"{HOST} port {port} {why}"]

    run(test)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_an_address_that_is_not_there_any_more_is_told(transport: str) -> None:
    async def test() -> None:
        here = Client(transport, 5060, source="192.0.2.1")
        await here.task
        ((why),) = here.closed
        assert why.endswith("Cannot assign requested address")

    run(test)


def test_nobody_but_the_anchor_is_heard_over_udp(tmp_path: Path) -> None:
    async def test() -> None:
        async with anchor(tmp_path) as there:
            here = Client("udp", there.udp)
            await until(lambda: here.opened)
            with socket.socket(type=socket.SOCK_DGRAM) as other:
                other.sendto(b"forged", (HOST, here.opened[0].port))
            here.connection.send(MESSAGE)
            await until(lambda: there.messages)
            there.listener.send(there.messages[0][0], here.opened[0], b"answer")
            await until(lambda: here.received)
            assert here.received == [b"answer"]
            here.connection.close()
            await here.task

    run(test)


def test_a_client_that_is_closed_before_it_opened_ends_at_once() -> None:
    async def test() -> None:
        here = Client("udp", 5060)
        here.connection.close()
        await here.task
        assert (here.opened, here.closed) == ([], ["closed here"])

    run(test)
