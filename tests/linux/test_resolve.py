"""An anchor's name."""

import pytest

from sojourn.errors import ConfigError
from sojourn.linux.resolve import resolved


def test_an_address_stands_for_itself_and_a_name_for_its_addresses() -> None:
    assert resolved("192.0.2.1") == ["192.0.2.1"]
    assert "127.0.0.1" in resolved("localhost")


def test_a_name_that_nobody_knows_is_told_with_its_place() -> None:
    with pytest.raises(ConfigError, match=r"host\.toml: anchor"):
        resolved("no.such.name.invalid", "host.toml: anchor")
