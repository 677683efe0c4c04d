"""An HTTP proxy's requests: read, rewritten, refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.msocks.http import HttpRequest, failure, take_request
from sojourn.msocks.socks5 import Address


def test_connect_names_where_to_and_basic_authorization_who() -> None:
    data = b"CONNECT example.org:443 HTTP/1.1\r\nProxy-Authorization: Basic em9vbTp4\r\n\r\nhello"
    for count in range(len(data) - 5):
        assert take_request(data[:count]) is None
    assert take_request(data) == (HttpRequest(Address("example.org", 443), "zoom", b""), len(data) - 5)


def test_an_absolute_uri_becomes_what_the_origin_wants() -> None:
    data = (b"GET http://[2001:db8::1]:8080/a/b?c=d HTTP/1.1\r\nHost: x\r\nProxy-Connection: keep-alive\r\n"
            b"Connection: keep-alive\r\nAccept: */*\r\n\r\n")  # fmt: skip
    found = take_request(data)
    assert found is not None
    assert found[0].address == Address("2001:db8::1", 8080)
    assert found[0].head == b"GET /a/b?c=d HTTP/1.1\r\nHost: x\r\nAccept: */*\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    "line", [b"GET / HTTP/1.1", b"CONNECT example.org HTTP/1.1", b"GET https://a/ HTTP/1.1", b"GET http:///x HTTP/1.1",
             b"CONNECT a:0 HTTP/1.1", b"CONNECT a:99999 HTTP/1.1", b"G\xe9T http://a/ HTTP/1.1",
             b"GET http://a/ HTTP/2"],
)  # fmt: skip
def test_what_a_proxy_cannot_serve_is_refused(line: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        take_request(line + b"\r\n\r\n")


def test_a_head_without_end_is_refused_in_time() -> None:
    with pytest.raises(RemoteProtocolError):
        take_request(b"GET http://a/ HTTP/1.1\r\n" + b"x" * 20000)


@given(st.binary(max_size=200))
def test_nonsense_is_none_or_refused(data: bytes) -> None:
    for text in (data, b"GET http://" + data + b"\r\n\r\n", b"CONNECT " + data + b" HTTP/1.1\r\n\r\n"):
        try:
            found = take_request(text)
        except RemoteProtocolError:
            continue
        assert found is None or 0 < found[0].address.port < 65536


def test_a_failure_is_an_answer_of_its_own() -> None:
    assert failure(502, "Bad Gateway").startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
