"""The browser is led to the window by a file of its user's own: no argument of a process has the token."""

import os
import stat
import time
from pathlib import Path

import pytest

from sojourn.window.launch import launch, opener

ADDRESS = "http://127.0.0.1:4321/#token=a&b-SECRET"


def test_the_browser_gets_a_private_file_that_leads_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    command, told = tmp_path / "browser", tmp_path / "told"
    command.write_text(f'#!/bin/sh\necho "$@" > {told}.new; mv {told}.new {told}\n')
    command.chmod(0o755)
    started = launch(ADDRESS, (str(command),))
    for _ in range(200):
        if told.exists():
            break
        time.sleep(0.02)
    page = Path(told.read_text().strip())
    assert "SECRET" not in told.read_text()
    assert "url=http://127.0.0.1:4321/#token=a&amp;b-SECRET" in page.read_text()
    assert stat.S_IMODE(os.stat(page).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(page.parent).st_mode) == 0o700
    started.close()
    assert not page.parent.exists()


def test_a_browser_that_cannot_be_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(FileNotFoundError):
        launch(ADDRESS, ("/nothing/here",))
    assert list(tmp_path.iterdir()) == []


def test_without_a_desktop_nothing_is_opened(tmp_path: Path) -> None:
    (tmp_path / "xdg-open").write_text("#!/bin/sh\n")
    (tmp_path / "xdg-open").chmod(0o755)
    assert opener({"PATH": str(tmp_path)}) is None
    assert opener({"PATH": str(tmp_path), "DISPLAY": ":0"}) == ("xdg-open",)
    assert opener({"PATH": "/nowhere", "WAYLAND_DISPLAY": "wayland-0"}) is None
