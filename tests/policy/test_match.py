import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.model import Endpoint, Flow
from sojourn.policy.match import Match, Term, covers, parse, write

WEB = Flow(6, Endpoint("10.201.0.2", 40000), Endpoint("160.80.81.1", 80))


def test_the_papers_own_match_is_read_as_written_in_fig_9() -> None:
    match = parse("-p tcp -destination 160.80.81.1 -destination-port 80")
    assert match == Match(Term("6"), None, Term("160.80.81.1/32"), None, Term("80:80"))
    assert covers(match, WEB)


@pytest.mark.parametrize(
    ("text", "covered"),
    [
        ("", True),
        ("-p udp", False),
        ("! -p udp", True),
        ("-p ! udp", True),
        ("-d 160.80.0.0/16 --dport 1:1024", True),
        ("-d 160.80.0.0/16 --dport 81:", False),
        ("--dport :80", True),
        ("-s 10.201.0.0/16 ! --sport 40000", False),
        ("-m tcp -p tcp --dport http", True),
        ("-d 2001:db8::/32", False),
    ],
)
def test_a_match_covers_what_iptables_would(text: str, covered: bool) -> None:
    assert covers(parse(text), WEB) is covered


@pytest.mark.parametrize(
    "text",
    [
        "-p",
        "-p foo",
        "-x 1",
        "tcp",
        "-d 1.2.3",
        "--dport 70000",
        "--dport 9:8",
        "-p tcp -p udp",
        "-d 'a",
        "-p -1",
        "x" * 600,
    ],
)
def test_what_has_no_meaning_is_refused(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse(text)


@given(st.text())
def test_any_text_is_a_match_or_a_protocol_error(text: str) -> None:
    try:
        match = parse(text)
    except RemoteProtocolError:
        return
    assert parse(write(match)) == match


@given(
    st.lists(st.sampled_from(["!", "-p", "tcp", "-d", "10.0.0.0/8", "--dport", "1:2", "-s", "::1", "--sport", "53"]))
)
def test_a_written_match_reads_back_as_the_same(words: list[str]) -> None:
    test_any_text_is_a_match_or_a_protocol_error.hypothesis.inner_test(" ".join(words))  # type: ignore[attr-defined]
