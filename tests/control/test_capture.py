"""`[[capture]]` in both its forms."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.control.capture import Capture, CaptureEntry, captures_of
from sojourn.errors import ConfigError
from sojourn.policy import match

REST_DIRECT = Capture(match.Match(), "direct")


def test_toml_keys_and_iptables_syntax_say_the_same() -> None:
    keys = CaptureEntry(protocol="tcp", destination="!10.0.0.0/8", destination_port=22)
    text = CaptureEntry(match="-p tcp ! -d 10.0.0.0/8 --dport 22")
    assert captures_of([keys], "f") == captures_of([text], "f")


def test_only_exemptions_leave_everything_else_captured() -> None:
    rules = captures_of([CaptureEntry(destination="10.0.0.0/8", action="direct")], "f")
    assert rules == (Capture(match.parse("-d 10.0.0.0/8"), "direct"),)


def test_who_lists_what_is_tunnelled_wants_nothing_else_there() -> None:
    rules = captures_of([CaptureEntry(match="-p udp")], "f")
    assert rules == (Capture(match.parse("-p udp"), "tunnel"), REST_DIRECT)


def test_a_rule_may_be_for_some_users_only() -> None:
    assert captures_of([CaptureEntry(uid="1000-1999")], "f")[0].uids == (1000, 1999)
    assert captures_of([CaptureEntry(uid=0)], "f")[0].uids == (0, 0)


@pytest.mark.parametrize(
    "entry",
    [
        CaptureEntry(match="-p tcp", protocol="tcp"),
        CaptureEntry(protocol="tc p"),
        CaptureEntry(destination="somewhere"),
        CaptureEntry(destination_port="99:1"),
        CaptureEntry(destination_port=70000),
        CaptureEntry(uid="9-1"),
        CaptureEntry(uid=-1),
    ],
)
def test_a_rule_without_sense_names_its_place(entry: CaptureEntry) -> None:
    with pytest.raises(ConfigError) as caught:
        captures_of([CaptureEntry(), entry], "host.toml")
    assert caught.value.where.startswith("host.toml: capture[1]")


@given(st.text(max_size=60), st.text(min_size=1, max_size=30), st.sampled_from(["source", "destination", "protocol"]))
def test_any_words_are_a_rule_or_a_config_error(text: str, value: str, key: str) -> None:
    for entry in (CaptureEntry(match=text), msgspec.convert({key: value}, CaptureEntry)):
        with contextlib.suppress(ConfigError):
            captures_of([entry], "f")
