"""What the answer to a probe says: the true server, a portal, or nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.control.config import PortalConfig
from sojourn.control.portal_answer import MAX_URL, Answer, Finding, Verdict, judge, read, target
from sojourn.errors import RemoteProtocolError

NO_CONTENT = PortalConfig("http://probe.example/generate_204", "204")
WORD = PortalConfig("http://probe.example/", "200 success")


def judged(data: bytes, probe: PortalConfig = NO_CONTENT) -> Finding:
    return judge(read(data), probe)


def test_the_expected_status_is_the_true_servers() -> None:
    assert judged(b"HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n") == Finding(Verdict.OPEN)
    assert judged(b"HTTP/1.1 204\r\n\r\n") == Finding(Verdict.OPEN)


def test_where_a_word_is_expected_another_page_is_a_portals() -> None:
    assert judged(b"HTTP/1.0 200 OK\r\n\r\nsuccess\n", WORD) == Finding(Verdict.OPEN)
    assert judged(b"HTTP/1.0 200 OK\r\n\r\n<h1>Welcome to the hotel</h1>", WORD) == Finding(Verdict.CAPTIVE)


@pytest.mark.parametrize("status", ["301", "302", "303", "307", "308"])
def test_a_redirection_elsewhere_is_a_portals_and_says_where_it_is(status: str) -> None:
    data = f"HTTP/1.1 {status} Found\r\nlocation:  http://login.hotel.example/?x=1 \r\n\r\n".encode()
    assert judged(data) == Finding(Verdict.CAPTIVE, "http://login.hotel.example/?x=1")


def test_a_redirection_to_the_same_page_by_https_is_no_portals_but_one_to_another_page_is() -> None:
    data = b"HTTP/1.1 301 Moved\r\nLocation: https://probe.example/generate_204\r\n\r\n"
    assert judged(data) == Finding(Verdict.OPEN)
    data = b"HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n"
    assert judged(data) == Finding(Verdict.CAPTIVE, "http://probe.example/login")


def test_a_page_where_none_is_expected_and_rfc_6585s_511_are_a_portals() -> None:
    assert judged(b"HTTP/1.1 200 OK\r\n\r\nlog in") == Finding(Verdict.CAPTIVE)
    assert judged(b"HTTP/1.1 511 Network Authentication Required\r\n\r\n") == Finding(Verdict.CAPTIVE)


@pytest.mark.parametrize("status", ["404", "429", "500", "503", "101"])
def test_a_servers_trouble_says_nothing(status: str) -> None:
    assert judged(f"HTTP/1.1 {status} x\r\n\r\n".encode()) == Finding(Verdict.UNKNOWN)


@pytest.mark.parametrize(
    "location", ["javascript:alert(1)", "file:///etc/passwd", "data:text/html,x", "//[", "mailto:a"]
)
def test_a_browser_is_sent_to_web_pages_only(location: str) -> None:
    assert judged(f"HTTP/1.1 302 Found\r\nLocation: {location}\r\n\r\n".encode()).portal is None


def test_a_location_that_is_too_long_is_left_out() -> None:
    data = b"HTTP/1.1 302 Found\r\nLocation: http://a.example/" + b"x" * MAX_URL + b"\r\n\r\n"
    assert judged(data) == Finding(Verdict.CAPTIVE)


@pytest.mark.parametrize(
    "data", [b"", b"HTTP/1.1", b"SSH-2.0-OpenSSH\r\n", b"HTTP/2 204\r\n\r\n", b"HTTP/1.1 999 x\r\n\r\n"]
)
def test_what_is_no_http_answer_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read(data)


def test_a_probe_is_one_plain_request() -> None:
    asked = target("http://probe.example:8080/a?b=c#d")
    assert asked is not None
    assert (asked.host, asked.port, asked.path) == ("probe.example", 8080, "/a?b=c")
    assert asked.request.startswith(b"GET /a?b=c HTTP/1.1\r\nHost: probe.example:8080\r\n")
    six = target("http://[2001:db8::1]")
    assert six is not None
    assert b"GET / HTTP/1.1\r\nHost: [2001:db8::1]\r\n" in six.request


@pytest.mark.parametrize("url", ["", "https://a.example", "http://", "http://a:b/", "http://[::1", "ftp://a"])
def test_what_cannot_be_asked_is_no_target(url: str) -> None:
    assert target(url) is None


@given(st.binary(max_size=200), st.sampled_from([b"", b"HTTP/1.1 302 F\r\nLocation: ", b"HTTP/1.1 200 OK\r\n"]))
def test_any_bytes_are_judged_or_refused(data: bytes, head: bytes) -> None:
    try:
        answer = read(head + data)
    except RemoteProtocolError:
        return
    assert isinstance(answer, Answer)
    assert judge(answer, WORD).verdict in Verdict
