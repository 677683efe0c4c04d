"""`sojourn run`: the process that asks is the one that becomes the command."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sojourn.api.server import Arguments, Peer, Server
from tests.harness.control_socket import serving, sojourn

Asked = list[tuple[Arguments, Peer]]


@pytest.fixture
def asked() -> Asked:
    return []


@pytest.fixture
def answer() -> dict[str, Any]:
    return {"version": 1, "name": "call", "pid": 1, "exact": True, "why": ""}


@pytest.fixture
def path(tmp_path: Path, asked: Asked, answer: dict[str, Any]) -> Iterator[str]:
    async def pin(arguments: Arguments, peer: Peer) -> dict[str, Any]:
        asked.append((arguments, peer))
        return answer

    def setup(server: Server) -> None:
        server.register("pin", pin)

    with serving(str(tmp_path / "h.sock"), {}, setup):
        yield str(tmp_path / "h.sock")


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "sojourn", "run", *arguments], capture_output=True, text=True, timeout=30, check=False
    )


def test_the_command_is_the_process_that_was_pinned(path: str, asked: Asked) -> None:
    done = run("--socket", path, "--app", "call", "--", "sh", "-c", "echo $$; exit 7")
    ((arguments, peer),) = asked
    assert (done.returncode, int(done.stdout), arguments) == (7, peer.pid, {"name": "call"})


def test_options_of_the_command_are_the_commands_own(path: str) -> None:
    assert run("--app", "call", "--socket", path, "echo", "--socket", "-n", "x").stdout == "--socket -n x\n"


def test_signals_that_python_ignores_are_not_ignored_by_the_command(path: str) -> None:
    done = run("--socket", path, "--app", "call", "--", "sh", "-c", "kill -PIPE $$; echo survived")
    assert done.returncode == -signal.SIGPIPE


def test_a_name_that_is_not_certain_is_said_to_be_so_and_the_command_runs(path: str, answer: dict[str, Any]) -> None:
    answer |= {"exact": False, "why": "no BPF here"}
    done = run("--socket", path, "--app", "call", "--", "echo", "ran")
    assert (done.stdout, done.stderr) == ("ran\n", "sojourn: call: not certain for every flow: no BPF here\n")


def test_a_command_that_is_not_there_is_named(path: str) -> None:
    done = run("--socket", path, "--app", "call", "--", "no-such-command-anywhere")
    assert done.returncode == 1
    assert "no-such-command-anywhere" in done.stderr
    assert "PATH" in done.stderr


def test_nothing_runs_without_a_daemon(tmp_path: Path) -> None:
    ran = sojourn("run", "--app", "call", "--socket", str(tmp_path / "none"), "echo", "x")
    assert ran.code == 3
    assert sojourn("run", "echo").code == 2
