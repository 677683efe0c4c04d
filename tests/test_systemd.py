"""The systemd units: what a restart by the service manager means to the flows is decided there."""

import configparser
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sojourn.cli.main import COMMANDS

UNITS = sorted((Path(__file__).parent.parent / "examples" / "systemd").glob("*.service"))


def test_both_daemons_have_one() -> None:
    assert [unit.stem for unit in UNITS] == ["sojourn-anchor", "sojourn-host"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_restart_is_told_from_a_stop_and_only_control_gets_the_signals(unit: Path) -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(unit)
    service = parser["Service"]
    assert service["RestartKillSignal"] == signal.SIGUSR2.name
    assert service["KillMode"] == "process"
    assert "KillSignal" not in service, "SIGTERM is a stop"
    assert "ExecStopPost" not in service, "it runs at a restart, too: nothing may be cleaned up then"
    assert service["ExecStart"].split()[1] in COMMANDS


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_knows_every_word_of_it(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        return  # a container: the test before has looked at what matters
    here = tmp_path / unit.name
    here.write_text(unit.read_text().replace("/usr/local/bin/sojourn", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", here], capture_output=True, text=True, check=False, timeout=60)
    assert unit.name not in done.stderr
