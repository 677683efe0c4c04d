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


@pytest.mark.parametrize("unread", [b"", b"last words"])
def test_of_a_closed_connection_it_is_known_whether_its_peer_had_finished(
    pair: tuple[socket.socket, socket.socket], unread: bytes
) -> None:
    one, other = pair
    one.sendall(b"read" + unread)
    one.shutdown(socket.SHUT_WR)
    other.recv(4)
    other.shutdown(socket.SHUT_WR)
    time.sleep(0.02)
    one.close()
    time.sleep(0.02)
    state = tcp_state.progress(other)
    assert (state.state, state.ended, state.consumed) == (tcp_state.CLOSE, True, 4)
    assert other.recv(100) == unread
    assert tcp_state.progress(other).consumed == 4 + len(unread)


@pytest.mark.parametrize("unread", [b"", b"last words"])
def test_a_reset_is_not_taken_for_an_end(pair: tuple[socket.socket, socket.socket], unread: bytes) -> None:
    one, other = pair
    one.sendall(b"read" + unread)
    other.recv(4)
    time.sleep(0.02)
    tcp_state.reset(one)
    time.sleep(0.02)
    for _ in range(2):  # looking takes the error away, and it is known all the same
        state = tcp_state.progress(other)
        assert (state.state, state.ended, state.consumed) == (tcp_state.CLOSE, False, 4)


def test_an_end_that_a_reset_has_followed_was_one(pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    one.sendall(b"all")
    one.shutdown(socket.SHUT_WR)
    time.sleep(0.02)
    other.sendall(b"nobody reads this")
    time.sleep(0.02)
    one.close()
    time.sleep(0.02)
    state = tcp_state.progress(other)
    assert (state.state, state.ended, state.consumed) == (tcp_state.CLOSE, True, 0)


def test_an_urgent_byte_is_counted_and_read_with_the_others(pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    tcp_state.prepare(other)
    other.setblocking(True)
    one.send(b"be")
    one.send(b"!", socket.MSG_OOB)
    one.send(b"hind")
    time.sleep(0.02)
    assert tcp_state.unread(other) == 7
    heard = other.recv(3) + other.recv(100)
    while len(heard) < 7:
        heard += other.recv(100)
    assert heard == b"be!hind"
    assert tcp_state.progress(other).consumed == 7


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
