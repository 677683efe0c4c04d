"""`sojourn cleanup` while a daemon runs; what it removes is tested beside linux/cleanup.py."""

from pathlib import Path

from tests.harness.control_socket import answers, serving, sojourn


def test_a_running_daemon_is_not_pulled_the_rug_from_under(tmp_path: Path) -> None:
    path = str(tmp_path / "h.sock")
    with serving(path, {"role": "host"}, answers({})):
        ran = sojourn("cleanup", "--socket", path, "--config-dir", str(tmp_path))
    assert (ran.code, ran.out) == (1, "")
    assert "a daemon is running" in ran.err
    assert "--force" in ran.err
