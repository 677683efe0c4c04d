"""An end for a program that makes namespaces: nothing is left however it ends, after so long at the latest.

A limit, SIGTERM and SIGHUP end it as an error of its own would, so that what it has made is taken down. A second
process waits for its end, SIGKILL's included, and removes what still stands then.
"""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

_SWEEP = """
import shutil, sys
sys.stdin.read()
from sojourn.lab import namespaces
namespaces.delete([name for name in sys.argv[2:] if namespaces.exists(name)])
shutil.rmtree(sys.argv[1], ignore_errors=True)
"""


@contextlib.contextmanager
def bounded(seconds: float, folder: Path, namespaces: Sequence[str]) -> Iterator[None]:
    """End the program by SystemExit after `seconds` (0: never); remove folder and namespaces when it has gone."""
    sweeper = subprocess.Popen(
        [sys.executable, "-c", _SWEEP, str(folder), *namespaces], stdin=subprocess.PIPE, start_new_session=True
    )

    def end(number: int, _frame: FrameType | None) -> None:
        if seconds:
            signal.setitimer(signal.ITIMER_REAL, 0)
        raise SystemExit(f"not done within {seconds:g} s" if number == signal.SIGALRM else f"ended by signal {number}")

    before = {number: signal.signal(number, end) for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGHUP)}
    if seconds:
        signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        if seconds:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        assert sweeper.stdin is not None
        sweeper.stdin.close()
        sweeper.wait(30)
