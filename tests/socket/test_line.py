"""By which network a client's sockets leave: bound to its device where that is allowed, and to its address always."""

import errno
import socket

import pytest

from sojourn.model import Network
from sojourn.socket.line import bind_to

LOOPBACK = Network("net2", "lo", "127.0.0.2")


def test_a_socket_leaves_by_the_device_and_the_address_of_its_network() -> None:
    with socket.socket() as sock, socket.socket(socket.AF_INET6) as six:
        bind_to(sock, LOOPBACK, six=False)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0") == b"lo"
        assert sock.getsockname()[0] == "127.0.0.2"
        bind_to(six, LOOPBACK, six=True)
        assert six.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0") == b"lo"
        assert six.getsockname()[0] == "::", "it has no address of that family there"


class Forbidden(socket.socket):
    """A socket of a kernel before Linux 5.7, for somebody without CAP_NET_RAW."""

    def setsockopt(self, *_words: object) -> None:
        raise PermissionError(errno.EPERM, "not permitted")


def test_where_devices_are_not_for_everybody_the_address_chooses() -> None:
    with Forbidden() as sock:
        bind_to(sock, LOOPBACK, six=False)
        assert sock.getsockname()[0] == "127.0.0.2"


def test_a_device_that_is_gone_is_told() -> None:
    with socket.socket() as sock, pytest.raises(OSError, match="No such device"):
        bind_to(sock, Network("usb", "gone0", "127.0.0.2"), six=False)
