"""`sojourn window` on the command line: what is said when there is nobody to be a window of."""

import socket
from pathlib import Path

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
