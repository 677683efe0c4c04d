"""The line of a key in a TOML text."""

from hypothesis import given
from hypothesis import strategies as st

from sojourn.policy.locate import Lines

TEXT = '''
anchor = "x"   # [[policy]] in a comment
order = [
    "wifi",
[[policy]]
]
note = """
[[policy]]
networks = 1
"""

[[policy]]
name = "a"
networks = ["x",
  "y"]
require = { loss = "2%" }
"otherwise" = "hold"

[network.wlan0]
interface = "x"

[[policy]]   # the second
require.rtt = "1s"
[policy.require]
loss = "2%"

[push]
accept = []
'''
TEXT = TEXT.replace('    "wifi",\n[[policy]]\n]', '    "wifi",\n    "]",\n]')
LINES = TEXT.splitlines()


def line(*arguments: str | int) -> str:
    array, index, *keys = arguments
    number = Lines(TEXT).of(str(array), int(index), *map(str, keys))
    assert number is not None
    return LINES[number - 1].strip()


def test_keys_are_found_in_their_own_table() -> None:
    assert line("policy", 0) == "[[policy]]"
    assert line("policy", 0, "networks") == 'networks = ["x",'
    assert line("policy", 0, "otherwise") == '"otherwise" = "hold"'
    assert line("policy", 1) == "[[policy]]   # the second"
    assert line("policy", 1, "require", "rtt") == 'require.rtt = "1s"'
    assert line("policy", 1, "require", "loss") == 'loss = "2%"'


def test_a_key_inside_an_inline_table_is_on_the_line_of_that_table() -> None:
    assert line("policy", 0, "require", "loss") == 'require = { loss = "2%" }'


def test_what_is_not_there_is_where_it_should_be() -> None:
    assert line("policy", 0, "missing") == "[[policy]]"
    assert Lines(TEXT).of("policy", 7) == Lines(TEXT).of_key("policy")
    assert Lines("").of("policy", 0) is None


def test_keys_outside_of_arrays_are_found_too() -> None:
    assert Lines(TEXT).of_key("anchor") == 2
    accept = Lines(TEXT).of_key("push", "accept")
    assert accept is not None
    assert LINES[accept - 1] == "accept = []"


def test_policies_as_one_array_are_on_the_line_where_that_begins() -> None:
    assert Lines('x = 1\npolicy = [\n {name = "a"},\n {nme = "b"},\n]\n').of("policy", 1, "nme") == 2


@given(st.text(alphabet=st.sampled_from("[]{}\"'#=\\\n apolicy."), max_size=200))
def test_any_text_is_gone_through_without_an_error(text: str) -> None:
    number = Lines(text).of("policy", 0, "a")
    assert number is None or 1 <= number <= len(text.splitlines())
