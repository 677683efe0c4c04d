import socket

import pytest

from sojourn.linux.datagrams import MAX_DATAGRAM, DatagramSocket
from sojourn.model import Endpoint


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_datagram_is_received_with_its_source_and_answered(address: str) -> None:
    server, client = DatagramSocket(Endpoint(address, 0)), DatagramSocket(Endpoint(address, 0))
    try:
        assert server.receive() is None
        assert client.send(b"hello", (address, server.local.port)) is None
        received = server.receive()
        assert received == (b"hello", (address, client.local.port))
        assert server.send(b"hello yourself", received[1]) is None
        assert client.receive() == (b"hello yourself", (address, server.local.port))
    finally:
        server.close()
        client.close()


def test_what_is_too_long_comes_empty_and_what_cannot_be_sent_is_said() -> None:
    server = DatagramSocket(Endpoint("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(bytes(MAX_DATAGRAM + 1), ("127.0.0.1", server.local.port))
        assert server.receive() == (b"", ("127.0.0.1", client.getsockname()[1]))
    assert server.send(b"x", ("127.0.0.1", 0)) == "EINVAL"
    assert server.send(bytes(70000), ("127.0.0.1", 9)) == "EMSGSIZE"
    server.close()
