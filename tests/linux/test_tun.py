import os
import select
import socket
from collections.abc import Iterator

import pytest

from sojourn.linux.tun import Tun
from sojourn.model import UDP, Endpoint
from sojourn.packet import vnet
from sojourn.packet.gso import finish, split
from sojourn.packet.ip import parse, udp_packet
from sojourn.packet.vnet import VnetHeader
from tests.linux.namespace import in_new_namespace, ip
from tests.packet.build import checksums_hold

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: TUN devices and network namespaces")

HERE, THERE = Endpoint("10.201.0.1", 4000), Endpoint("10.201.0.9", 5000)


opened: list[Tun] = []


@pytest.fixture(autouse=True)
def _close_devices() -> Iterator[None]:
    yield
    while opened:
        opened.pop().close()


def device(tso: bool = True, uso: bool = True) -> Tun:
    tun = Tun.open("sjp-tun", tso=tso, uso=uso)
    opened.append(tun)
    ip(f"addr add {HERE.address}/24 dev sjp-tun")
    ip("link set sjp-tun mtu 1400 up")
    return tun


def read_all(tun: Tun) -> list[bytes]:
    """Everything that the kernel sends out by the device within a moment, IPv6 noise left out."""
    packets: list[bytes] = []
    while select.select([tun.fd], [], [], 0.2)[0]:
        data = tun.read()
        assert data is not None
        if data[10] >> 4 == 4:
            packets += finish(data[10:], vnet.parse(data))
    return packets


def test_a_datagram_comes_out_whole_and_with_its_checksum() -> None:
    def work() -> list[bytes]:
        tun = device()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((HERE.address, HERE.port))
            sock.sendto(b"hello", (THERE.address, THERE.port))
        return read_all(tun)

    packets = in_new_namespace(work)
    assert [packet[28:] for packet in packets] == [b"hello"]
    assert checksums_hold(packets[0])


@pytest.mark.parametrize("uso", [True, False])
def test_a_train_of_datagrams_arrives_the_same_with_and_without_uso(uso: bool) -> None:
    def work() -> list[bytes]:
        tun = device(uso=uso)
        assert tun.uso <= uso
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(17, 103, 1000)
            sock.bind((HERE.address, HERE.port))
            sock.sendto(bytes(range(250)) * 14, (THERE.address, THERE.port))
        return read_all(tun)

    packets = in_new_namespace(work)
    assert [len(packet) - 28 for packet in packets] == [1000, 1000, 1000, 500]
    assert all(checksums_hold(packet) for packet in packets)
    assert b"".join(packet[28:] for packet in packets) == bytes(range(250)) * 14


def test_what_is_written_as_a_super_packet_is_received_as_datagrams() -> None:
    def work() -> list[bytes]:
        tun = device()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((HERE.address, HERE.port))
            sock.settimeout(2)
            packet = udp_packet(THERE, HERE, bytes(100) + b"\1" * 100 + b"\2" * 30)
            header = VnetHeader(vnet.NEEDS_CHECKSUM, vnet.GSO_UDP, 28, 100, 20, 6)
            for segment in split(packet, header):
                tun.write(bytes(VnetHeader()), segment)
            return [sock.recv(2000) for _ in range(3)]

    assert in_new_namespace(work) == [bytes(100), b"\1" * 100, b"\2" * 30]


def test_an_open_device_is_taken_over_by_its_descriptor() -> None:
    def work() -> None:
        first = device()
        second = Tun(os.dup(first.fd), uso=False)
        assert second.name == "sjp-tun"
        assert not second.uso
        opened.remove(first)
        first.close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"x", (THERE.address, 1))
        assert [parse(packet).protocol for packet in read_all(second)] == [UDP]
        second.close()

    in_new_namespace(work)


def test_nothing_to_read_is_none() -> None:
    def work() -> bytes | None:
        tun = device()
        ip("link set sjp-tun down")
        while tun.read() is not None:
            pass
        return tun.read()

    assert in_new_namespace(work) is None
