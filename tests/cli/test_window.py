"""`sojourn window` on the command line: what is said when there is nobody to be a window of."""

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.control_socket import answers, serving, sojourn


def test_without_a_daemon_it_says_what_to_start(tmp_path: Path) -> None:
    ran = sojourn("window", "--no-browser", "--socket", str(tmp_path / "none.sock"))
    assert ran.code == 3
    assert "sojourn host" in ran.err


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with (
        serving(str(tmp_path / "host.sock"), {"role": "host"}, answers({})),
        socket.create_server(("127.0.0.1", 0)) as taken,
    ):
        port = str(taken.getsockname()[1])
        ran = sojourn("window", "--no-browser", "--port", port, "--socket", str(tmp_path / "host.sock"))
    assert ran.code == 1
    assert f"port {port}: cannot be listened on" in ran.err


NOBODY = 65534


@contextlib.contextmanager
def stranger() -> Iterator[None]:
    """Be a user who is in no group of the daemons."""
    groups, group = os.getgroups(), os.getegid()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("role", ["host", "anchor"])
def test_who_may_not_ask_the_daemon_gets_no_window_of_it(role: str) -> None:
    options = ["--anchor"] if role == "anchor" else []
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = str(Path(folder) / f"{role}.sock")
        with serving(path, {"role": role}, answers({})), socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])  # had it leave to ask, it would end here
            sojourn("window", "--help")  # everything is read that root alone may be able to read
            with stranger():
                ran = sojourn("window", "--no-browser", "--port", port, *options, "--socket", path)
    assert ran.code == 4
    assert f"no permission for {path}" in ran.err
    assert "http://" not in ran.out
