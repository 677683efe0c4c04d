"""`sojourn init`: an anchor in one command."""

import ipaddress
import json
import stat
from pathlib import Path

import pytest

from sojourn.control.token import parse
from sojourn.store import keys
from sojourn.store.config_dir import ConfigDir
from sojourn.store.sqlite import SqliteStore
from tests.harness.control_socket import sojourn


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "etc")


def test_the_last_line_is_a_token_that_names_this_anchor(folder: str) -> None:
    ran = sojourn("init", "--config-dir", folder, "--address", "192.0.2.1", "--port", "443")
    assert (ran.code, ran.err) == (0, "")
    token = parse(ran.out.splitlines()[-1])
    identity = keys.load(ConfigDir(folder))
    assert (token.address, token.port, token.user) == ("192.0.2.1", 443, "host")
    assert (token.spki, token.socks_key) == (identity.spki, identity.socks_key)


def test_configuration_and_records_fit_the_token(folder: str) -> None:
    sojourn("init", "--config-dir", folder, "--address", "a.example", "--pool", "10.9.0.0/24", "--name", "laptop")
    config = ConfigDir(folder).anchor()
    assert (config.address, config.pool) == ("a.example", "10.9.0.0/24")
    records = SqliteStore(str(ConfigDir(folder).database)).load()
    assert list(records.subscribers) == ["laptop"]
    assert records.subscribers["laptop"].ha1_once is not None


def test_each_anchor_gets_a_unique_local_prefix_of_its_own(tmp_path: Path) -> None:
    pools = set()
    for name in ("a", "b"):
        sojourn("init", "--config-dir", str(tmp_path / name), "--address", "192.0.2.1")
        pool6 = ConfigDir(str(tmp_path / name)).anchor().pool6
        assert pool6 is not None
        assert ipaddress.IPv6Network(pool6).subnet_of(ipaddress.IPv6Network("fd00::/8"))
        assert ipaddress.IPv6Network(pool6).prefixlen == 64
        pools.add(pool6)
    assert len(pools) == 2


def test_everything_but_the_configuration_is_private(folder: str) -> None:
    sojourn("init", "--config-dir", folder, "--address", "192.0.2.1")
    public = {path.name for path in Path(folder).iterdir() if stat.S_IMODE(path.stat().st_mode) != 0o600}
    assert public == {"anchor.toml"}


def test_an_anchor_that_is_there_is_not_overwritten_without_force(folder: str) -> None:
    sojourn("init", "--config-dir", folder, "--address", "192.0.2.1")
    before = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    ran = sojourn("init", "--config-dir", folder, "--address", "192.0.2.2")
    assert (ran.code, ran.out) == (1, "")
    assert "exists already" in ran.err
    assert "sojourn anchor token" in ran.err
    assert {path.name: path.read_bytes() for path in Path(folder).iterdir()} == before
    assert sojourn("init", "--config-dir", folder, "--address", "192.0.2.2", "--force").code == 0
    assert ConfigDir(folder).anchor().address == "192.0.2.2"
    assert len(SqliteStore(str(ConfigDir(folder).database)).load().subscribers) == 1


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--address", "not an address"),
        ("--pool", "10.0.0.1/8"),
        ("--pool6", "10.0.0.0/8"),
        ("--name", 'a"b'),
        ("--port", "0"),
    ],
)
def test_a_wrong_option_is_a_usage_error_and_leaves_nothing_behind(folder: str, option: str, value: str) -> None:
    options = {"--address": "192.0.2.1", option: value}
    ran = sojourn("init", "--config-dir", folder, *(word for pair in options.items() for word in pair))
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert not Path(folder).exists()


def test_json_is_one_line_and_holds_the_token(folder: str) -> None:
    ran = sojourn("init", "--config-dir", folder, "--address", "192.0.2.1", "--json")
    facts = json.loads(ran.out)
    assert set(facts) == {"version", "config_dir", "name", "token"}
    assert parse(facts["token"]).address == "192.0.2.1"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = sojourn("init", "--config-dir", str(tmp_path / "file"), "--address", "192.0.2.1")
    assert ran.code == 1
    assert "cannot be written" in ran.err
