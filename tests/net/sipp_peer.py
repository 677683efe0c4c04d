"""Runs SIPp (Debian's sip-tester) with one of the scenarios in tests/net/sipp/ against any anchor."""

import asyncio
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from sojourn.model import Endpoint

SCENARIOS = Path(__file__).parent / "sipp"
SECONDS = 20


def needed() -> str:
    """Return the path of sipp, or skip and say what is missing."""
    found = shutil.which("sipp")
    if found is None:
        pytest.skip("needs sipp: apt install sip-tester")
    return found


async def run_sipp(
    scenario: str,
    target: Endpoint,
    transport: str,
    *,
    user: str = "alice",
    secret: str = "wonderland",
    tid: str = "laptop",
    calls: int = 1,
    loss: int = 0,
    local: str | None = None,
) -> None:
    """Play a scenario `calls` times over "UDP" or "TCP"; fail with what SIPp complains of.

    `loss` is the share of packets, in percent, that SIPp drops in each direction.
    """
    keys = {"user": user, "tid": tid}
    with tempfile.TemporaryDirectory() as directory:
        errors = Path(directory) / "errors.log"
        command = [
            needed(), f"{target.address}:{target.port}", "-sf", str(SCENARIOS / f"{scenario}.xml"),
            "-t", "u1" if transport == "UDP" else "t1", "-i", local or target.address,
            "-m", str(calls), "-l", "10", "-r", "20", "-au", user, "-ap", secret, "-lost", str(loss),
            "-timeout", f"{SECONDS}s", "-timeout_error", "-nostdin", "-trace_err", "-error_file", str(errors),
        ]  # fmt: skip
        for name, value in keys.items():
            command += ["-key", name, value]
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=directory,
            env={**os.environ, "TERM": "dumb"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), SECONDS + 10)
        told = errors.read_text(errors="replace")[:3000] if errors.exists() else output.decode()
        assert process.returncode == 0, f"sipp {scenario} ended with {process.returncode}\n{told}"
