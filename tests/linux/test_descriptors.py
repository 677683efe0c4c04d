"""Descriptors by name: given, held, sent over a socket, and never leaked."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sojourn.errors import RemoteProtocolError
from sojourn.linux import descriptors
from sojourn.linux.descriptors import DescriptorQueue, Descriptors, HeldDescriptors, send_with
from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.upmt.commands import OpenTunnel


@pytest.fixture(autouse=True)
def _no_leak() -> Iterator[None]:
    before = len(list(Path("/proc/self/fd").iterdir()))
    yield
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def some_file() -> int:
    return os.open("/dev/null", os.O_RDONLY)


def same(one: int, other: int) -> bool:
    return os.fstat(one).st_ino == os.fstat(other).st_ino


def test_names_say_all_that_must_be_equal_for_a_socket_to_be_of_use() -> None:
    def opened(interface: str, address: str, port: int) -> OpenTunnel:
        return OpenTunnel(AssociationId(1), TunnelId(0xAB), interface, Endpoint(address, port), Endpoint("::1", 1800))

    names = {
        descriptors.tunnel_name(opened("eth0", "192.0.2.1", 0)),
        descriptors.tunnel_name(opened("eth1", "192.0.2.1", 0)),
        descriptors.tunnel_name(opened("eth0", "192.0.2.2", 0)),
        descriptors.tunnel_name(opened("eth0", "192.0.2.1", 7)),
        descriptors.tun_name("sojourn0"),
        descriptors.listen_name(Endpoint("0.0.0.0", 1800)),
        descriptors.listen_name(Endpoint("::", 1800)),
    }
    assert len(names) == 7
    assert "tunnel/0000ab/eth0/192.0.2.1/0" in names


def test_what_a_predecessor_had_is_taken_once_and_counts_as_held() -> None:
    told: list[tuple[str, int | None]] = []
    known = Descriptors(
        on_hold=lambda name, fd: told.append((name, fd)), on_release=lambda name: told.append((name, None))
    )
    fd = some_file()
    known.give("tun/a", fd)
    assert known.take("tun/b") is None
    assert known.take("tun/a") == fd
    assert known.take("tun/a") is None
    assert known.held == {"tun/a": fd}
    assert told == []  # who gave it has it
    known.hold("tun/c", 77)
    known.release("tun/a")
    known.release("tun/a")
    assert told == [("tun/c", 77), ("tun/a", None)]
    assert known.held == {"tun/c": 77}
    os.close(fd)


def test_what_nobody_takes_is_closed() -> None:
    known = Descriptors()
    known.give("a", some_file())
    known.give("a", some_file())
    known.give("b", some_file())
    assert known.drop_given() == ["a", "b"]
    assert known.drop_given() == []


def test_a_copy_is_kept_until_it_is_dropped_or_replaced() -> None:
    held = HeldDescriptors()
    held.keep("a", some_file())
    held.keep("a", some_file())
    held.keep("b", some_file())
    held.drop("b")
    held.drop("b")
    assert list(held.by_name) == ["a"]
    held.close(leave_pins=False)
    assert held.by_name == {}


def test_descriptors_come_in_the_order_in_which_they_went(ends: tuple[socket.socket, socket.socket]) -> None:
    one, other = ends
    files = [os.open(path, os.O_RDONLY) for path in ("/dev/null", "/dev/zero", "/dev/urandom")]
    for number, fd in enumerate(files):
        assert send_with(one, b"%d" % number, fd) == 1
    queue = DescriptorQueue()
    data = b""
    while len(data) < 3:
        data += queue.receive(other, 100)
    assert data == b"012"
    for fd in files:
        claimed = queue.claim()
        assert same(fd, claimed)
        assert not os.get_inheritable(claimed)
        os.close(claimed)
        os.close(fd)
    with pytest.raises(RemoteProtocolError):
        queue.claim()
    one.close()
    assert queue.receive(other, 100) == b""


def test_a_flood_of_descriptors_is_refused_and_closed(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptors, "MAX_QUEUED", 3)
    one, other = ends
    fd = some_file()
    queue = DescriptorQueue()
    with pytest.raises(RemoteProtocolError):
        for _ in range(10):
            socket.send_fds(one, [b"x"], [fd])
            queue.receive(other, 100)
    socket.send_fds(one, [b"x"], [fd] * 20)
    with pytest.raises(RemoteProtocolError):
        queue.receive(other, 100)
    os.close(fd)


def test_what_is_not_claimed_is_closed(ends: tuple[socket.socket, socket.socket]) -> None:
    one, other = ends
    fd = some_file()
    send_with(one, b"x", fd)
    os.close(fd)
    queue = DescriptorQueue()
    queue.receive(other, 100)
    queue.close()
