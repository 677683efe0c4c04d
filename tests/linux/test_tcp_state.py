"""The kernel's own counters of a connection, and connections that are made deaf or cut."""

import socket
import time
from collections.abc import Iterator

import pytest

from sojourn.linux import tcp_state


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        one = socket.create_connection(listening.getsockname())
        other, _ = listening.accept()
        with one, other:
            yield one, other


def test_positions_are_right_before_and_after_the_end_of_the_stream(pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    before = tcp_state.progress(one).given
    one.sendall(b"x" * 100)
    time.sleep(0.02)
    assert tcp_state.progress(one).given - before == 100
    assert (tcp_state.progress(other).consumed, tcp_state.unread(other)) == (0, 100)
    other.recv(30)
    assert tcp_state.progress(other).consumed == 30
    one.shutdown(socket.SHUT_WR)
    time.sleep(0.02)
    assert (tcp_state.progress(other).consumed, tcp_state.unread(other)) == (30, 70)
    other.recv(70)
    assert tcp_state.progress(other).consumed == 100
    assert other.recv(1) == b""
    assert tcp_state.progress(other).consumed == 100
    assert tcp_state.progress(one).given - before == 100


def test_what_was_acknowledged_can_be_read_after_a_reset(pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    one.sendall(b"last words")
    time.sleep(0.02)
    tcp_state.reset(one)
    time.sleep(0.02)
    assert tcp_state.unread(other) == 10
    assert other.recv(100) == b"last words"
    with pytest.raises(ConnectionResetError):
        other.recv(1)


def test_the_deaf_acknowledge_nothing_more(pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    one.sendall(b"heard")
    time.sleep(0.02)
    tcp_state.deafen(other)
    one.sendall(b"unheard")
    time.sleep(0.05)
    assert tcp_state.unread(other) == 5
    assert tcp_state.unacknowledged(one) == 7


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_where_filters_are_forbidden_it_is_made_deaf_all_the_same(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listening:
        one = socket.create_connection(listening.getsockname()[:2])
        other, _ = listening.accept()
        with one, other:
            one.sendall(b"heard")
            time.sleep(0.02)
            tcp_state.deafen_by_ttl(other)
            one.sendall(b"unheard")
            time.sleep(0.05)
            assert tcp_state.unread(other) == 5
            assert tcp_state.unacknowledged(one) == 7
