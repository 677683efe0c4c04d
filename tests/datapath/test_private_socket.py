"""One owner a path, whatever became of the last one, and one user who may connect."""

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sojourn.datapath.private_socket import PrivateListener, may_connect, peer, remove_stale
from sojourn.errors import SojournError

NOBODY = 65534


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sjd-") as directory:
        Path(directory).chmod(0o711)
        yield Path(directory) / "path.sock"


def in_child(work: str, path: Path) -> int:
    """Fork, do one of the things below without ever returning to the test, and return the child's id."""
    ready, done = os.pipe()
    child = os.fork()
    if child == 0:
        listener = PrivateListener(path)
        os.write(done, b"x")
        if work == "die":
            os.kill(os.getpid(), 9)
        signal_free_wait(listener)
    assert os.read(ready, 1) == b"x"
    os.close(ready)
    os.close(done)
    return child


def signal_free_wait(listener: PrivateListener) -> None:
    listener.socket.setblocking(True)
    listener.socket.accept()
    listener.close()
    os._exit(0)


def test_only_its_user_can_reach_it_and_it_leaves_no_file(path: Path) -> None:
    listener = PrivateListener(path)
    assert path.stat().st_mode & 0o777 == 0o600
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        with listener.socket.accept()[0] as connection:
            assert peer(connection) == (os.getpid(), os.getuid())
            assert may_connect(connection)
    listener.close()
    assert list(path.parent.iterdir()) == []


def test_a_path_whose_owner_lives_is_refused(path: Path) -> None:
    child = in_child("live", path)
    with pytest.raises(SojournError, match="another data path is running"):
        PrivateListener(path, patience=0.05)
    remove_stale(path)
    assert path.exists()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    assert os.waitpid(child, 0)[1] == 0
    assert list(path.parent.iterdir()) == []


def test_what_a_killed_owner_left_is_taken_over(path: Path) -> None:
    child = in_child("die", path)
    os.waitpid(child, 0)
    assert path.exists()
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
        client.connect(str(path))
    PrivateListener(path, patience=0.0).close()
    assert list(path.parent.iterdir()) == []


def test_what_a_killed_owner_left_can_be_removed(path: Path) -> None:
    os.waitpid(in_child("die", path), 0)
    remove_stale(path)
    remove_stale(path)
    assert list(path.parent.iterdir()) == []


def test_an_owner_that_is_just_ending_is_waited_for(path: Path) -> None:
    child = in_child("live", path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        PrivateListener(path, patience=5.0).close()
    os.waitpid(child, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to be another user")
def test_another_user_is_refused_even_when_the_mode_would_let_it_in(path: Path) -> None:
    listener = PrivateListener(path)
    listener.socket.setblocking(True)
    path.chmod(0o666)
    child = os.fork()
    if child == 0:
        os.setresuid(NOBODY, NOBODY, NOBODY)
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(path))
        os._exit(0 if client.recv(1) == b"" else 1)
    with listener.socket.accept()[0] as connection:
        assert peer(connection) == (child, NOBODY)
        assert not may_connect(connection)
    assert os.waitpid(child, 0)[1] == 0
    listener.close()
