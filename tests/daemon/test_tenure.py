"""One daemon of a kind in a directory; the second is refused by name, or takes over."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sojourn.daemon import tenure as tenures
from sojourn.daemon.tenure import tenure
from sojourn.errors import ConfigError

OTHER = """
import signal, sys, time
from pathlib import Path
from sojourn.daemon.tenure import tenure
signal.signal(signal.SIGUSR2, {on_signal})
try:
    with tenure(Path(sys.argv[1]), "anchor"):
        print("in", flush=True)
        time.sleep(60)
except KeyboardInterrupt:
    pass
"""
MAKES_WAY, DEAF = "lambda *_: (_ for _ in ()).throw(KeyboardInterrupt())", "signal.SIG_IGN"


@contextlib.contextmanager
def another(directory: Path, on_signal: str) -> Iterator["subprocess.Popen[str]"]:
    program = OTHER.format(on_signal=on_signal)
    with subprocess.Popen([sys.executable, "-c", program, str(directory)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "in\n"
        try:
            yield other
        finally:
            other.kill()


def test_a_second_one_is_refused_with_the_first_one_s_process_and_what_to_do(tmp_path: Path) -> None:
    with another(tmp_path, MAKES_WAY) as other:
        with pytest.raises(ConfigError) as refused, tenure(tmp_path, "anchor"):
            pass
        assert f"another `sojourn anchor` runs here (process {other.pid})" in refused.value.why
        assert "--replace" in refused.value.fix
        with tenure(tmp_path, "host"):
            pass  # a host may share the directory with an anchor
        assert other.poll() is None


def test_a_successor_tells_the_first_one_to_make_way_and_waits_for_it(tmp_path: Path) -> None:
    with another(tmp_path, MAKES_WAY) as other:
        with tenure(tmp_path, "anchor", replace=True):
            assert other.wait(5.0) == 0
            assert (tmp_path / "anchor.lock").read_text() == f"{os.getpid()}\n"
        assert list(tmp_path.iterdir()) == []


def test_one_that_does_not_make_way_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenures, "PATIENCE", 0.2)
    with another(tmp_path, DEAF) as other:
        with pytest.raises(ConfigError) as refused, tenure(tmp_path, "anchor", replace=True):
            pass
        assert f"(process {other.pid}) does not make way" in refused.value.why
        other.send_signal(signal.SIGKILL)
        other.wait(5.0)
        with tenure(tmp_path, "anchor"):
            pass  # what it has left is no obstacle


def test_where_none_runs_there_is_nothing_to_replace(tmp_path: Path) -> None:
    with tenure(tmp_path, "anchor", replace=True):
        pass


def test_a_directory_that_cannot_be_written_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused, tenure(tmp_path / "nowhere", "anchor"):
        pass
    assert "cannot be written: No such file or directory" in refused.value.why
