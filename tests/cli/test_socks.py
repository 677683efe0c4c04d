"""`sojourn socks` on the command line. What it does is seen in tests/net/test_socks.py."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from sojourn.cli.socks import socks
from sojourn.control.config import Credentials, parse_host
from sojourn.errors import ConfigError
from sojourn.socket.client import account_of


@pytest.mark.parametrize("where", ["1080", "localhost:1080", "127.0.0.1:99999", "::1:1080"])
def test_where_to_listen_is_an_address_and_a_port(where: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(socks, ["--listen", where, "--config-dir", str(tmp_path)])
    assert result.exit_code == 2
    assert "127.0.0.1:1080" in result.output


def test_without_a_configuration_the_remedy_is_told(tmp_path: Path) -> None:
    result = CliRunner().invoke(socks, ["--config-dir", str(tmp_path)])
    assert isinstance(result.exception, ConfigError)
    assert "sojourn join" in str(result.exception)


def test_a_computer_that_joined_too_early_is_told_to_join_again() -> None:
    config = parse_host(f'anchor = "a.example"\nspki = "{"0" * 64}"\nuser = "ann"\ntid = "1"\n')
    with pytest.raises(ConfigError) as error:
        account_of(config, Credentials("secret-secret", socks_key="ab" * 32), "credentials")
    assert "join" in str(error.value)
    account = account_of(config, Credentials("secret-secret", False, "ab" * 32, "cd" * 32, "ef" * 32), "credentials")
    assert "cd" not in repr(account)
