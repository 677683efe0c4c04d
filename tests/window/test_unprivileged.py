"""A window that root starts: its half that serves has no rights, and connections to one socket only."""

import asyncio
import contextlib
import errno
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from sojourn.window.unprivileged import ASKED, ERROR_NUMBER, Broker
from tests.harness.control_socket import answers, serving

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to drop")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`sojourn window` before a control socket that only root may open, and in a folder that only root may enter."""
    tmp_path.chmod(0o700)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SUDO_")}
    with serving(str(tmp_path / "host.sock"), {"role": "host"}, answers({"undo": {"undone": "x"}})):
        process = subprocess.Popen(
            [sys.executable, "-m", "sojourn", "window", "--no-browser", "--no-notices",
             "--socket", str(tmp_path / "host.sock")],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@ROOT
def test_the_half_that_serves_is_nobody_and_can_gain_nothing(running: subprocess.Popen[str]) -> None:
    assert running.stdout is not None
    address = running.stdout.readline().strip()
    found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/#token=([\w-]{43})", address)
    assert found
    (child,) = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    for _ in range(100):
        told = status_of(int(child))
        if told["NoNewPrivs"] == "1":
            break
        time.sleep(0.05)
    assert set(told["Uid"].split()) == {"65534"}
    assert set(told["Gid"].split()) == {"65534"}
    assert told["Groups"] == ""
    assert {int(told[name], 16) for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {0}
    request = urllib.request.Request(
        f"http://127.0.0.1:{found[1]}/api/undo", b"{}",
        {"Authorization": f"Bearer {found[2]}", "Content-Type": "application/json"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.read() == b'{"undone":"x"}'
    assert found[2] not in Path(f"/proc/{running.pid}/cmdline").read_text()


@ROOT
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_both_halves_end_together_and_cleanly(running: subprocess.Popen[str], number: signal.Signals) -> None:
    assert running.stdout is not None
    running.stdout.readline()
    (child,) = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    time.sleep(0.3)
    running.send_signal(number)
    assert running.wait(15) == 0
    assert not Path(f"/proc/{child}").exists()
    assert running.stderr is not None
    assert "Traceback" not in running.stderr.read()


def test_who_gives_up_waiting_leaves_his_answer_to_nobody() -> None:
    """Each asks for his own connection: an answer that nobody waited for is not the next one's."""
    ours, theirs = socket.socketpair()
    ends = [socket.socketpair() for _ in range(2)]

    async def play() -> None:
        broker = Broker(theirs)
        for _ in range(2):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.02):
                    await broker.connect()

        async def answer() -> None:
            await asyncio.sleep(0)  # by then the third has asked, too
            assert ours.recv(100) == ASKED * 3
            socket.send_fds(ours, [ERROR_NUMBER.pack(0)], [ends[0][0].fileno()])
            ends[0][0].close()
            ours.sendall(ERROR_NUMBER.pack(errno.EACCES))
            socket.send_fds(ours, [ERROR_NUMBER.pack(0)], [ends[1][0].fileno()])
            ours.sendall(ERROR_NUMBER.pack(errno.EACCES))

        connection, _ = await asyncio.gather(broker.connect(), answer())
        connection.send(b"mine")
        connection.close()
        assert ends[1][1].recv(4) == b"mine"
        assert ends[0][1].recv(1) == b"", "the connection that nobody wanted is closed"
        with pytest.raises(PermissionError):
            await broker.connect()
        ours.close()
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            await broker.connect()

    asyncio.run(play())
    theirs.close()
    for pair in ends:
        for end in pair:
            end.close()
