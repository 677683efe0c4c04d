"""A window that root starts: its half that serves has no rights, and connections to one socket only."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

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
