"""`sojourn doctor`: configuration and daemon; the machine's own checks are tested beside linux/checks.py."""

import json
from pathlib import Path
from typing import Any

import pytest

from sojourn.linux.checks import Check
from tests.harness.control_socket import Ran, answers, serving, sojourn


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the machine be a good one: these tests are about what is added to it."""
    monkeypatch.setattr("sojourn.linux.checks.host_checks", lambda: [Check("TUN", True, "/dev/net/tun")])
    monkeypatch.setattr("sojourn.linux.desktop_checks.desktop_checks", list)
    monkeypatch.setattr("sojourn.linux.owner_checks.owner_checks", list)
    monkeypatch.setattr("sojourn.linux.checks.anchor_checks", lambda *_, **__: [Check("TUN", True, "/dev/net/tun")])


@pytest.fixture
def folder(tmp_path: Path) -> str:
    folder = str(tmp_path / "etc")
    token = sojourn("init", "--config-dir", folder, "--address", "192.0.2.1").out.splitlines()[-1]
    assert sojourn("join", token, "--config-dir", folder).code == 0
    return folder


def run(folder: str, path: str, *options: str) -> tuple[Ran, dict[str, dict[str, Any]]]:
    ran = sojourn("doctor", "--config-dir", folder, "--socket", path, "--json", *options)
    return ran, {check["name"]: check for check in json.loads(ran.out)["checks"]}


def test_a_machine_that_is_set_up_is_well_although_nothing_runs(folder: str, tmp_path: Path) -> None:
    ran, checks = run(folder, str(tmp_path / "none"))
    assert ran.code == 0
    assert list(checks) == [
        "TUN", "C core", "host.toml", "credentials", "host daemon", "anchor.toml", "anchor's keys", "anchor daemon",
    ]  # fmt: skip
    assert not checks["host daemon"]["ok"]
    assert not checks["host daemon"]["needed"]


def test_what_is_wrong_has_its_remedy_and_the_exit_code_says_so(folder: str, tmp_path: Path) -> None:
    (tmp_path / "etc" / "credentials").chmod(0o644)
    ran, checks = run(folder, str(tmp_path / "none"), "--host")
    assert ran.code == 1
    assert "chmod 600" in checks["credentials"]["remedy"]
    assert "anchor.toml" not in checks
    text = sojourn("doctor", "--host", "--config-dir", folder, "--socket", str(tmp_path / "none"))
    assert "problem" in text.out
    assert "chmod 600" in text.out
    assert text.err.startswith("sojourn: 1 of 5 checks found a problem: credentials.")


def test_a_fresh_machine_is_told_to_join(tmp_path: Path) -> None:
    ran, checks = run(str(tmp_path / "empty"), str(tmp_path / "none"))
    assert ran.code == 1
    assert "sojourn join TOKEN" in checks["host.toml"]["remedy"]


@pytest.mark.parametrize(("state", "code"), [("associated", 0), ("connecting", 1)])
def test_a_host_that_runs_is_asked_whether_it_is_associated(folder: str, tmp_path: Path, state: str, code: int) -> None:
    path = str(tmp_path / "h.sock")
    with serving(path, {"role": "host"}, answers({"status": {"state": state, "reason": "the anchor is silent"}})):
        ran, checks = run(folder, path, "--host")
    assert ran.code == code
    assert state in checks["host daemon"]["found"]


def test_the_engine_that_would_serve_is_named_with_its_reason(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOJOURN_ENGINE", "python")
    ran, checks = run(folder, str(tmp_path / "none"), "--host")
    assert ran.code == 0
    assert not checks["C core"]["ok"]
    assert checks["C core"]["found"] == "the Python engine serves: SOJOURN_ENGINE says so"
    monkeypatch.setenv("SOJOURN_ENGINE", "steam")
    ran, checks = run(folder, str(tmp_path / "none"), "--host")
    assert ran.code == 1
    assert "steam is no engine" in checks["C core"]["found"]
