"""DNS answers that come in by an interface, as a packet socket with a filter shows them."""

import asyncio
import os
import socket

import pytest

from sojourn.linux import dns_tap
from sojourn.linux.tun import Tun
from sojourn.model import TCP, Endpoint
from sojourn.packet import vnet
from sojourn.packet.ip import udp_packet
from tests.linux.namespace import in_new_namespace, ip

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: TUN devices and network namespaces")

DEVICE = "pl-tun"
SERVER, SERVER6 = Endpoint("10.201.0.1", 53), Endpoint("fd00::1", 53)
ME, ME6 = Endpoint("10.201.0.9", 40000), Endpoint("fd00::9", 40000)


def arrive(packets: list[bytes], wanted: int) -> list[tuple[str, bytes]]:
    """Let packets come in by a TUN device; return the first answers that are read."""

    async def work() -> list[tuple[str, bytes]]:
        tun = Tun.open(DEVICE)
        ip(f"addr add {ME.address}/24 dev {DEVICE}")
        ip(f"addr add {ME6.address}/64 dev {DEVICE} nodad")
        ip(f"link set {DEVICE} up")
        source = dns_tap.answers(DEVICE)
        first = asyncio.ensure_future(anext(source))
        await asyncio.sleep(0.1)
        for packet in packets:
            os.write(tun.fd, bytes(vnet.VnetHeader()) + packet)
        found = [await asyncio.wait_for(first, 5)]
        for _ in range(wanted - 1):
            found.append(await asyncio.wait_for(anext(source), 5))
        await source.aclose()  # type: ignore[attr-defined]
        tun.close()
        return found

    return in_new_namespace(lambda: asyncio.run(work()))


def test_answers_over_ipv4_and_ipv6_are_read_and_nothing_else_is() -> None:
    other = udp_packet(Endpoint(SERVER.address, 54), ME, b"not DNS")
    question = udp_packet(Endpoint(SERVER.address, 4000), Endpoint(ME.address, 53), b"a question")
    tcp = bytearray(udp_packet(SERVER, ME, b"not UDP"))
    tcp[9] = TCP
    fragment = bytearray(udp_packet(SERVER, ME, b"a later fragment"))
    fragment[6:8] = (0x2001).to_bytes(2)
    found = arrive(
        [
            other,
            question,
            bytes(tcp),
            bytes(fragment),
            udp_packet(SERVER, ME, b"four"),
            udp_packet(SERVER6, ME6, b"six"),
        ],
        2,
    )
    assert found == [(SERVER.address, b"four"), (SERVER6.address, b"six")]


def test_a_device_that_is_not_there_is_an_os_error() -> None:
    async def work() -> None:
        await anext(dns_tap.answers("pl-none"))

    with pytest.raises(OSError):
        asyncio.run(work())


def test_what_we_send_ourselves_is_no_answer() -> None:
    def work() -> list[int]:
        async def look() -> list[int]:
            tun = Tun.open(DEVICE)
            ip(f"addr add {ME.address}/24 dev {DEVICE}")
            ip(f"link set {DEVICE} up")
            first = asyncio.ensure_future(anext(dns_tap.answers(DEVICE)))
            await asyncio.sleep(0.1)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
                server.bind((ME.address, 53))
                server.sendto(b"we answer somebody", (SERVER.address, 4000))
            done, _ = await asyncio.wait({first}, timeout=0.3)
            first.cancel()
            tun.close()
            return [len(done)]

        return asyncio.run(look())

    assert in_new_namespace(work) == [0]
