"""The probe for captive portals, over one network of a namespace: against a portal, a deaf server, and rubbish."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import cast

import pytest

from sojourn.control.config import PortalConfig
from sojourn.control.portal_answer import Finding, Verdict
from sojourn.linux import dns as system_dns
from sojourn.linux import network_dns, portal
from sojourn.linux.network_dns import resolve, servers_of
from sojourn.linux.portal import probe
from sojourn.model import Network
from tests.harness.portal import Portal
from tests.linux.namespace import in_new_namespace

HERE, SERVER = Network("wifi", "lo", "127.0.0.5", "192.0.2.1", "wifi"), "127.0.0.1"
BY_NAME = PortalConfig("http://probe.example/generate_204", "204")
BY_ADDRESS = PortalConfig(f"http://{SERVER}/generate_204", "204")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_dns, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(portal, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(portal, "BODY_SECONDS", 0.3)


def on_a_network(scene: Callable[[], Coroutine[None, None, None]]) -> None:
    """Play a scene in a namespace whose loopback is the network, and has the portal's ports."""
    in_new_namespace(lambda: asyncio.run(scene()))


def test_a_closed_portal_is_found_with_its_address_and_an_open_one_is_open() -> None:
    async def scene() -> None:
        opened = False
        async with Portal(SERVER, lambda: opened):
            found = await probe(HERE, BY_NAME, [SERVER])
            assert found == Finding(Verdict.CAPTIVE, f"http://{SERVER}/login?for=/generate_204")
            assert await probe(HERE, BY_ADDRESS, []) == found
            opened = True
            assert await probe(HERE, BY_NAME, [SERVER]) == Finding(Verdict.OPEN)

    on_a_network(scene)


def test_without_an_answer_nothing_is_said() -> None:
    async def scene() -> None:
        assert await probe(HERE, BY_ADDRESS, []) == Finding(Verdict.UNKNOWN)  # refused
        assert await probe(HERE, BY_NAME, []) == Finding(Verdict.UNKNOWN)  # no DNS server
        assert await probe(HERE, BY_NAME, ["192.0.2.77"]) == Finding(Verdict.UNKNOWN)  # one that is not there
        assert await probe(HERE, PortalConfig(""), []) == Finding(Verdict.UNKNOWN)
        gone = Network("gone", "nowhere0", "192.0.2.9")
        assert await probe(gone, BY_ADDRESS, []) == Finding(Verdict.UNKNOWN)

    on_a_network(scene)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (b"", Verdict.UNKNOWN),
        (b"220 mail.example ESMTP\r\n", Verdict.UNKNOWN),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200_000, Verdict.CAPTIVE),
        (b"HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\n\r\n", Verdict.OPEN),
    ],
)
def test_an_answer_that_never_ends_or_is_none_is_survived(answer: bytes, verdict: Verdict) -> None:
    async def scene() -> None:
        held = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1000)
            writer.write(answer)
            held.append(writer)
            if not answer:
                writer.close()

        server = await asyncio.start_server(serve, SERVER, 80)
        assert (await probe(HERE, BY_ADDRESS, [])).verdict is verdict
        for writer in held:
            writer.transport.abort()
        server.close()
        await server.wait_closed()

    on_a_network(scene)


def test_names_are_asked_for_and_an_answer_to_another_question_is_passed_over() -> None:
    class Confused(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast(asyncio.DatagramTransport, transport)

        def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
            record = b"\xc0\x0c\0\1\0\1\0\0\0\5\0\4"
            head = b"\x81\x80\0\1\0\1\0\0\0\0" + data[12:] + record
            self.transport.sendto(b"rubbish", address)
            self.transport.sendto(bytes([data[0] ^ 1]) + data[1:2] + head + b"\1\1\1\1", address)
            self.transport.sendto(data[:2] + head + b"\2\2\2\2", address)

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Confused, local_addr=(SERVER, 53))
        assert await resolve("a.example", HERE, [SERVER]) == ["2.2.2.2"]
        assert await resolve("198.51.100.1", HERE, []) == ["198.51.100.1"]
        with pytest.raises(OSError, match="no host name"):
            await resolve("a..b", HERE, [SERVER])
        transport.close()

    on_a_network(scene)


def test_the_surest_source_of_dns_servers_goes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(network_dns, "RESOLVED", tmp_path / "none")
    monkeypatch.setattr(system_dns, "nameservers", lambda: ["127.0.0.53", "203.0.113.53", "2001:db8::53"])
    six = Network("wifi-6", "wifi0", "2001:db8::5", "fe80::1")

    async def scene() -> None:
        assert await servers_of(HERE, ["198.51.100.53", "2001:db8::1"]) == ["198.51.100.53"]
        assert await servers_of(HERE, ["2001:db8::1"]) == ["203.0.113.53"]
        assert await servers_of(six) == ["2001:db8::53"]
        monkeypatch.setattr(system_dns, "nameservers", lambda: ["127.0.0.53", "nonsense"])
        assert await servers_of(HERE) == ["192.0.2.1"]
        assert await servers_of(six) == []
        run = tmp_path / "resolvectl"
        run.write_text("#!/bin/sh\necho 'Link 3 (wifi0): 192.0.2.53 2001:db8::54'\n")
        run.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        monkeypatch.setattr(network_dns, "RESOLVED", tmp_path)
        assert await servers_of(HERE) == ["192.0.2.53"]
        assert await servers_of(six) == ["2001:db8::54"]

    asyncio.run(scene())
