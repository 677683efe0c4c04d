import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.harness.standstill import Standstill, covered

WATCHER = """
import json, sys, time
from tests.harness.standstill import Standstill
with Standstill() as stood:
    begin = time.monotonic()
    print(flush=True)
    sys.stdin.readline()
    end = time.monotonic()
    print(json.dumps([end - begin, stood.without(begin, end)]))
"""


def test_what_stretches_cover_is_counted_once() -> None:
    stretches = [(1.0, 2.0), (1.5, 3.0), (0.0, 0.5), (2.0, 2.5), (5.0, 6.0)]
    assert covered(stretches, 0.25, 5.25) == 0.25 + 2.0 + 0.25
    assert covered(stretches, 3.0, 5.0) == covered([], 0.0, 1.0) == 0.0


def test_time_in_which_nobody_could_run_is_no_pause_of_whoever_is_measured() -> None:
    argv = [sys.executable, "-c", WATCHER]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    ) as watcher:
        assert watcher.stdin is not None
        assert watcher.stdout is not None
        watcher.stdout.readline()
        watcher.send_signal(signal.SIGSTOP)
        time.sleep(0.6)
        watcher.send_signal(signal.SIGCONT)
        watcher.stdin.write("\n")
        watcher.stdin.close()
        whole, rest = json.loads(watcher.stdout.readline())
    assert whole >= 0.6
    assert rest < whole - 0.3


def test_waiting_and_working_are_pauses() -> None:
    for _ in range(20):  # the machine may really stand still meanwhile
        with Standstill() as stood:
            begin = time.monotonic()
            while time.monotonic() < begin + 0.2:
                pass
            time.sleep(0.2)
            if stood.without(begin, time.monotonic()) > 0.25:
                return
    raise AssertionError("work or waiting is taken for a standstill")
