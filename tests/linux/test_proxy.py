"""The proxy that puts a program on one network: what it takes, whom it serves, and where its connections leave."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.linux import proxy
from sojourn.linux.proxy import Proxy, Request, parse
from sojourn.model import Network
from tests.linux.namespace import in_new_namespace

NETWORK, SERVER = Network("wifi", "lo", "127.0.0.5", None, "wifi"), "127.0.0.1"
NOBODY = 65534


def test_a_request_in_absolute_form_is_sent_on_in_origin_form_without_what_is_for_the_proxy() -> None:
    head = (
        b"GET http://portal.example:8080/a?b=c HTTP/1.1\r\nHost: portal.example:8080\r\n"
        b"Proxy-Connection: keep-alive\r\nConnection: keep-alive\r\nCookie: x=1\r\n\r\n"
    )
    wanted = b"GET /a?b=c HTTP/1.1\r\nHost: portal.example:8080\r\nCookie: x=1\r\nConnection: close\r\n\r\n"
    assert parse(head) == Request("portal.example", 8080, wanted)


def test_connect_names_an_address_only() -> None:
    assert parse(b"CONNECT portal.example:443 HTTP/1.1\r\nHost: x\r\n\r\n") == Request("portal.example", 443, b"")
    assert parse(b"CONNECT [2001:db8::1]:8443 HTTP/1.1\r\n\r\n") == Request("2001:db8::1", 8443, b"")


@pytest.mark.parametrize(
    "line",
    [b"", b"GET / HTTP/1.1", b"GET https://a.example/ HTTP/1.1", b"CONNECT a.example HTTP/1.1", b"\x05\x01\x00",
     b"CONNECT :443 HTTP/1.1", b"GET http://[::1 HTTP/1.1", b"GET http://a.example:x/ HTTP/1.1",
     b"get http://a.example/ HTTP/1.1"],
)  # fmt: skip
def test_what_is_no_request_to_a_proxy_is_refused(line: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse(line + b"\r\n\r\n")


@given(st.binary(max_size=200), st.sampled_from([b"", b"GET http://", b"CONNECT "]))
def test_any_bytes_are_a_request_or_refused(data: bytes, head: bytes) -> None:
    try:
        assert parse(head + data).host
    except RemoteProtocolError:
        return


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    data = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    return data


def played(scene: Callable[[Proxy, list[str]], Awaitable[None]]) -> None:
    """Play a scene with a proxy on a network of one address; a server tells each client from where it came."""

    async def run() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            source = writer.get_extra_info("peername")[0].encode()
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + source + b" asked " + head.split(b"\r\n")[0])
            writer.close()

        asked: list[str] = []

        async def resolve(name: str) -> list[str]:
            asked.append(name)
            if name == "nowhere.example":
                raise OSError("nowhere.example: no such name")
            return ["2001:db8::1", SERVER]

        server = await asyncio.start_server(serve, SERVER, 80)
        async with Proxy(NETWORK, resolve) as proxy:
            await scene(proxy, asked)
        server.close()
        await server.wait_closed()

    in_new_namespace(lambda: asyncio.run(run()))


def test_connections_leave_from_the_networks_address_and_names_are_resolved_there() -> None:
    async def scene(proxy: Proxy, asked: list[str]) -> None:
        data = await ask(proxy.port, b"GET http://portal.example/login HTTP/1.1\r\nHost: portal.example\r\n\r\n")
        assert data == b"HTTP/1.1 200 OK\r\n\r\n127.0.0.5 asked GET /login HTTP/1.1"
        assert asked == ["portal.example"]

    played(scene)


def test_a_tunnelled_connection_carries_bytes_as_they_are() -> None:
    async def scene(proxy: Proxy, _asked: list[str]) -> None:
        request = b"CONNECT portal.example:80 HTTP/1.1\r\n\r\nGET /inside HTTP/1.1\r\n\r\n"
        data = await ask(proxy.port, request)
        assert data == b"HTTP/1.1 200 Connected\r\n\r\nHTTP/1.1 200 OK\r\n\r\n127.0.0.5 asked GET /inside HTTP/1.1"

    played(scene)


def test_what_cannot_be_reached_is_answered_in_words() -> None:
    async def scene(proxy: Proxy, _asked: list[str]) -> None:
        data = await ask(proxy.port, b"GET http://nowhere.example/ HTTP/1.1\r\n\r\n")
        assert data.startswith(b"HTTP/1.1 502 ")
        assert b"no such name" in data
        assert (await ask(proxy.port, b"GET http://a.example:81/ HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 502 ")
        assert (await ask(proxy.port, b"rubbish\r\n\r\n")).startswith(b"HTTP/1.1 400 ")

    played(scene)


def test_whose_a_connection_is_says_the_one_with_both_ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same port may have another connection, in TIME_WAIT, which nobody owns."""
    table = tmp_path / "tcp"
    line = "   0: 0100007F:9C40 0100007F:{} {} 00000000:00000000 00:00000000 00000000 {:5} 0 1 1 0\n"
    table.write_text(
        "  sl  local_address rem_address\n" + line.format("0050", "06", 0) + line.format("2710", "01", 1000)
    )
    monkeypatch.setattr(proxy, "SOCKETS", table)
    assert proxy._user_of(40000, 10000) == 1000
    assert proxy._user_of(40000, 81) is None


def test_another_user_of_this_machine_gets_nothing() -> None:
    program = (
        "import os, socket, sys; os.setuid(int(sys.argv[2]));"
        "s = socket.create_connection(('127.0.0.1', int(sys.argv[1])));"
        "s.sendall(b'GET http://a.example/ HTTP/1.1\\r\\n\\r\\n'); print(len(s.recv(100)))"
    )

    async def scene(proxy: Proxy, asked: list[str]) -> None:
        for user, found in ((os.getuid(), True), (NOBODY, False)):
            said = await asyncio.to_thread(
                subprocess.run, [sys.executable, "-c", program, str(proxy.port), str(user)],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert (said.stdout.strip() not in ("", "0")) is found, said
        assert asked == ["a.example"]

    played(scene)
