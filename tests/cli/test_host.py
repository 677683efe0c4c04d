"""`sojourn host`, `up`, `down`."""

import json
from pathlib import Path

import pytest

from sojourn.api.messages import ApiError, ErrorKind
from tests.harness.control_socket import answers, serving, sojourn


def test_a_host_that_has_not_joined_is_told_to(tmp_path: Path) -> None:
    ran = sojourn("host", "--config-dir", str(tmp_path))
    assert ran.code == 1
    assert "sojourn join TOKEN" in ran.err


def test_a_wrong_configuration_is_told_with_file_and_key_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "host.toml").write_text('anchor = "192.0.2.1"\nprot = 1\n')
    ran = sojourn("host", "--config-dir", str(tmp_path))
    assert ran.code == 1
    assert f"{tmp_path / 'host.toml'}: prot: there is no such key. Did you mean 'port'?" in ran.err


@pytest.mark.parametrize("verb", ["up", "down"])
def test_the_switches_say_what_they_did(tmp_path: Path, verb: str) -> None:
    path = str(tmp_path / "h.sock")
    with serving(path, {}, answers({verb: {"version": 1, "state": verb}})):
        assert sojourn(verb, "--socket", path).out == f"{verb}: {verb}\n"
        assert json.loads(sojourn(verb, "--json", "--socket", path).out) == {"version": 1, "state": verb}


def test_a_switch_without_association_is_exit_code_5(tmp_path: Path) -> None:
    path = str(tmp_path / "h.sock")
    with serving(path, {}, answers({"up": ApiError("not associated", "Wait.", ErrorKind.NOT_ASSOCIATED)})):
        ran = sojourn("up", "--socket", path)
    assert (ran.code, ran.err) == (5, "sojourn: not associated. Wait.\n")
