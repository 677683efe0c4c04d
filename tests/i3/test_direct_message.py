"""Messages about direct paths: every byte, and whatever bytes come."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.i3 import direct_message
from sojourn.i3.direct_message import MAX_CANDIDATES, Answer, Candidate, Carried, Check, Kind, Offer, SizeProbe, parse
from sojourn.model import Endpoint

HOST = Candidate(Kind.HOST, 2130706431, Endpoint("192.168.1.2", 4000))
REFLEXIVE = Candidate(Kind.REFLEXIVE, 1694498815, Endpoint("2001:db8::7", 40001))

endpoints = st.builds(
    Endpoint, st.ip_addresses().map(str), st.integers(0, 65535)
)  # fmt: skip
offers = st.builds(
    Offer,
    st.booleans(),
    st.integers(1, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.lists(st.builds(Candidate, st.sampled_from(Kind), st.integers(0, 2**32 - 1), endpoints), max_size=8).map(tuple),
    st.booleans(),
)
messages = st.one_of(
    offers,
    st.builds(Check, st.binary(min_size=8, max_size=8), st.integers(0, 2**32 - 1), st.booleans()),
    st.builds(Answer, st.binary(min_size=8, max_size=8), endpoints),
    st.builds(Carried, st.binary(max_size=200)),
    st.builds(SizeProbe, st.binary(min_size=8, max_size=8), st.integers(0, 1500)),
)


@given(messages)
def test_what_is_written_is_read(message: direct_message.Message) -> None:
    assert parse(bytes(message)) == message


@given(st.binary(max_size=300) | messages.map(bytes).flatmap(lambda data: st.binary(max_size=40).map(data.__add__)))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        assert bytes(parse(data)) == data


@given(messages.map(bytes), st.data())
def test_a_message_that_is_cut_off_or_altered_is_read_or_refused(data: bytes, more: st.DataObject) -> None:
    at = more.draw(st.integers(0, len(data) - 1))
    for damaged in (data[:at], data[:at] + bytes((more.draw(st.integers(0, 255)),)) + data[at + 1 :]):
        with contextlib.suppress(RemoteProtocolError):
            parse(damaged)


def test_a_check_is_as_long_as_its_answer() -> None:
    assert len(bytes(Check(bytes(8), 1))) == len(bytes(Answer(bytes(8), HOST.endpoint)))


def test_a_thousand_candidates_have_no_room_and_more_than_eight_are_refused() -> None:
    full = bytes(Offer(True, 1, 0, (HOST,) * MAX_CANDIDATES))
    assert len(parse(full).candidates) == 8  # type: ignore[union-attr]
    for count in (9, 255):
        body = full[:3] + bytes((count,)) + full[4:20] + full[20:44] * count
        with pytest.raises(RemoteProtocolError) as refused:
            parse(body)
        assert refused.value.reason == "candidates"


@pytest.mark.parametrize(
    ("plaintext", "reason"),
    [
        (b"\x30", "version"),
        (b"\x31\x01" + bytes(29), "version"),
        (b"\x35\x00", "plaintext"),
        (b"\x34\x00", "length"),
        (bytes(SizeProbe(bytes(8), 4)) + b"\1", "length"),
        (bytes(Offer(True, 1))[:10], "short"),
        (bytes(Offer(True, 0)), "length"),
        (bytes(Check(bytes(8), 1)) + b"\0", "length"),
        (bytes(Check(bytes(8), 1))[:-1] + b"\1", "length"),
        (b"\x32\x00\x00\x00" + bytes(27), "address"),
        (b"\x30\x00\x01\x01" + bytes(7) + b"\x01" + bytes(8) + b"\x02" + bytes(23), "candidates"),
    ],
)
def test_each_way_to_make_no_sense_has_a_reason(plaintext: bytes, reason: str) -> None:
    with pytest.raises(RemoteProtocolError) as refused:
        parse(plaintext)
    assert refused.value.reason == reason
