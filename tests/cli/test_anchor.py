"""`sojourn anchor token|revoke|hosts`, with a daemon and without."""

import json
from pathlib import Path
from typing import Any

import pytest

from sojourn.api.messages import ApiError, ErrorKind
from sojourn.control.token import parse
from sojourn.store import keys
from sojourn.store.config_dir import ConfigDir
from sojourn.store.sqlite import SqliteStore
from tests.harness.control_socket import answers, serving, sojourn


@pytest.fixture
def folder(tmp_path: Path) -> str:
    folder = str(tmp_path / "etc")
    assert sojourn("init", "--config-dir", folder, "--address", "192.0.2.1").code == 0
    return folder


@pytest.fixture
def nobody(tmp_path: Path) -> str:
    """Return a socket where nobody answers: the machine's own anchor is no part of a test."""
    return str(tmp_path / "none.sock")


def users(folder: str) -> set[str]:
    return set(SqliteStore(str(ConfigDir(folder).database)).load().subscribers)


def test_without_a_daemon_the_token_s_secret_is_stored_at_once(folder: str, nobody: str) -> None:
    ran = sojourn("anchor", "token", "--name", "phone", "--config-dir", folder, "--socket", nobody)
    assert (ran.code, ran.err) == (0, "")
    token = parse(ran.out)
    assert (token.user, token.spki) == ("phone", keys.load(ConfigDir(folder)).spki)
    assert users(folder) == {"host", "phone"}


def test_options_may_stand_before_the_subcommand(folder: str, nobody: str) -> None:
    assert sojourn("anchor", "--config-dir", folder, "--socket", nobody, "token", "--name", "phone").code == 0
    assert users(folder) == {"host", "phone"}


def test_a_running_daemon_of_this_directory_is_asked_and_the_records_are_left_to_it(
    folder: str, tmp_path: Path
) -> None:
    path, asked = str(tmp_path / "a.sock"), list[tuple[str, dict[str, Any]]]()
    about = {"role": "anchor", "config_dir": folder}
    verbs = {"token": {"token": "sojourn1:abc"}, "revoke": {}, "hosts": [{"name": "host", "state": "associated"}]}
    with serving(path, about, answers(verbs, asked)):
        token = sojourn("anchor", "token", "--name", "phone", "--config-dir", folder, "--socket", path)
        revoked = sojourn("anchor", "revoke", "host", "--config-dir", folder, "--socket", path)
        listed = sojourn("anchor", "hosts", "--config-dir", folder, "--socket", path, "--json")
    assert (token.code, token.out) == (0, "sojourn1:abc\n")
    assert revoked.code == 0
    assert json.loads(listed.out) == verbs["hosts"]
    assert asked == [("token", {"name": "phone"}), ("revoke", {"name": "host"}), ("hosts", {})]
    assert users(folder) == {"host"}


def test_a_daemon_of_another_directory_is_not_asked(folder: str, tmp_path: Path) -> None:
    path, asked = str(tmp_path / "a.sock"), list[tuple[str, dict[str, Any]]]()
    with serving(path, {"role": "anchor", "config_dir": "/elsewhere"}, answers({"token": {}}, asked)):
        assert sojourn("anchor", "token", "--name", "phone", "--config-dir", folder, "--socket", path).code == 0
    assert asked == []
    assert users(folder) == {"host", "phone"}


def test_what_the_daemon_refuses_is_said(folder: str, tmp_path: Path) -> None:
    path = str(tmp_path / "a.sock")
    refusal = ApiError("'phone' has joined already", "Revoke it first.", ErrorKind.USAGE)
    with serving(path, {"role": "anchor", "config_dir": folder}, answers({"token": refusal})):
        ran = sojourn("anchor", "token", "--name", "phone", "--config-dir", folder, "--socket", path)
    assert (ran.code, ran.err) == (2, "sojourn: 'phone' has joined already. Revoke it first.\n")


def test_a_revoked_host_is_listed_as_such(folder: str, nobody: str) -> None:
    where = ("--config-dir", folder, "--socket", nobody)
    assert sojourn("anchor", "revoke", "host", *where).code == 0
    rows = json.loads(sojourn("anchor", "hosts", "--json", *where).out)
    assert [(row["name"], row["state"]) for row in rows] == [("host", "revoked")]
    assert "revoked" in sojourn("anchor", "hosts", *where).out


def test_revoking_a_stranger_fails_and_names_those_who_are_known(folder: str, nobody: str) -> None:
    ran = sojourn("anchor", "revoke", "stranger", "--config-dir", folder, "--socket", nobody)
    assert ran.code == 1
    assert "Known names: host." in ran.err


@pytest.mark.parametrize("arguments", [[], ["token", "--name", "x"], ["revoke", "x"], ["hosts"]])
def test_where_no_anchor_was_made_the_remedy_is_init(tmp_path: Path, nobody: str, arguments: list[str]) -> None:
    ran = sojourn("anchor", "--config-dir", str(tmp_path / "empty"), "--socket", nobody, *arguments)
    assert ran.code == 1
    assert "sojourn init" in ran.err
    assert not (tmp_path / "empty").exists()
