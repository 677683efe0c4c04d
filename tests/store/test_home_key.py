"""D/home.key: made once, private, and never replaced silently."""

import stat
from pathlib import Path

import pytest

from sojourn.errors import ConfigError
from sojourn.store import home_key
from sojourn.store.config_dir import ConfigDir


def test_the_first_look_makes_it_and_every_other_finds_it(tmp_path: Path) -> None:
    directory = ConfigDir(str(tmp_path / "d"))
    first = home_key.identity(directory)
    assert home_key.identity(directory).address == first.address
    assert stat.S_IMODE(directory.home_key.stat().st_mode) == 0o600


def test_a_broken_or_readable_one_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    directory = ConfigDir(str(tmp_path))
    home_key.load_or_make(directory)
    text = directory.home_key.read_text()
    directory.home_key.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        home_key.load_or_make(directory)
    directory.home_key.chmod(0o600)
    directory.home_key.write_text(text[:-3])
    with pytest.raises(ConfigError, match="does not hold two keys"):
        home_key.load_or_make(directory)
    assert directory.home_key.read_text() == text[:-3]
