"""How a browser is put behind the proxy: the ones that are known, the user's choice, and any command."""

from pathlib import Path

import pytest

from sojourn.errors import NotSupported
from sojourn.linux.browsers import invocation

URL = "http://login.example/"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def install(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)


def test_chromium_gets_the_proxy_and_a_profile_of_its_own(installed: Path, tmp_path: Path) -> None:
    install(installed, "chromium", "firefox")
    run = invocation(None, URL, 4000, tmp_path, {"DISPLAY": ":0"})
    assert run.argv[0] == "chromium"
    assert "--proxy-server=http://127.0.0.1:4000" in run.argv
    assert f"--user-data-dir={tmp_path}" in run.argv
    assert "--no-sandbox" not in run.argv
    assert run.argv[-1] == URL
    assert run.proxied
    assert "--no-sandbox" in invocation(None, URL, 4000, tmp_path, {"DISPLAY": ":0"}, root=True).argv


def test_firefox_is_told_in_its_profile(installed: Path, tmp_path: Path) -> None:
    install(installed, "firefox")
    run = invocation(None, URL, 4000, tmp_path, {"WAYLAND_DISPLAY": "wayland-0"})
    assert run.argv == ("firefox", "--no-remote", "--profile", str(tmp_path), URL)
    assert 'user_pref("network.proxy.http_port", 4000);' in (tmp_path / "user.js").read_text()


def test_without_a_display_a_browser_for_the_terminal_is_taken(installed: Path, tmp_path: Path) -> None:
    install(installed, "chromium", "w3m")
    assert invocation(None, URL, 4000, tmp_path, {}).argv == ("w3m", URL)


def test_the_users_choice_goes_first_but_not_an_opener_that_hands_on(installed: Path, tmp_path: Path) -> None:
    install(installed, "mybrowser", "xdg-open", "chromium")
    wish = {"BROWSER": "absent:xdg-open:mybrowser --new %s", "DISPLAY": ":0"}
    run = invocation(None, URL, 4000, tmp_path, wish)
    assert run.argv == ("mybrowser", "--new", URL)
    assert invocation(None, URL, 4000, tmp_path, {"BROWSER": "xdg-open", "DISPLAY": ":0"}).argv[0] == "chromium"


def test_where_there_is_none_it_says_what_to_install(installed: Path, tmp_path: Path) -> None:
    assert installed.exists()
    with pytest.raises(NotSupported, match="w3m"):
        invocation(None, URL, 4000, tmp_path, {})


def test_any_command_is_run_with_the_proxy_in_its_environment_or_in_its_words(tmp_path: Path) -> None:
    before = {"PATH": "/bin", "HTTP_PROXY": "http://other:1", "no_proxy": "*"}
    run = invocation("curl -s", URL, 4000, tmp_path, before)
    assert run.argv == ("curl", "-s", URL)
    assert run.environment["http_proxy"] == "http://127.0.0.1:4000"
    assert "no_proxy" not in run.environment
    assert "HTTP_PROXY" not in run.environment
    named = invocation("tool --via {proxy} --at={url}", URL, 4000, tmp_path, before)
    assert named.argv == ("tool", "--via", "http://127.0.0.1:4000", f"--at={URL}")
    assert named.proxied
    assert not invocation("tool", URL, 4000, tmp_path, before).proxied
