import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.sip.framing import StreamFramer, parse_datagram
from sojourn.sip.message import Request, Response
from tests.sip.test_message import M1, M2, M3, plain_request


def drain(framer: StreamFramer) -> list[Request | Response]:
    """Take every message that is complete."""
    messages = []
    while (message := framer.next_message()) is not None:
        messages.append(message)
    return messages


def test_messages_come_out_whole_however_the_stream_is_cut() -> None:
    stream = b"\r\n\r\n" + M1 + M3 + b"\r\n" + M2
    for size in (1, 2, 7, 100, len(stream)):
        framer, messages = StreamFramer(), []
        for at in range(0, len(stream), size):
            framer.feed(stream[at : at + size])
            messages += drain(framer)
        assert [type(message) for message in messages] == [Request, Request, Response]
        assert messages[1].body.endswith(b'"any"]}')
        assert framer.buffered == 0


def test_a_body_is_bounded_until_the_owner_trusts_the_sender() -> None:
    made = plain_request()
    made.body = b"x" * 5000
    framer = StreamFramer(max_body=4096)
    framer.feed(bytes(made))
    with pytest.raises(RemoteProtocolError):
        framer.next_message()
    trusted = StreamFramer(max_body=4096)
    trusted.max_body = 1 << 20
    trusted.feed(bytes(made))
    assert len(drain(trusted)) == 1


def test_headers_without_end_are_refused_and_the_stream_stays_refused() -> None:
    framer = StreamFramer()
    framer.feed(b"OPTIONS sip:a SIP/2.0\r\nA: " + b"b" * 20000)
    for _ in range(2):
        with pytest.raises(RemoteProtocolError):
            framer.next_message()
    assert framer.buffered == 0


def test_a_stream_needs_content_length() -> None:
    framer = StreamFramer()
    framer.feed(b"OPTIONS sip:a SIP/2.0\r\nCall-ID: x\r\n\r\n")
    with pytest.raises(RemoteProtocolError, match="Content-Length"):
        framer.next_message()


def test_what_came_before_the_nonsense_is_not_lost() -> None:
    framer = StreamFramer()
    framer.feed(M1 + b"nonsense\r\n\r\n")
    assert isinstance(framer.next_message(), Request)
    with pytest.raises(RemoteProtocolError):
        framer.next_message()


def test_bytes_beyond_content_length_of_a_datagram_are_dropped() -> None:
    assert parse_datagram(M3 + b"more").body == parse_datagram(M3).body


def test_a_datagram_that_is_shorter_than_its_content_length_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        parse_datagram(M3[:-1])


@given(
    st.binary(max_size=200)
    | st.sampled_from([M1, M3]).flatmap(lambda m: st.integers(0, 255).map(lambda b: m + bytes([b]) * 9))
)
def test_any_stream_gives_the_same_whole_and_byte_by_byte(data: bytes) -> None:
    results = []
    for size in (1, max(len(data), 1)):
        framer, found = StreamFramer(), []
        try:
            for at in range(0, len(data), size):
                framer.feed(data[at : at + size])
                while (message := framer.next_message()) is not None:
                    found.append(bytes(message))
        except RemoteProtocolError:
            found.append(b"refused")
        results.append(found)
    assert results[0] == results[1]


@given(st.binary(max_size=300))
def test_any_datagram_is_a_message_or_refused(data: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        parse_datagram(data)
