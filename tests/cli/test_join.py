"""`sojourn join`: a mobile host in one command, and no secret on any screen."""

import json
import stat
from pathlib import Path

import pytest

from sojourn.control.token import JoinToken
from sojourn.store.config_dir import ConfigDir
from tests.harness.control_socket import sojourn

TOKEN = JoinToken("anchor.example.org", 5061, bytes(range(32)), "laptop", b"s" * 16, b"k" * 32)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "etc")


def test_a_token_becomes_a_configuration_that_the_host_can_read(folder: str) -> None:
    ran = sojourn("join", str(TOKEN), "--config-dir", folder, "--name", "my-laptop")
    assert (ran.code, ran.err) == (0, "")
    config, credentials = ConfigDir(folder).host(), ConfigDir(folder).read_credentials()
    assert (config.name, config.anchor, config.port, config.user) == ("my-laptop", "anchor.example.org", 5061, "laptop")
    assert config.spki == TOKEN.spki.hex()
    assert (credentials.secret, credentials.one_time) == (TOKEN.password, True)
    assert credentials.socks_key == TOKEN.socks_key.hex()


def test_the_secret_is_in_the_private_file_and_nowhere_else(folder: str) -> None:
    ran = sojourn("join", str(TOKEN), "--config-dir", folder)
    directory = ConfigDir(folder)
    assert stat.S_IMODE(directory.credentials.stat().st_mode) == 0o600
    for text in (ran.out, ran.err, directory.host_toml.read_text()):
        assert TOKEN.password not in text
        assert str(TOKEN)[9:60] not in text
    assert len(directory.host_toml.read_text().splitlines()) == 10


def test_a_token_may_come_from_standard_input_with_line_breaks(folder: str) -> None:
    text = str(TOKEN)
    ran = sojourn("join", "-", "--config-dir", folder, stdin=f"{text[:50]}\n{text[50:]}\n")
    assert ran.code == 0
    assert ConfigDir(folder).host().user == "laptop"


def test_each_joining_makes_a_terminal_of_its_own(tmp_path: Path) -> None:
    for name in ("a", "b"):
        sojourn("join", str(TOKEN), "--config-dir", str(tmp_path / name))
    assert len({ConfigDir(str(tmp_path / name)).host().tid for name in ("a", "b")}) == 2


@pytest.mark.parametrize("token", ["", "nonsense", str(TOKEN)[:-3], "sojourn1:" + "é" * 10, "sojourn1:" + "A" * 5000])
def test_a_wrong_token_is_one_clear_line_and_exit_code_2(folder: str, token: str) -> None:
    ran = sojourn("join", token, "--config-dir", folder)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.count("\n") == 1
    assert "not a whole join token" in ran.err
    assert "sojourn anchor token" in ran.err
    assert not Path(folder).exists()


def test_what_is_there_is_not_overwritten_without_force(folder: str) -> None:
    sojourn("join", str(TOKEN), "--config-dir", folder)
    tid = ConfigDir(folder).host().tid
    ran = sojourn("join", str(TOKEN), "--config-dir", folder)
    assert (ran.code, ran.out) == (1, "")
    assert "--force" in ran.err
    assert ConfigDir(folder).host().tid == tid
    assert sojourn("join", str(TOKEN), "--config-dir", folder, "--force").code == 0
    assert ConfigDir(folder).host().tid != tid


def test_a_name_that_cannot_be_used_is_a_usage_error(folder: str) -> None:
    ran = sojourn("join", str(TOKEN), "--config-dir", folder, "--name", "my laptop")
    assert ran.code == 2
    assert "--name" in ran.err
    assert not Path(folder).exists()


def test_json_says_where_and_whom_and_no_secret(folder: str) -> None:
    ran = sojourn("join", str(TOKEN), "--config-dir", folder, "--json")
    facts = {"version": 1, "config_dir": folder, "anchor": "anchor.example.org", "user": "laptop"}
    assert json.loads(ran.out) == facts
