"""Processes of the lab: started with their output in a log file, waited for, signalled, ended."""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import IO, Self

from sojourn.lab.namespaces import LabError

POLL = 0.02


def now() -> float:
    """Return CLOCK_BOOTTIME: one clock for all namespaces, so that one-way times can be measured."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Child:
    """A process that we started. It outlives this object unless `stop` is called (`lab up` leaves daemons running)."""

    def __init__(self, name: str, argv: list[str], log: Path) -> None:
        self.name = name
        self.argv = argv
        self.log = log
        self._seen = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip

    @property
    def pid(self) -> int:
        """The process itself: entering a namespace replaces, it does not fork."""
        return self._process.pid

    def running(self) -> bool:
        """Say whether it has not ended yet."""
        return self._process.poll() is None

    def output(self) -> str:
        """Return what it has written since it was started."""
        with self.log.open("rb") as log:
            log.seek(self._seen)
            return log.read().decode(errors="replace")

    def wait_for(self, text: str, timeout: float) -> None:
        """Wait until its output contains `text`; LabError, with its last words, if it ends or time is up."""
        until = time.monotonic() + timeout
        while text not in self.output():
            if not self.running():
                raise LabError(f"{self.name} ended ({self._process.returncode}): {self._last_words()}")
            if time.monotonic() > until:
                raise LabError(f"{self.name} did not say {text!r} within {timeout:g} s: {self._last_words()}")
            time.sleep(POLL)

    def _last_words(self) -> str:
        return self.output().strip()[-600:] or "it said nothing"

    def wait(self, timeout: float) -> int | None:
        """Wait for its end and return its exit code; None if it still runs after `timeout` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal if it still runs."""
        if self.running():
            self._process.send_signal(number)

    def stop(self, timeout: float = 5.0) -> int:
        """End it by SIGTERM, after `timeout` seconds by SIGKILL, and return its exit code."""
        self.signal(signal.SIGTERM)
        code = self.wait(timeout)
        return self.kill() if code is None else code

    def kill(self) -> int:
        """End it by SIGKILL, at once."""
        self.signal(signal.SIGKILL)
        return self._process.wait(10.0)

    def forget(self) -> None:
        """End it and collect it, so that no zombie stays."""
        if self.running():
            self.stop(1.0)


class Piped:
    """A process with all three standard streams in our hands. As a context it is waited for, killed on an error."""

    def __init__(self, argv: list[str]) -> None:
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.stdin: IO[bytes] = _open(self.process.stdin)
        self.stdout: IO[bytes] = _open(self.process.stdout)
        self._stderr: IO[bytes] = _open(self.process.stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if kind is not None:
            self.process.kill()
        self.process.wait()

    def read(self) -> bytes:
        """Return what has come on its standard output, b'' at the end."""
        return os.read(self.stdout.fileno(), 65536)

    def end(self) -> tuple[int, str]:
        """Wait for its end and return the exit code and what it said on its standard error."""
        said = self._stderr.read().decode(errors="replace").strip()
        return self.process.wait(), said


def _open(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise LabError("a process was started without pipes")
    return stream
