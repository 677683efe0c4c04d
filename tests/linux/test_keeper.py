"""The process that holds descriptors over the death of whoever uses them."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sojourn.linux import keeper
from sojourn.linux.keeper import Note


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "holder"
    with keeper.connect(tmp_path / "holder") as line:
        keeper.send(line, Note(b""))
    until = time.monotonic() + 5.0
    while (tmp_path / "holder").exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert not (tmp_path / "holder").exists()
    for process in keeper._started:
        process.wait(5.0)


def held(line: socket.socket) -> dict[bytes, tuple[bytes, list[int]]]:
    """Read what the keeper holds."""
    found = {}
    while (received := keeper.receive(line)) is not None and received[0].name:
        found[received[0].name] = received[0].text, received[1]
    return found


def test_what_one_process_leaves_the_next_one_gets(path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with keeper.connect(path) as line:
            assert held(line) == {}
            keeper.send(line, Note(b"a", b"note"), [theirs.fileno(), theirs.fileno()])
            keeper.send(line, Note(b"b", b"other"), [theirs.fileno()])
            keeper.send(line, Note(b"b", hold=False))
            keeper.send(line, Note(b"c", b"old"))
            keeper.send(line, Note(b"c", b"new"))
        theirs.close()
        with keeper.connect(path) as line:
            found = held(line)
            assert {name: (text, len(fds)) for name, (text, fds) in found.items()} == {
                b"a": (b"note", 2), b"c": (b"new", 0),
            }  # fmt: skip
            os.write(found[b"a"][1][0], b"still there")
            assert ours.recv(20) == b"still there"
            keeper.close(found[b"a"][1])


def test_the_newest_user_counts_and_nonsense_is_a_reason_to_part(path: Path) -> None:
    with keeper.connect(path) as first:
        assert held(first) == {}
        keeper.send(first, Note(b"a", b"x"))
        with keeper.connect(path) as second:
            assert set(held(second)) <= {b"a"}
            keeper.send(second, Note(b"b", b"y"))
            second.send(b"\xff nonsense")
            assert second.recv(10) == b""
    with keeper.connect(path) as third:
        assert b"b" in held(third)


def test_signals_that_stop_a_daemon_do_not_stop_it(path: Path) -> None:
    with keeper.connect(path) as line:
        held(line)
        keeper.send(line, Note(b"a", b"x"))
        keeper._started[-1].send_signal(signal.SIGTERM)
        time.sleep(0.1)
    with keeper.connect(path) as line:
        assert b"a" in held(line)
