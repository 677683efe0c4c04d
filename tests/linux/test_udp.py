import os
import select
import socket
from contextlib import closing

import pytest

from sojourn.lab.namespaces import settle
from sojourn.linux.udp import Address, Received, UdpSocket, segment_control
from sojourn.model import Endpoint
from tests.linux.namespace import in_new_namespace, ip

LOOP = {False: "127.0.0.1", True: "::1"}
both = pytest.mark.parametrize("six", [False, True], ids=["ipv4", "ipv6"])


def receive(sock: UdpSocket, buffer: bytearray) -> Received:
    assert select.select([sock.fd], [], [], 2)[0]
    received = sock.receive([buffer])
    assert received is not None
    return received


def address(sock: UdpSocket) -> Address:
    return sock.local.address, sock.local.port


@both
@pytest.mark.parametrize("gro", [True, False])
def test_a_batch_arrives_as_the_same_datagrams_with_and_without_gro(six: bool, gro: bool) -> None:
    sender, receiver = UdpSocket.open(Endpoint(LOOP[six], 0)), UdpSocket.open(Endpoint(LOOP[six], 0), gro=gro)
    sender.socket.sendmsg([b"a" * 100 + b"b" * 100 + b"c" * 40], [segment_control(100)], 0, address(receiver))
    buffer, datagrams = bytearray(65536), list[bytes]()
    while sum(len(each) for each in datagrams) < 240:
        received = receive(receiver, buffer)
        assert received.source[:2] == address(sender)
        for at in range(0, received.size, received.segment):
            datagrams.append(bytes(buffer[at : min(at + received.segment, received.size)]))
    assert datagrams == [b"a" * 100, b"b" * 100, b"c" * 40]
    sender.close()
    receiver.close()


@both
@pytest.mark.parametrize("ecn", range(4))
def test_the_ecn_field_arrives_as_it_was_sent(six: bool, ecn: int) -> None:
    sender, receiver = UdpSocket.open(Endpoint(LOOP[six], 0)), UdpSocket.open(Endpoint(LOOP[six], 0))
    sender.send(b"x", address(receiver), ecn=ecn)
    assert receive(receiver, bytearray(100)).ecn == ecn
    sender.close()
    receiver.close()


def test_nothing_to_receive_is_none() -> None:
    sock = UdpSocket.open(Endpoint("127.0.0.1", 0))
    assert sock.receive([bytearray(10)]) is None
    sock.close()


def test_the_size_limit_is_the_paths_only_while_fragments_are_forbidden() -> None:
    sock = UdpSocket.open(Endpoint("127.0.0.1", 0))
    level, option = socket.IPPROTO_IP, 10
    assert sock.socket.getsockopt(level, option) == 3
    sock.fragment(True)
    assert sock.socket.getsockopt(level, option) == 0
    sock.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")
@both
def test_a_wildcard_socket_answers_from_the_address_that_it_was_asked_at(six: bool) -> None:
    second = "fd00::77" if six else "127.0.0.77"

    def work() -> Address:
        if six:
            ip(f"addr add {second}/128 dev lo nodad")
            settle()
        with (
            closing(UdpSocket.open(Endpoint("::" if six else "0.0.0.0", 0))) as server,
            closing(UdpSocket.open(Endpoint(LOOP[six], 0))) as client,
        ):
            client.send(b"question", (second, server.local.port))
            question = receive(server, bytearray(100))
            server.send(b"answer", question.source, via=question.via)
            return receive(client, bytearray(100)).source

    assert in_new_namespace(work)[0] == second


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")
def test_a_socket_keeps_to_its_interface() -> None:
    def work() -> None:
        ip("link add sjp-a type veth peer name sjp-b")
        ip("addr add 192.0.2.1/24 dev sjp-a")
        ip("link set sjp-a up")
        with (
            closing(UdpSocket.open(Endpoint("192.0.2.1", 0), "sjp-a")) as sock,
            closing(UdpSocket.adopt(os.dup(sock.fd))) as adopted,
        ):
            assert adopted.local == sock.local
            ip("link del sjp-a")
            with pytest.raises(OSError, match=r"unreachable|No such device"):
                adopted.send(b"x", ("192.0.2.9", 9))

    in_new_namespace(work)
