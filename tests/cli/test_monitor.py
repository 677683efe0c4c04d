"""`sojourn monitor`, against a control socket of the test's own (tests/net/test_operator.py has real ones)."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from rich.console import Console

from sojourn.api.server import Server
from sojourn.cli import monitor
from sojourn.cli.monitor_view import view
from tests.cli.test_monitor_view import flow, host
from tests.harness.control_socket import answers, serving, sojourn

EVIL = "ev\x1b[2Jil"


@pytest.fixture
def path(tmp_path: Path) -> Iterator[str]:
    sample = host(0.0, [])

    def setup(server: Server) -> None:
        flows = [flow(1, 10, 10, EVIL)]
        answers({"status": sample.status, "flows": flows})(server)

        async def log(_arguments: object, _peer: object) -> Any:  # noqa: ANN401 - an async generator
            for entry in sample.log:
                yield entry

        server.register_stream("log", log)

    path = str(tmp_path / "h.sock")
    with serving(path, {"role": "host"}, setup):
        yield path


def test_in_a_pipe_one_picture_is_printed_and_nobody_s_name_moves_the_cursor(path: str) -> None:
    said = sojourn("monitor", "--every", "0.1", "--socket", path)
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[0] == "host, associated: anchor 45.0.0.1, 1 flows"
    assert "ev?[2Jil" in said.out
    assert "\x1b" not in said.out


def test_json_goes_on_line_by_line_until_it_is_interrupted(path: str) -> None:
    with mock.patch("sojourn.cli.monitor.time.sleep", side_effect=[None, None, KeyboardInterrupt]):
        said = sojourn("monitor", "--json", "--socket", path)
    assert said.code == 0
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert [line["version"] for line in lines] == [1, 1]
    assert {"role", "state", "anchor", "networks", "applications", "flows", "log"} <= lines[0].keys()


def test_without_a_daemon_it_ends_and_says_so(tmp_path: Path) -> None:
    assert sojourn("monitor", "--socket", str(tmp_path / "none")).code == 3


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 15), (200, 60)])
def test_the_picture_fits_the_terminal(width: int, height: int) -> None:
    flows = [flow(number, number, 0, f"an application with a long name {number}") for number in range(500)]
    console = Console(width=width, height=height, file=io.StringIO(), force_terminal=True, color_system=None)
    console.print(monitor.draw(view(host(0.0, flows), host(1.0, flows)), console, "the daemon hung up"))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) <= max(height, 24)
    words = ("NETWORK", "APPLICATION", "TIME", "trying again", *(("REMOTE", "WHAT AND WHY") if width >= 80 else ()))
    assert all(word in "\n".join(lines) for word in words)
