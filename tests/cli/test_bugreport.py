"""`sojourn bugreport` without a daemon (tests/net/test_operator.py has real ones)."""

import json
import tarfile
from pathlib import Path

import pytest

from sojourn.cli import bugreport_parts
from tests.harness.control_socket import answers, serving, sojourn


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an anchor's directory, on a machine where no daemon runs and no command tells anything."""
    for name in ("HOST_SOCKET", "ANCHOR_SOCKET", "RENDEZVOUS_SOCKET"):
        monkeypatch.setattr(bugreport_parts, name, str(tmp_path / "none"))
    said = "password=hunter2-hunter2\n\x1b]0;mine\x07\tx"
    monkeypatch.setattr(bugreport_parts, "COMMANDS", {"system/said.txt": ("echo", said)})
    folder = tmp_path / "etc"
    assert sojourn("init", "--config-dir", str(folder), "--address", "anchor.example", "--name", "laptop").code == 0
    (folder / "anchor.log").write_text('{"event": "associated", "reason": "from 192.0.2.77"}\n')
    return folder


def test_what_would_be_in_it_can_be_looked_at_and_nothing_is_written(config: Path) -> None:
    before = sorted(Path().iterdir())
    listed = sojourn("bugreport", "--list", "--config-dir", str(config)).out
    assert "config/anchor.toml" in listed
    shown = sojourn("bugreport", "--show", "system/said.txt", "--config-dir", str(config)).out
    assert "hunter2" not in shown
    assert "password=" in shown
    assert "?]0;mine?" in shown, "a terminal obeys none of it"
    assert sojourn("bugreport", "--show", "nothing", "--config-dir", str(config)).code == 2
    assert sorted(Path().iterdir()) == before


def test_without_a_daemon_there_is_the_log_that_it_left(config: Path, tmp_path: Path) -> None:
    where = tmp_path / "report.tar.gz"
    said = sojourn("bugreport", "--config-dir", str(config), "-o", str(where), "--json")
    found = json.loads(said.out)
    assert found["path"] == str(where)
    assert where.stat().st_mode & 0o777 == 0o600
    with tarfile.open(where) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        log = archive.extractfile("report/anchor/log.jsonl")
        assert log is not None
        assert b"192.0.2.77" in log.read()
    assert names == set(found["parts"])
    assert sojourn("bugreport", "--config-dir", str(config), "-o", str(where)).code == 1, "it is never written over"


def test_a_mask_hides_the_anchor_s_name(config: Path) -> None:
    asked = ("bugreport", "--config-dir", str(config), "--mask-addresses", "--show")
    assert "anchor.example" not in sojourn(*asked, "config/anchor.toml").out
    assert "<ipv4-1>" in sojourn(*asked, "anchor/log.jsonl").out


def test_what_a_daemon_will_not_tell_is_told_and_the_rest_is_there(config: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "a.sock")
    with serving(path, {"role": "anchor"}, answers({"status": {"version": 1}, "hosts": ValueError("no")})):
        asked = ("bugreport", "--config-dir", str(config), "--socket", path, "--show")
        assert json.loads(sojourn(*asked, "anchor/status.json").out) == {"version": 1}
        assert sojourn(*asked, "anchor/hosts.json").out.startswith("not to be had: ")
