"""A spliced session's near connection that becomes a socket's again. Between machines: tests/net/test_splice.py."""

import os
import socket
from typing import cast

import pytest

from sojourn.linux import tcp_repair
from sojourn.linux.splice import Kept, Spliced
from sojourn.linux.tcp_repair import Numbers
from sojourn.linux.unsplice import unsplice
from sojourn.msocks.splice_pair import CLIENT, CORRESPONDENT, HalfFlag, Pair, State

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: TCP_REPAIR")


class Joint:
    """A splice without a program: the near connection, and where it stands."""

    def __init__(self, near: socket.socket) -> None:
        self.near, self.at = near, tcp_repair.numbers(near)
        self.kept = Kept(0, 0, 0, 0, near=tcp_repair.terms(near))
        self.pair, self.gone = Pair(State.LEGLESS, 0), False
        self.pair.halves[CLIENT].ts_last = tcp_repair.clock(near)

    def take_up(self, _received: int) -> tuple[Pair, bytes, bool]:
        return self.pair, b"", False

    def numbers_at(self, _position: int, _received: int) -> Numbers:
        return self.at

    def let_go(self) -> None:
        self.gone = True


def test_a_correspondent_goes_on_with_the_socket_at_the_byte() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        near = socket.create_connection(listening.getsockname(), 10.0)
        far, _ = listening.accept()
    with near, far:
        joint = Joint(near)
        joint.pair.halves[CORRESPONDENT].flags |= HalfFlag.OWN
        with pytest.raises(BlockingIOError):
            unsplice(cast("Spliced", joint), 0, 0)
        assert not joint.gone, "until its correspondent has what the proxy has said, it waits"
        joint.pair.halves[CORRESPONDENT].flags = 0
        far.sendall(b"heard by the program alone")
        near.recv(100)
        joint.at = tcp_repair.numbers(near)
        unsplice(cast("Spliced", joint), 0, 0)
        assert joint.gone
        near.settimeout(10.0)
        far.settimeout(10.0)
        far.sendall(b"and on")
        assert near.recv(100) == b"and on"
        near.sendall(b"likewise")
        assert far.recv(100) == b"likewise"
