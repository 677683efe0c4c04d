"""Reading and writing a configuration directory."""

import os
import stat
from pathlib import Path

import pytest

from sojourn.control.config import Credentials
from sojourn.errors import ConfigError
from sojourn.store.config_dir import ConfigDir, rewrite, write


def test_credentials_read_back_and_are_private(tmp_path: Path) -> None:
    directory = ConfigDir(str(tmp_path / "d"))
    credentials = Credentials("0123456789abcdef", one_time=False, socks_key="ab" * 32)
    directory.write_credentials(credentials)
    assert directory.read_credentials() == credentials
    assert stat.S_IMODE(directory.credentials.stat().st_mode) == 0o600


def test_credentials_that_others_may_read_are_refused(tmp_path: Path) -> None:
    directory = ConfigDir(str(tmp_path))
    directory.write_credentials(Credentials("0123456789abcdef"))
    directory.credentials.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        directory.read_credentials()


def test_a_missing_file_says_which_command_makes_it(tmp_path: Path) -> None:
    directory = ConfigDir(str(tmp_path))
    with pytest.raises(ConfigError, match=r"host\.toml: does not exist\. .*sojourn join"):
        directory.host()
    with pytest.raises(ConfigError, match=r"anchor\.toml: does not exist\. .*sojourn init"):
        directory.anchor()


def test_a_replaced_file_is_never_half_there_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "host.toml"
    write(path, "old")
    before = path.stat().st_ino
    write(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_ino != before  # renamed over, not written into
    assert [entry.name for entry in tmp_path.iterdir()] == ["host.toml"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        write(tmp_path / "file" / "host.toml", "x")


def test_what_is_wrong_in_a_file_is_said_with_its_whole_path(tmp_path: Path) -> None:
    directory = ConfigDir(str(tmp_path))
    directory.anchor_toml.write_text("adress = 1\n")
    with pytest.raises(ConfigError, match=f"{directory.anchor_toml}: adress"):
        directory.anchor()


def test_a_file_that_people_own_keeps_its_owner_mode_and_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.toml", tmp_path / "host.toml"
    real.write_text("a = 1\n")
    real.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(real, 65534, 65534)
    link.symlink_to(real)
    before = os.stat(real)
    rewrite(link, "a = 2\n")
    after = os.stat(real)
    assert link.is_symlink()
    assert real.read_text() == "a = 2\n"
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert {path.name for path in tmp_path.iterdir()} == {"real.toml", "host.toml"}


def test_a_file_that_is_not_there_is_not_rewritten(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        rewrite(tmp_path / "host.toml", "a = 2\n")
