"""Policies of a client without root: read again when host.toml changes, a mistake changes nothing."""

import os
from pathlib import Path

import pytest

from sojourn.control.entries import Entry
from sojourn.control.questions import AnswerGiven, Remember
from sojourn.errors import ConfigError
from sojourn.policy.rules import Otherwise, Policy
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


def test_what_is_left_out_is_said_once_with_its_line(tmp_path: Path) -> None:
    copied = '[[policy]]\napplication = "call"\ncopies = 2\n'
    (tmp_path / "host.toml").write_text(HEAD + copied)
    policies = ClientPolicies(ConfigDir(str(tmp_path)))
    notes: list[Entry] = []
    policies.note = notes.append
    policies.say_what_is_left_out()
    policies.reload()
    (note,) = notes
    assert "host.toml:5: policy 'call': copies: is ignored" in note.reason
    (tmp_path / "host.toml").write_text(HEAD + 'order = ["wifi"]\n' + copied)
    assert policies.reload()
    assert len(notes) == 2, "it stands in another line now"


def test_an_answer_for_ever_is_there_the_next_time(tmp_path: Path) -> None:
    (tmp_path / "host.toml").write_text(HEAD)
    asking = Policy("call", otherwise=Otherwise.ASK)
    policies = ClientPolicies(ConfigDir(str(tmp_path)))
    notes: list[Entry] = []
    policies.note = notes.append
    assert policies.questions.choice_for(asking, ("wifi",), 1.0) == "hold"
    assert policies.questions.answer(AnswerGiven(1, "wifi", Remember.EVER))
    assert [note.event for note in notes] == ["question", "answer"]
    again = ClientPolicies(ConfigDir(str(tmp_path)))
    assert again.questions.choice_for(asking, ("wifi",), 2.0) == "wifi"
    assert again.questions.forget() == 1
    again.forgotten()
    assert not (tmp_path / "host.answers").exists()
