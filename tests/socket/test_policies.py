"""Policies of a client without root: read again when host.toml changes, a mistake changes nothing."""

import os
from pathlib import Path

import pytest

from sojourn.errors import ConfigError
from sojourn.policy.rules import Policy
from sojourn.socket.policies import ClientPolicies
from sojourn.store.config_dir import ConfigDir

HEAD = f'anchor = "a.example"\nspki = "{"0" * 64}"\nuser = "ann"\ntid = "1"\n'


def test_a_change_is_told_and_a_mistake_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "host.toml"
    file.write_text(HEAD)
    policies = ClientPolicies(ConfigDir(str(tmp_path)))
    told: list[tuple[Policy, ...]] = []
    policies.changed = lambda now, _reason: told.append(now)
    file.write_text(HEAD + '[[policy]]\napplication = "backup"\nnetworks = ["wifi"]\n')
    assert policies.reload()
    assert [policy.label for policy in told[0]] == ["backup", ""]
    file.write_text(HEAD + '[[policy]]\napplication = "backup"\nnetwork = ["wifi"]\n')
    assert not policies.reload()
    os.unlink(file)
    assert not policies.reload()
    assert len(told) == 1
    assert policies.config.user == "ann"


def test_nobody_starts_with_a_wrong_file(tmp_path: Path) -> None:
    (tmp_path / "host.toml").write_text(HEAD + "[[policy]]\nnetwrks = []\n")
    with pytest.raises(ConfigError, match="netwrks"):
        ClientPolicies(ConfigDir(str(tmp_path)))
