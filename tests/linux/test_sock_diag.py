"""Whose socket a flow is, asked of the kernel's own table."""

import contextlib
import os
import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.linux.sock_diag import SocketTable, parse, request
from sojourn.model import ICMP, TCP, UDP, Endpoint, Flow
from sojourn.packet.ip import key_of


@pytest.fixture
def table() -> Iterator[SocketTable]:
    table = SocketTable()
    yield table
    table.close()


def key(protocol: int, local: tuple[str, int], remote: tuple[str, int]) -> bytes:
    return key_of(Flow(protocol, Endpoint(*local), Endpoint(*remote)))


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_a_connected_socket_is_found_with_its_user(
    table: SocketTable, family: socket.AddressFamily, address: str, protocol: int
) -> None:
    kind = socket.SOCK_STREAM if protocol == TCP else socket.SOCK_DGRAM
    with socket.socket(family, kind) as there, socket.socket(family, kind) as here:
        there.bind((address, 0))
        if protocol == TCP:
            there.listen()
        remote = (address, there.getsockname()[1])
        here.connect(remote)
        local = (address, here.getsockname()[1])
        found = table.holder(key(protocol, local, remote))
        assert found is not None
        assert (found.inode, found.uid) == (os.fstat(here.fileno()).st_ino, os.getuid())
        inode = os.fstat(here.fileno()).st_ino
    again = table.holder(key(protocol, local, remote))
    assert again is None or again.inode != inode


def test_an_unconnected_socket_is_found_by_its_port(table: SocketTable) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as here:
        here.bind(("::", 0))
        found = table.holder(key(UDP, ("127.0.0.1", here.getsockname()[1]), ("192.0.2.1", 53)))
        assert found is not None
        assert found.inode == os.fstat(here.fileno()).st_ino


def test_what_has_no_ports_is_not_asked_for(table: SocketTable) -> None:
    assert table.holder(key(ICMP, ("127.0.0.1", 7), ("127.0.0.1", 0))) is None
    assert request(b"") is None


def test_a_refusal_is_no_holder() -> None:
    assert parse(struct.pack("=IHHIIi", 20, 2, 0, 1, 0, -2)) is None


@given(st.binary(max_size=120))
def test_any_answer_gives_a_holder_or_a_protocol_error(data: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        parse(data)


@given(st.binary(max_size=100))
def test_any_body_of_an_answer_is_taken(data: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        parse(struct.pack("=IHHII", 16 + len(data), 20, 0, 1, 0) + data)


def test_the_answer_to_another_question_is_none_of_this_ones() -> None:
    none = struct.pack("=IHHIIi", 20, 2, 0, 7, 0, -2)
    assert parse(none, 7) is None
    with pytest.raises(RemoteProtocolError):
        parse(none, 8)


@given(st.binary(max_size=40))
def test_any_key_is_asked_for_or_not(data: bytes) -> None:
    asked = request(data)
    assert asked is None or len(asked) == 72
