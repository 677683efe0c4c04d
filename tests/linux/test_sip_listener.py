"""What strangers may take of the anchor's SIP ports, with real sockets on loopback."""

import asyncio
import socket
from pathlib import Path

import pytest

from sojourn.linux.sip_listener import Limits, place_of, server_context
from sojourn.model import Endpoint
from tests.linux.sip_ends import HOST, Anchor, Client, anchor, until
from tests.sip.test_message import plain_request

MESSAGE = bytes(plain_request())


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a plain TCP connection."""
    return await asyncio.open_connection(HOST, port)


async def ended(reader: asyncio.StreamReader) -> bool:
    """Wait for the other side to close."""
    try:
        return await asyncio.wait_for(reader.read(), 5) == b""
    except ConnectionResetError:
        return True


def udp_socket() -> socket.socket:
    """Return a non-blocking UDP socket on loopback."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((HOST, 0))
    sock.setblocking(False)
    return sock


def test_tcp_gives_whole_messages_however_they_were_cut(tmp_path: Path) -> None:
    async def run() -> None:
        async with anchor(tmp_path) as there:
            reader, writer = await connect(there.tcp)
            for byte in MESSAGE:
                writer.write(bytes([byte]))
            writer.write(MESSAGE + MESSAGE[:9])
            await until(lambda: len(there.messages) == 2)
            assert [data for *_, data in there.messages] == [MESSAGE, MESSAGE]
            assert there.messages[0][2] == "TCP"
            there.listener.send(there.messages[0][0], there.messages[0][1], b"answer")
            assert await reader.read(100) == b"answer"
            writer.close()

    asyncio.run(run())


def test_a_stream_that_is_no_sip_is_closed_and_counted(tmp_path: Path) -> None:
    async def run() -> None:
        async with anchor(tmp_path) as there:
            reader, writer = await connect(there.tcp)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            assert await ended(reader)
            writer.close()
            assert there.listener.refused == {"start-line": 1}

    asyncio.run(run())


def test_a_stranger_has_small_bodies_and_few_messages_until_trusted(tmp_path: Path) -> None:
    large = plain_request()
    large.body = b"x" * 20000

    async def run() -> None:
        async with anchor(tmp_path, Limits(stranger_messages=3)) as there:
            reader, writer = await connect(there.tcp)
            writer.write(bytes(large))
            assert await ended(reader)
            writer.close()
            reader, writer = await connect(there.tcp)
            writer.write(MESSAGE * 3)
            await until(lambda: len(there.messages) == 3)
            there.listener.trust(there.messages[0][0], there.messages[0][1])
            writer.write(MESSAGE * 5 + bytes(large))
            await until(lambda: len(there.messages) == 9)
            writer.close()
            reader, writer = await connect(there.tcp)
            writer.write(MESSAGE * 4)
            assert await ended(reader)
            writer.close()
            assert there.listener.refused["talkative"] == 1

    asyncio.run(run())


def test_a_handshake_that_does_not_end_is_cut(tmp_path: Path) -> None:
    async def run() -> None:
        async with anchor(tmp_path, Limits(handshake_s=0.1)) as there:
            reader, writer = await connect(there.tls)
            assert await ended(reader)
            writer.close()
            await until(lambda: there.listener.refused["handshake"] == 1)
            assert len(there.closed) == 1

    asyncio.run(run())


def test_a_stranger_goes_after_its_time_and_the_trusted_stay(tmp_path: Path) -> None:
    async def run() -> None:
        async with anchor(tmp_path, Limits(stranger_s=0.2)) as there:
            trusted, stranger = Client(there.tls, there.spki), Client(there.tls, there.spki)
            await until(lambda: trusted.opened and stranger.opened)
            trusted.connection.send(MESSAGE)
            await until(lambda: there.messages)
            there.listener.trust(there.messages[0][0], there.messages[0][1])
            await asyncio.wait_for(stranger.task, 5)
            assert not trusted.task.done()
            trusted.connection.close()
            await trusted.task

    asyncio.run(run())


def test_one_source_has_so_many_strangers_and_no_more(tmp_path: Path) -> None:
    async def run() -> None:
        async with anchor(tmp_path, Limits(strangers_per_source=2)) as there:
            kept = [await connect(there.tcp) for _ in range(2)]
            reader, writer = await connect(there.tcp)
            assert await ended(reader)
            writer.close()
            assert there.listener.refused["connections"] == 1
            kept[0][1].close()
            await until(lambda: there.closed)
            reader, writer = await connect(there.tcp)
            writer.write(MESSAGE)
            await until(lambda: there.messages)
            for _, open_writer in [*kept, (reader, writer)]:
                open_writer.close()

    asyncio.run(run())


def test_all_addresses_of_one_ipv6_customer_are_one_source() -> None:
    assert place_of("2001:db8:0:1::1") == place_of("2001:db8:0:1:ffff:ffff:ffff:ffff")
    assert place_of("2001:db8:0:1::1") != place_of("2001:db8:0:2::1")
    assert place_of("192.0.2.1") != place_of("192.0.2.2")


def test_when_it_is_crowded_the_oldest_stranger_goes(tmp_path: Path) -> None:
    async def run() -> None:
        async with anchor(tmp_path, Limits(strangers=2)) as there:
            first, first_writer = await connect(there.tcp)
            second, second_writer = await connect(there.tcp)
            _third, third_writer = await connect(there.tcp)
            assert await ended(first)
            third_writer.write(MESSAGE)
            await until(lambda: there.messages)
            assert not second.at_eof()
            assert there.listener.refused["crowded"] == 1
            for writer in (first_writer, second_writer, third_writer):
                writer.close()

    asyncio.run(run())


def test_when_all_places_are_taken_the_trusted_one_that_is_silent_for_longest_goes(tmp_path: Path) -> None:
    async def run() -> None:
        async with anchor(tmp_path, Limits(connections=2)) as there:
            hosts = []
            for number in range(2):
                reader, writer = await connect(there.tcp)
                writer.write(MESSAGE)
                await until(lambda number=number: len(there.messages) == number + 1)
                there.listener.trust(there.messages[-1][0], there.messages[-1][1])
                hosts.append((reader, writer))
            hosts[0][1].write(MESSAGE)
            await until(lambda: len(there.messages) == 3)
            _, newcomer = await connect(there.tcp)
            assert await ended(hosts[1][0])
            newcomer.write(MESSAGE)
            hosts[0][1].write(MESSAGE)
            await until(lambda: len(there.messages) == 5)
            assert there.listener.refused["crowded"] == 1
            for _, writer in [*hosts, (None, newcomer)]:
                writer.close()

    asyncio.run(run())


def test_a_datagram_is_answered_from_the_port_it_came_to(tmp_path: Path) -> None:
    async def run() -> None:
        async with anchor(tmp_path) as there:
            with udp_socket() as sock:
                sock.sendto(MESSAGE, (HOST, there.udp))
                await until(lambda: there.messages)
                origin, source, transport, data = there.messages[0]
                assert (source, transport, data) == (Endpoint(*sock.getsockname()), "UDP", MESSAGE)
                there.listener.send(origin, source, b"answer")
                loop = asyncio.get_running_loop()
                assert await loop.sock_recvfrom(sock, 100) == (b"answer", (HOST, there.udp))

    asyncio.run(run())


def test_a_stranger_gets_by_datagram_at_most_three_times_what_it_sent(tmp_path: Path) -> None:
    async def run() -> None:
        async with anchor(tmp_path) as there:
            with udp_socket() as sock:
                sock.sendto(MESSAGE, (HOST, there.udp))
                await until(lambda: there.messages)
                origin, source, *_ = there.messages[0]
                for _ in range(5):
                    there.listener.send(origin, source, b"x" * len(MESSAGE))
                there.listener.send(origin, Endpoint("127.0.0.2", 9), b"x")
                await asyncio.sleep(0.05)
                received = [sock.recv(9999) for _ in range(3)]
                assert sum(map(len, received)) == 3 * len(MESSAGE)
                with pytest.raises(BlockingIOError):
                    sock.recv(9999)
                assert there.listener.refused["amplification"] == 3
                there.listener.trust(origin, source)
                there.listener.send(origin, source, b"x" * 9000)
                await asyncio.sleep(0.05)
                assert len(sock.recv(9999)) == 9000

    asyncio.run(run())


def test_one_source_has_so_many_datagrams_a_second(tmp_path: Path) -> None:
    async def run() -> None:
        async with anchor(tmp_path, Limits(datagrams_per_second=1, datagram_burst=5)) as there:
            with udp_socket() as sock:
                for _ in range(20):
                    sock.sendto(MESSAGE, (HOST, there.udp))
                await until(lambda: there.listener.refused["rate"] == 15)
                assert len(there.messages) == 5

    asyncio.run(run())


def test_keep_alives_are_no_messages(tmp_path: Path) -> None:
    async def run() -> None:
        async with anchor(tmp_path) as there:
            with udp_socket() as sock:
                for data in (b"\r\n\r\n", b"\0", b"", MESSAGE):
                    sock.sendto(data, (HOST, there.udp))
                await until(lambda: there.messages)
                assert [data for *_, data in there.messages] == [MESSAGE]

    asyncio.run(run())


def test_only_so_many_udp_sources_are_remembered(tmp_path: Path) -> None:
    async def run() -> None:
        async with anchor(tmp_path, Limits(sources=3)) as there:
            for last in range(1, 9):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                    sock.bind((f"127.0.0.{last}", 0))
                    sock.sendto(MESSAGE, (HOST, there.udp))
            await until(lambda: len(there.messages) == 8)
            (port,) = there.listener._udp.values()
            assert len(port._sources) == 3

    asyncio.run(run())


def test_sending_to_an_origin_that_is_gone_changes_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with anchor(tmp_path) as there:
            there.listener.send(999, Endpoint(HOST, 9), b"x")
            there.listener.trust(999, Endpoint(HOST, 9))

    asyncio.run(run())


def test_a_port_in_use_is_an_os_error(tmp_path: Path) -> None:
    there = Anchor(tmp_path)
    with pytest.raises(OSError, match="in use"):
        there.listener.tcp(HOST, there.tcp)
    with pytest.raises(OSError, match="in use"):
        there.listener.udp(HOST, there.udp)
    there.listener.close()


def test_a_key_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        server_context(tmp_path / "anchor.crt", tmp_path / "anchor.key")
