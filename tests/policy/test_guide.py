"""docs/guide/policies.md and the examples say what the program does: their tables are read without a complaint."""

import re
import tomllib
from pathlib import Path

import pytest

from sojourn.control.config import HostConfig, PushConfig
from sojourn.control.decode import convert
from sojourn.policy.language import KEYS, Context, read
from sojourn.policy.presets import PRESETS
from sojourn.policy.rules import Require

ROOT = Path(__file__).parent.parent.parent
GUIDE = (ROOT / "docs" / "guide" / "policies.md").read_text()
BLOCKS = re.findall(r"^```toml\n((?:.*\n)*?)```$", GUIDE, re.MULTILINE)


def complaints(text: str) -> list[str]:
    tables = tomllib.loads(text)
    given = tables.get("policy", []) + tables.get("push", {}).get("policies", [])
    found = read(given, Context("text", text, user_id={"alice": 1000}.get, peers={"alice": "fd53:6f6a::1"}))
    return [str(problem) for problem in (*found.errors, *found.warnings)]


@pytest.mark.parametrize("text", BLOCKS)
def test_each_example_of_the_guide_is_right(text: str) -> None:
    assert complaints(text) == []
    tables = tomllib.loads(text)
    if "push" in tables:
        convert(tables["push"], PushConfig, "push")
    if "accept" in tables:
        head = {"anchor": "192.0.2.1", "spki": "0" * 64, "user": "u", "tid": "t"}
        convert({**head, **tables}, HostConfig, "host.toml")


@pytest.mark.parametrize("name", ["host.toml", "anchor.toml"])
def test_the_policies_of_the_examples_are_right_also_with_all_comments_taken_away(name: str) -> None:
    text = (ROOT / "examples" / name).read_text()
    uncommented = re.sub(r"^# ?(?=[a-z_]+ = |\[)", "", text, flags=re.MULTILINE)
    for version in (text, uncommented):
        assert complaints(version) == []
    assert "policy]]" in uncommented or "push.policies" in uncommented


def test_every_key_every_condition_and_every_preset_is_in_the_guide() -> None:
    told = set(re.findall(r"`([A-Za-z_]+)`", GUIDE)) | set(re.findall(r"^([a-z_]+) = ", "".join(BLOCKS), re.MULTILINE))
    assert set(KEYS) - {"preset"} <= told
    assert set(Require.__struct_fields__) <= told
    assert set(PRESETS) <= told


def test_the_mistake_that_the_guide_shows_is_told_in_these_words() -> None:
    (shown,) = re.findall(r"new\.toml:4: .*", GUIDE)
    text = '[[policy]]\napplication = "zoom"\nnetworks = ["wifi"]\nrequire = { rtt = "150" }\n'
    (problem,) = read(tomllib.loads(text)["policy"], Context("new.toml", text)).errors
    assert str(problem) == shown
