"""The systemd units: what a restart means to the flows is decided there, and what a daemon may do to the machine.

No service manager runs here: units are read, verified and scored offline. That the daemons work with no more than
the rights that their units leave them is shown by tests/net/test_unit_rights.py; `make deb-check` boots a Debian whose
systemd starts, restarts, upgrades and stops them.
"""

import configparser
import re
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from sojourn.api.messages import HOST_SOCKET, SOCKET_GROUP
from sojourn.cli.main import COMMANDS
from sojourn.store.config_dir import DEFAULT

PACKAGING = Path(__file__).parent.parent / "packaging"
UNITS = sorted((PACKAGING / "systemd").glob("*.service"))
USER_UNITS = sorted((PACKAGING / "systemd-user").glob("*.service"))
DAEMONS = [unit for unit in UNITS if unit.stem in ("sojourn-host", "sojourn-anchor")]
LIMITS = {"sojourn-anchor": 3.6, "sojourn-host": 4.3, "sojourn-rendezvous": 1.3}
"""Exposure by `systemd-analyze security`, 0 to 10. Without any hardening it is 9.6; CAP_NET_ADMIN alone costs some."""


def read(unit: Path) -> dict[str, list[str]]:
    """Return the keys of [Service] with all their values."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    section = ""
    for line in unit.read_text().splitlines():
        if line.startswith("["):
            section = line
        elif "=" in line and not line.startswith("#") and section == "[Service]":
            key, _, value = line.partition("=")
            found[key].append(value)
    return found


def analyze(*words: str | Path) -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False, timeout=60)
    return done.stdout + done.stderr


def test_every_daemon_has_one() -> None:
    assert [unit.stem for unit in UNITS] == ["sojourn-anchor", "sojourn-host", "sojourn-rendezvous"]
    assert [unit.stem for unit in USER_UNITS] == ["sojourn-socks"]


@pytest.mark.parametrize("unit", DAEMONS, ids=lambda unit: unit.stem)
def test_a_restart_is_told_from_a_stop_and_only_control_gets_the_signals(unit: Path) -> None:
    service = read(unit)
    assert service["RestartKillSignal"] == [signal.SIGUSR2.name]
    assert service["KillMode"] == ["process"]
    assert "KillSignal" not in service, "SIGTERM is a stop"
    assert "ExecStopPost" not in service, "it runs at a restart, too: nothing may be cleaned up then"
    assert service["RuntimeDirectoryPreserve"] == ["yes"], "a restart must not take the sockets of the other daemon"


@pytest.mark.parametrize("unit", [*UNITS, *USER_UNITS], ids=lambda unit: unit.stem)
def test_what_it_starts_exists_and_nothing_is_started_before_it_is_configured(unit: Path) -> None:
    program, command, *_ = read(unit)["ExecStart"][0].split()
    assert program == "sojourn", "without a path: /usr/local/bin goes before /usr/bin, a checkout before the package"
    assert command in COMMANDS
    assert re.search(r"^ConditionPathExists=\S+\.toml$", unit.read_text(), re.MULTILINE)


@pytest.mark.parametrize("unit", DAEMONS, ids=lambda unit: unit.stem)
def test_the_only_writable_places_are_those_that_the_program_uses(unit: Path) -> None:
    service = read(unit)
    assert service["ProtectSystem"] == ["strict"]
    assert service["ReadWritePaths"] == [f"-{DEFAULT}"]
    assert f"/run/{service['RuntimeDirectory'][0]}" == str(Path(HOST_SOCKET).parent)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_knows_every_word_of_it(unit: Path, tmp_path: Path) -> None:
    here = tmp_path / unit.name
    text = unit.read_text().replace("ExecStart=sojourn", f"ExecStart={sys.executable}")
    here.write_text(re.sub(r"^Documentation=.*\n", "", text, flags=re.MULTILINE))  # the pages are not installed here
    assert unit.name not in analyze("verify", here)


@pytest.mark.parametrize("unit", USER_UNITS, ids=lambda unit: unit.stem)
def test_a_user_s_unit_has_only_words_that_systemd_knows_too(unit: Path, tmp_path: Path) -> None:
    here = tmp_path / unit.name
    text = unit.read_text().replace("ExecStart=sojourn", f"ExecStart={sys.executable}")
    text = re.sub(r"^Documentation=.*\n", "", text, flags=re.MULTILINE)
    here.write_text(text.replace("%E", "/etc").replace("%t", "/run"))
    assert unit.name not in analyze("verify", here)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_it_leaves_no_more_open_than_it_must(unit: Path) -> None:
    said = analyze("security", "--offline=true", "--no-pager", unit)
    score = re.search(r"exposure level for \S+: ([0-9.]+)", said)
    assert score is not None, said
    assert float(score[1]) <= LIMITS[unit.stem], said


@pytest.mark.parametrize("unit", DAEMONS, ids=lambda unit: unit.stem)
def test_the_data_path_may_still_lock_itself_in(unit: Path) -> None:
    allowed = " ".join(read(unit)["SystemCallFilter"]).split()
    assert {"@system-service", "seccomp", "bpf"} <= set(allowed), "seccomp(2) is not of @system-service"


def test_the_group_of_the_control_sockets_is_made() -> None:
    assert f"g {SOCKET_GROUP} -" in (PACKAGING / "sysusers.d" / "sojourn.conf").read_text().splitlines()
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.read(PACKAGING / "systemd" / "sojourn-rendezvous.service")
    assert parser["Service"]["Group"] == SOCKET_GROUP


@pytest.mark.parametrize(
    ("program", "file"),
    [("systemd-sysusers", "sysusers.d/sojourn.conf"), ("systemd-tmpfiles", "tmpfiles.d/sojourn.conf")],
)
def test_its_files_and_groups_are_read_without_complaint(program: str, file: str, tmp_path: Path) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "run").mkdir()
    (root / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (root / "etc" / "group").write_text("root:x:0:\n")
    argv = [program, f"--root={root}", *(["--create"] if "tmpfiles" in program else []), str(PACKAGING / file)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr.replace("Creating group 'sojourn' with GID 999.\n", "")) == (0, "")
    if "sysusers" in program:
        assert re.search(r"^sojourn:x:\d+:$", (root / "etc" / "group").read_text(), re.MULTILINE)
    else:
        assert (root / "run" / "sojourn").is_dir()
