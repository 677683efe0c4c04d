"""Frames, records and proofs: read back, and refused when anything is wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.msocks import frames, socks5
from sojourn.msocks.frames import Answer, Challenges, End, Frame, FrameType, Ping, Reconnect, Resumed, Status

KEY = b"k" * 32
ORDER = Reconnect(b"s" * 16, 3, 1 << 40, b"c" * 24)
RECORDS = [
    socks5.Request(1, socks5.Address("example.org", 443)), Ping(7), Ping(7, b"c" * 24), End(b"s" * 16),
    Answer(b"s" * 16, socks5.Reply(0, socks5.Address("192.0.2.1", 4000))),
]  # fmt: skip


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_each_record_is_read_as_it_was_written_and_not_when_cut_or_longer(record: frames.Record) -> None:
    data = frames.encode_record(record)
    assert frames.parse_record(data) == record
    for wrong in (*(data[:count] for count in range(len(data))), data + b"\0"):
        with pytest.raises(RemoteProtocolError):
            frames.parse_record(wrong)


def test_a_frame_is_read_one_byte_at_a_time() -> None:
    data = frames.frame(FrameType.HELLO, b"body")
    for count in range(len(data)):
        assert frames.take_frame(data[:count]) is None
    assert frames.take_frame(data + b"x") == (Frame(FrameType.HELLO, b"body"), len(data))


def test_an_order_to_continue_is_proved_by_the_key_and_bound_to_every_field() -> None:
    taken = frames.take_frame(ORDER.encode(KEY))
    assert taken is not None
    order, proof = frames.parse_reconnect(taken[0].body)
    assert order == ORDER
    assert order.proved(KEY, proof)
    assert not order.proved(b"x" * 32, proof)
    for place in range(len(taken[0].body)):
        body = bytearray(taken[0].body)
        body[place] ^= 1
        assert not (changed := frames.parse_reconnect(bytes(body)))[0].proved(KEY, changed[1])


def test_the_answer_is_proved_too_and_belongs_to_one_order() -> None:
    answer = Resumed(Status.RESUMED, 3, 99)
    taken = frames.take_frame(answer.encode(KEY, ORDER))
    assert taken is not None
    read, proof = frames.parse_resumed(taken[0].body)
    assert read == answer
    assert read.proved(KEY, ORDER, proof)
    assert not read.proved(KEY, Reconnect(ORDER.session, 4, ORDER.received, ORDER.challenge), proof)
    assert not Resumed(Status.RESUMED, 3, 98).proved(KEY, ORDER, proof)


def test_a_challenge_is_fresh_for_a_while_and_cannot_be_made_up() -> None:
    challenges = Challenges(b"secret")
    made = challenges.make(100.0)
    assert challenges.fresh(made, 159.0)
    assert not challenges.fresh(made, 161.0)
    assert not challenges.fresh(made[:8] + bytes(16), 100.0)
    assert not challenges.fresh(Challenges(b"other").make(100.0), 100.0)
    assert not challenges.fresh(bytes(24), 100.0)


@given(st.binary(max_size=150))
def test_nonsense_is_refused_and_nothing_else(data: bytes) -> None:
    for read in (frames.take_frame, frames.parse_record, frames.parse_reconnect, frames.parse_resumed,
                 frames.parse_challenge):  # fmt: skip
        try:
            read(data)
        except RemoteProtocolError:
            continue


def test_a_frame_that_announces_more_than_any_has_is_refused_before_it_comes() -> None:
    with pytest.raises(RemoteProtocolError):
        frames.take_frame(b"\x01\xff\xff")
    with pytest.raises(RemoteProtocolError):
        frames.take_frame(b"\x63\0\1")
