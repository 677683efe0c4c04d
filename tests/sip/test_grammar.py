import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.sip import grammar


def test_separators_in_quotes_and_brackets_do_not_count() -> None:
    assert grammar.split('realm="a, b", <sip:x@y,z>, c', ",") == ['realm="a, b"', "<sip:x@y,z>", "c"]


def test_a_backslash_hides_a_quote() -> None:
    assert grammar.split(r'"a \" ; b" ; c', ";") == [r'"a \" ; b"', "c"]
    assert grammar.unquote(r'"a \" b"') == 'a " b'


@pytest.mark.parametrize("text", ['"open', "<open", '"open \\"'])
def test_an_open_quote_or_bracket_is_an_error(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        grammar.split(text, ",")


def test_parameters_keep_their_order_and_lose_their_capitals() -> None:
    assert grammar.parse_parameters(["branch = z9h", "TID=Terminal_ID", "rport", ""]) == {
        "branch": "z9h",
        "tid": "Terminal_ID",
        "rport": None,
    }


@pytest.mark.parametrize("parts", [["a=1", "A=2"], ["=1"], ["a b=1"], ["a=b c"]])
def test_a_parameter_without_name_or_twice_is_an_error(parts: list[str]) -> None:
    with pytest.raises(RemoteProtocolError):
        grammar.parse_parameters(parts)


def test_a_bare_ipv6_address_is_a_value() -> None:
    assert grammar.parse_parameters(["received=2001:db8::1"]) == {"received": "2001:db8::1"}
    assert grammar.format_parameters({"received": "2001:db8::1"}) == ";received=2001:db8::1"


@pytest.mark.parametrize("text", ["", "-1", "1.0", "٣", "1" * 30, "11"])
def test_only_ascii_digits_up_to_the_limit_are_a_number(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        grammar.parse_number(text, 10, "it")


@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9\-]{0,8}", fullmatch=True), st.text(max_size=20) | st.none()))
def test_what_is_formatted_is_parsed_again(parameters: dict[str, str | None]) -> None:
    written = grammar.format_parameters(parameters)
    parts = grammar.split(written, ";")
    assert grammar.parse_parameters(parts) == parameters


@given(st.text(), st.sampled_from(",;"))
def test_any_text_is_split_and_read_or_refused(text: str, separator: str) -> None:
    with contextlib.suppress(RemoteProtocolError):
        grammar.parse_parameters(grammar.split(text, separator))
