"""A connection's socket as a reservation, and a connection again."""

import os
import socket
import time
from collections.abc import Iterator

import pytest

from sojourn.linux import tcp_repair, tcp_state

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: TCP_REPAIR")


@pytest.fixture(params=["127.0.0.1", "::1"])
def connection(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return the end that was called, and the one that has called."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.create_server((request.param, 0), family=family) as listening:
        caller = socket.create_connection(listening.getsockname()[:2])
        called, _ = listening.accept()
        with caller, called:
            caller.settimeout(5.0)
            called.settimeout(5.0)
            yield called, caller


def test_both_ends_know_the_same_numbers(connection: tuple[socket.socket, socket.socket]) -> None:
    called, caller = connection
    caller.sendall(b"hello")
    assert called.recv(5) == b"hello"
    one, other = tcp_repair.numbers(called), tcp_repair.numbers(caller)
    assert (one.sends, one.expects) == (other.expects, other.sends)
    assert tcp_repair.is_sent(caller)
    caller.sendall(b"after it was looked at")
    assert called.recv(30) == b"after it was looked at"


def test_a_parked_socket_keeps_its_place_and_says_nothing(connection: tuple[socket.socket, socket.socket]) -> None:
    called, caller = connection
    before, number = (called.getsockname(), called.getpeername()), called.fileno()
    tcp_repair.park(called, tcp_repair.numbers(called))
    assert (called.getsockname(), called.getpeername(), called.fileno()) == (*before, number)
    caller.sendall(b"nobody hears this")
    time.sleep(0.3)
    assert tcp_state.unacknowledged(caller) == 17
    assert tcp_state.progress(caller).state == tcp_state.ESTABLISHED, "not even a RST"
    tcp_repair.forget(called)
    assert tcp_state.progress(caller).state == tcp_state.ESTABLISHED


def test_a_revived_connection_goes_on_at_the_byte(connection: tuple[socket.socket, socket.socket]) -> None:
    called, caller = connection
    agreed = tcp_repair.terms(called)
    tcp_repair.park(called, tcp_repair.numbers(called))
    caller.sendall(b"sent again until somebody hears")
    tcp_repair.revive(called, tcp_repair.numbers(called), agreed)
    assert called.recv(40) == b"sent again until somebody hears"
    called.sendall(b"and answers")
    assert caller.recv(20) == b"and answers"
    called.close()
    assert caller.recv(1) == b""


def test_what_was_agreed_on_is_read(connection: tuple[socket.socket, socket.socket]) -> None:
    called, caller = connection
    one, other = tcp_repair.terms(called), tcp_repair.terms(caller)
    assert (one.send_scale, one.receive_scale) == (other.receive_scale, other.send_scale)
    assert one.has(tcp_repair.OPTION_TIMESTAMPS) == other.has(tcp_repair.OPTION_TIMESTAMPS)
    tcp_repair.can_repair(called)


def test_the_edge_of_the_window_is_what_was_sent_and_what_may_be(
    connection: tuple[socket.socket, socket.socket],
) -> None:
    called, caller = connection
    before = tcp_repair.window_edge(called, 0xFFFFFFFF)
    assert 10_000 < before < 1 << 20, "numbers wrap"
    tcp_state.deafen(caller)
    called.sendall(bytes(1000))
    assert tcp_repair.window_edge(called, 999) == before


def test_reading_a_connection_s_numbers_leaves_its_port_to_the_next_who_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        where = listening.getsockname()
        theirs = socket.create_connection(where)
        ours, _ = listening.accept()
    with theirs, ours:
        tcp_repair.numbers(ours)
        with socket.create_server(where):
            pass
