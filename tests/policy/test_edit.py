"""Changing policies in a file that a person has written: what is not meant stays as it is, byte for byte."""

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.errors import ConfigError
from sojourn.policy.edit import MAX_EDITS, Edit, edited, tables_of

TEXT = '''# my laptop
anchor = "192.0.2.1"   # at home
order = [
    "ethernet",  # fastest
    "wifi",
]

# Calls first.
# They suffer most.
[[policy]]
application = "zoom"     # and its helpers
networks = ["ethernet", "wifi"]
require = { loss = "2%", rtt = "150ms" }

[[policy]]
name = "backup"
networks = ["wifi"]
# never cellular
otherwise = "hold"

  [policy.require]
  metered = false

# Networks.
[network.wifi]
interface = "wlan0"
text = """
[[policy]]
"""

# The last one.
[[policy]]
preset = "OnlyFree"
'''


def names(text: str) -> list[str]:
    return [str(table.get("application") or table.get("name") or table.get("preset")) for table in tables_of(text)]


def lines_of(text: str) -> set[str]:
    return {line for line in text.splitlines() if line.strip()}


def test_a_table_moves_with_its_comments_and_nothing_else_changes() -> None:
    text = edited(TEXT, [Edit("move", 0, to=2)])
    assert names(text) == ["backup", "OnlyFree", "zoom"]
    assert lines_of(text) == lines_of(TEXT)
    assert "# Calls first.\n# They suffer most.\n[[policy]]\napplication" in text
    assert "# Networks.\n[network.wifi]" in text
    assert names(edited(text, [Edit("move", 2, to=0)])) == names(TEXT)


def test_a_table_that_is_removed_takes_its_comments_along_and_leaves_those_of_the_next() -> None:
    text = edited(TEXT, [Edit("remove", 1)])
    assert names(text) == ["zoom", "OnlyFree"]
    assert "never cellular" not in text
    assert "# Networks.\n[network.wifi]" in text
    assert lines_of(TEXT) - lines_of(text) == {
        'name = "backup"', 'networks = ["wifi"]', "# never cellular", 'otherwise = "hold"', "  [policy.require]",
        "  metered = false",
    }  # fmt: skip


def test_a_value_changes_and_the_comments_of_its_table_stay() -> None:
    table = tables_of(TEXT)[0] | {"networks": ["wifi"], "otherwise": "any"}
    text = edited(TEXT, [Edit("set", 0, table=table)])
    assert tables_of(text)[0] == table
    assert 'application = "zoom"     # and its helpers\n' in text
    assert lines_of(TEXT) - lines_of(text) == {'networks = ["ethernet", "wifi"]'}


def test_a_key_inside_of_a_sub_table_changes() -> None:
    table = tables_of(TEXT)[1] | {"require": {"metered": False, "loss": "5%"}}
    text = edited(TEXT, [Edit("set", 1, table=table)])
    assert tables_of(text)[1] == table
    assert "# never cellular\n" in text
    del table["require"], table["name"]
    assert tables_of(edited(text, [Edit("set", 1, table=table)]))[1] == table


def test_a_new_table_stands_where_it_is_wanted() -> None:
    table: dict[str, Any] = {"application": "curl", "networks": ["wifi", "*"], "require": {"rtt": "1s"}, "copies": None}
    for place in range(4):
        text = edited(TEXT, [Edit("add", place, table=table)])
        assert names(text)[place] == "curl"
        assert lines_of(TEXT) <= lines_of(text)
    assert '[[policy]]\napplication = "curl"\nnetworks = ["wifi", "*"]\nrequire = {rtt = "1s"}\n' in text


def test_the_first_table_of_a_file_without_any() -> None:
    assert edited('anchor = "a"\n', [Edit("add", 0, table={"preset": "OnlyFree"})]) == (
        'anchor = "a"\n\n[[policy]]\npreset = "OnlyFree"\n'
    )


def test_the_general_order_changes_where_it_stands_or_gets_a_line() -> None:
    text = edited(TEXT, [Edit("order", networks=("wifi", "*"))])
    assert tomllib.loads(text)["order"] == ["wifi", "*"]
    assert lines_of(TEXT) - lines_of(text) <= {"order = [", '    "ethernet",  # fastest', '    "wifi",', "]"}
    text = edited('anchor = "a"\n# one\n[network.wifi]\n', [Edit("order", networks=("wifi",))])
    assert text == 'anchor = "a"\norder = ["wifi"]\n# one\n[network.wifi]\n'


def test_several_changes_follow_on_each_other() -> None:
    text = edited(TEXT, [Edit("remove", 0), Edit("add", 0, table={"application": "a"}), Edit("move", 2, to=0)])
    assert names(text) == ["OnlyFree", "a", "backup"]


@pytest.mark.parametrize(
    "text", ['policy = [{ application = "a" }]\n', 'policy = [\n  { application = "a" },\n]\n[network.wifi]\n']
)
def test_policies_that_are_written_another_way_are_left_to_a_person(text: str) -> None:
    with pytest.raises(ConfigError, match="by hand"):
        edited(text, [Edit("remove", 0)])


@pytest.mark.parametrize(
    "edit", [Edit("set", 3), Edit("remove", -1), Edit("move", 0, to=3), Edit("add", 4), Edit("move", 9, to=0)]
)
def test_a_place_that_is_not_there_is_named(edit: Edit) -> None:
    with pytest.raises(ConfigError, match="is not there"):
        edited(TEXT, [edit])


def test_a_file_that_is_no_toml_and_endless_edits_are_refused() -> None:
    with pytest.raises(ConfigError, match="no TOML"):
        edited("a = = 1", [])
    with pytest.raises(ConfigError, match="more than"):
        edited(TEXT, [Edit("order")] * (MAX_EDITS + 1))


VALUES = st.recursive(
    st.text(max_size=12) | st.integers(-(2**31), 2**31) | st.booleans(),
    lambda inner: st.lists(st.text(max_size=5), max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
TABLES = st.dictionaries(st.text(max_size=8), VALUES, max_size=4)
EDITS = st.one_of(
    st.builds(lambda at, table: Edit("add", at, table=table), st.integers(0, 4), TABLES),
    st.builds(lambda at, table: Edit("set", at, table=table), st.integers(0, 4), TABLES),
    st.builds(lambda at: Edit("remove", at), st.integers(0, 4)),
    st.builds(lambda at, to: Edit("move", at, to), st.integers(0, 4), st.integers(0, 4)),
    st.builds(lambda names: Edit("order", networks=tuple(names)), st.lists(st.text(max_size=5), max_size=3)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(EDITS, max_size=5))
def test_any_edits_come_out_as_meant_or_are_refused(edits: list[Edit]) -> None:
    try:
        text = edited(TEXT, edits)
    except ConfigError:
        return
    assert tomllib.loads(text)["network"] == tomllib.loads(TEXT)["network"]
    assert "# Networks.\n" in text
    assert text.startswith('# my laptop\nanchor = "192.0.2.1"   # at home\n')
