import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.model import Endpoint
from sojourn.sip import via
from sojourn.sip.via import Via

SOURCE = Endpoint("160.80.100.1", 33000)


@pytest.mark.parametrize(
    "text",
    [
        "SIP/2.0/UDP 192.168.100.25;branch=z9h;TID=Terminal_ID;rport",
        "SIP/2.0/TLS [2001:db8::1]:5061;branch=z9hG4bK1;received=2001:db8::2",
        "SIP/2.0/TCP anchor.example.org;branch=z9hG4bK1",
        "SIP/7.0/UDP c.example.com;branch=z9hG4bKkdjuw",
    ],
)
def test_what_is_parsed_is_written_the_same(text: str) -> None:
    assert str(via.parse(text)) == text


def test_the_trailing_semicolon_of_figure_9_is_passed_over() -> None:
    read = via.parse("SIP/2.0/UDP 192.168.100.25; branch=z9h; TID=Terminal_ID; rport;")
    assert read == Via("UDP", "192.168.100.25", None, {"branch": "z9h", "tid": "Terminal_ID", "rport": None})
    assert read.tid == "Terminal_ID"


def test_rport_and_received_are_filled_in_as_rfc_3581_section_4_says() -> None:
    stamped = via.stamped(via.parse("SIP/2.0/UDP 192.168.100.25:5060;branch=z9hG4bK1;rport"), SOURCE)
    assert stamped.parameters == {"branch": "z9hG4bK1", "rport": "33000", "received": "160.80.100.1"}


def test_received_alone_is_added_when_sent_by_is_another_address() -> None:
    stamped = via.stamped(via.parse("SIP/2.0/UDP 192.168.100.25;branch=z9hG4bK1"), SOURCE)
    assert stamped.parameters == {"branch": "z9hG4bK1", "received": "160.80.100.1"}
    same = via.parse("SIP/2.0/UDP 160.80.100.1;branch=z9hG4bK1")
    assert via.stamped(same, SOURCE) == same


def test_an_answer_goes_to_the_source_port_with_rport_and_to_sent_by_without() -> None:
    assert via.answer_to(via.parse("SIP/2.0/UDP 10.0.0.1:5070;rport"), SOURCE) == SOURCE
    assert via.answer_to(via.parse("SIP/2.0/UDP 10.0.0.1:5070"), SOURCE) == Endpoint("160.80.100.1", 5070)
    assert via.answer_to(via.parse("SIP/2.0/UDP 10.0.0.1"), SOURCE) == Endpoint("160.80.100.1", 5060)


def test_an_answer_never_goes_to_maddr() -> None:
    assert via.answer_to(via.parse("SIP/2.0/UDP 10.0.0.1;maddr=198.51.100.1;rport"), SOURCE) == SOURCE


def test_the_via_of_a_request_asks_for_rport_and_carries_the_terminal() -> None:
    made = via.make("TLS", Endpoint("2001:db8::9", 40000), "z9hG4bKaa", "laptop")
    assert str(made) == "SIP/2.0/TLS [2001:db8::9]:40000;branch=z9hG4bKaa;rport;TID=laptop"


@given(st.text(max_size=120) | st.text(max_size=60).map("SIP/2.0/UDP 10.0.0.1".__add__))
def test_any_text_is_a_via_or_refused(text: str) -> None:
    try:
        read = via.parse(text)
    except RemoteProtocolError:
        return
    assert via.parse(str(read)) == read
