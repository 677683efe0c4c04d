"""A data-path process's last words reach control where there is one."""

import errno
import socket
from pathlib import Path

import pytest

from sojourn.datapath.birth import Options, complain, parse_arguments, wait_for_begin
from sojourn.datapath.wire import Frames, Said, to_control
from sojourn.errors import SojournError


def test_the_command_line_is_read() -> None:
    assert parse_arguments(["--socket", "/s"]) == Options(Path("/s"))
    given = parse_arguments(["--socket", "/s", "--epochs", "/e", "--control", "3", "--alone", "2.5"])
    assert given == Options(Path("/s"), Path("/e"), 3, 2.5)


def test_a_spare_begins_when_control_speaks_and_ends_when_it_goes() -> None:
    control, spare = socket.socketpair()
    with spare:
        control.sendall(b"x")
        assert wait_for_begin(spare)
        assert spare.recv(10) == b"x", "it is still to be read"
        control.close()
        assert not wait_for_begin(spare)


def test_why_it_cannot_start_is_said_to_control() -> None:
    control, mine = socket.socketpair()
    with control, mine:
        complain(mine, OSError(errno.ENOSPC, "No space left on device", "/x/host.epochs"))
        (said,) = [message for body in Frames().feed(control.recv(65536)) for message in to_control(body)]
        assert isinstance(said, Said)
        assert said.level == "error"
        assert "No space left on device: '/x/host.epochs'. Check the disk's free space" in said.text


def test_without_control_it_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    closed, other = socket.socketpair()
    other.close()
    closed.close()
    for control in (None, closed):
        complain(control, SojournError("it is so"))
        assert capsys.readouterr().err == "sojourn data path: it is so\n"


def test_nobody_who_listens_is_no_second_error() -> None:
    control, mine = socket.socketpair()
    control.close()
    with mine:
        complain(mine, SojournError("it is so"))
