"""One run of the window: its address is another one each time, and the token is nowhere else."""

from pathlib import Path

import pytest

from sojourn.window.launch import launch
from sojourn.window.server import Window


def test_each_run_has_a_secret_of_its_own_and_listens_on_this_computer_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sojourn.window.server.split", lambda _path: None)
    addresses = set()
    for _ in range(3):
        window = Window(str(tmp_path / "host.sock"), 0, browser=False, notices=False)
        assert window._listener.getsockname()[0] == "127.0.0.1"
        assert window.address.startswith(f"http://127.0.0.1:{window.port}/#token=")
        addresses.add(window.address.partition("#token=")[2])
        window._listener.close()
    assert len(addresses) == 3
    assert all(len(token) == 43 for token in addresses)


def test_where_no_browser_can_be_started_the_address_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sojourn.window.server.split", lambda _path: None)
    monkeypatch.setattr("sojourn.window.server.opener", lambda _environment: ("/nothing/here",))
    monkeypatch.setattr("sojourn.window.server.launch", launch)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    window = Window(str(tmp_path / "host.sock"), 0, browser=True, notices=False)
    window._open()
    window._listener.close()
    told = capsys.readouterr()
    assert told.out == window.address + "\n"
    assert "/nothing/here cannot be run" in told.err
    assert window.address not in told.err
