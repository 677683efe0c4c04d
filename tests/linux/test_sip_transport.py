"""The host's connection against real sockets and the real listener, on loopback."""

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from sojourn.linux.sip_transport import WrongKey, check_key, client_context, endpoint
from sojourn.model import Endpoint
from tests.linux.namespace import in_new_namespace, ip
from tests.linux.sip_ends import HOST, Client, anchor, until
from tests.sip.test_message import plain_request

MESSAGE = bytes(plain_request())


def test_bytes_pass_both_ways_once_the_key_was_compared(tmp_path: Path) -> None:
    async def run() -> None:
        async with anchor(tmp_path) as there:
            here = Client(there.tls, there.spki)
            await until(lambda: here.opened)
            here.connection.send(MESSAGE)
            await until(lambda: there.messages)
            origin, source, transport, data = there.messages[0]
            assert (source, transport, data) == (here.opened[0], "TLS", MESSAGE)
            there.listener.send(origin, source, b"answer")
            await until(lambda: here.received == b"answer")
            here.connection.close()
            await here.task
            assert here.closed == ["closed here"]
            await until(lambda: there.closed == [origin])

    asyncio.run(run())


def test_another_key_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    async def run() -> None:
        async with anchor(tmp_path) as there:
            here = Client(there.tls, b"\0" * 32)
            here.connection.send(MESSAGE)
            await here.task
            assert here.opened == []
            assert len(here.closed) == 1
            assert "does not hold the key of your anchor" in here.closed[0]
            assert there.spki.hex() in here.closed[0]
            await until(lambda: there.closed)
            assert there.messages == []

    asyncio.run(run())


def test_what_was_sent_before_close_still_arrives(tmp_path: Path) -> None:
    async def run() -> None:
        async with anchor(tmp_path) as there:
            here = Client(there.tls, there.spki)
            await until(lambda: here.opened)
            here.connection.send(MESSAGE)
            here.connection.close()
            await here.task
            await until(lambda: there.messages)

    asyncio.run(run())


def test_nobody_there_is_one_clear_line() -> None:
    async def run() -> None:
        with socket.socket() as free:
            free.bind((HOST, 0))
            port = free.getsockname()[1]
            here = Client(port, b"\0" * 32)
            await here.task
        assert here.closed == [f"{HOST} port {port} refuses connections: is `sojourn anchor` running there?"]

    asyncio.run(run())


def test_a_peer_that_says_nothing_is_given_up_in_time() -> None:
    async def run() -> None:
        with socket.socket() as silent:
            silent.bind((HOST, 0))
            silent.listen()
            port = silent.getsockname()[1]
            here = Client(port, b"\0" * 32, open_timeout=0.2)
            await asyncio.wait_for(here.task, 3)
        assert here.closed == [f"no answer from {HOST} port {port} within 0.2 s"]

    asyncio.run(run())


def test_giving_up_while_connecting_ends_at_once() -> None:
    async def run() -> None:
        with socket.socket() as silent:
            silent.bind((HOST, 0))
            silent.listen()
            here = Client(silent.getsockname()[1], b"\0" * 32, open_timeout=60)
            await asyncio.sleep(0.05)
            here.connection.close()
            await asyncio.wait_for(here.task, 3)
        assert (here.opened, here.closed) == ([], ["closed here"])

    asyncio.run(run())


def test_an_older_tls_is_refused(tmp_path: Path) -> None:
    async def run() -> None:
        async with anchor(tmp_path) as there:
            old = client_context()
            old.minimum_version = ssl.TLSVersion.TLSv1_2
            old.maximum_version = ssl.TLSVersion.TLSv1_2
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asyncio.open_connection(HOST, there.tls, ssl=old, server_hostname="x")

    asyncio.run(run())


def test_a_server_without_tls_is_said() -> None:
    async def run() -> None:
        async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"SIP/2.0 400 Bad Request\r\n\r\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(plain, HOST, 0)
        port = server.sockets[0].getsockname()[1]
        here = Client(port, b"\0" * 32)
        await here.task
        server.close()
        assert here.closed[0].startswith(f"no TLS 1.3 with {HOST} port {port}")

    asyncio.run(run())


def test_an_address_that_is_gone_is_said() -> None:
    async def run() -> None:
        here = Client(9, b"\0" * 32, source="192.0.2.77")
        await here.task
        assert here.closed == [f"cannot connect to {HOST} port 9: Cannot assign requested address"]

    asyncio.run(run())


def test_the_end_of_the_connection_is_told(tmp_path: Path) -> None:
    async def run() -> None:
        async with anchor(tmp_path) as there:
            here = Client(there.tls, there.spki)
            await until(lambda: here.opened)
            here.connection.send(MESSAGE)
            await until(lambda: there.messages)
            there.listener.close()
            await here.task
            assert len(here.closed) == 1

    asyncio.run(run())


def test_the_socket_is_bound_to_its_interface(tmp_path: Path) -> None:
    """Over `lo` it connects, over another device it finds nobody."""

    def work() -> None:
        ip("link add sjs0 type veth peer name sjs1")
        ip("link set sjs0 up")

        async def run() -> None:
            async with anchor(tmp_path) as there:
                over_lo = Client(there.tls, there.spki, interface="lo")
                await until(lambda: over_lo.opened)
                over_lo.connection.close()
                await over_lo.task
                elsewhere = Client(there.tls, there.spki, interface="sjs0", open_timeout=0.5)
                await elsewhere.task
                assert elsewhere.opened == []
                missing = Client(there.tls, there.spki, interface="sjs9")
                await missing.task
                assert missing.closed == [f"cannot connect to {HOST} port {there.tls}: No such device"]

        asyncio.run(run())

    in_new_namespace(work)


@pytest.mark.parametrize("certificate", [None, b"", b"\x30\x03\x02\x01\x01"])
def test_a_certificate_that_cannot_be_read_is_the_wrong_key(certificate: bytes | None) -> None:
    with pytest.raises(WrongKey):
        check_key(certificate, b"\0" * 32, Endpoint(HOST, 1))


def test_addresses_are_written_as_everywhere() -> None:
    assert endpoint(("::ffff:192.0.2.1", 5, 0, 0)) == Endpoint("192.0.2.1", 5)
    assert endpoint(("2001:db8::1", 5, 0, 0)) == Endpoint("2001:db8::1", 5)
