"""Control frames, byte for byte."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.model import Endpoint
from sojourn.packet.frame import Answer, Challenge, Close, EpochFrame, Frame, Probe, Response, parse

WORD, LONG = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
ENDPOINTS = st.builds(
    Endpoint, st.ip_addresses().map(str).filter(lambda text: "%" not in text), st.integers(0, 65535)
)  # fmt: skip
FRAMES: st.SearchStrategy[Frame] = st.one_of(
    st.builds(EpochFrame, WORD),
    st.builds(Probe, WORD, WORD, LONG),
    st.builds(Answer, WORD, WORD, LONG, LONG, LONG, LONG, LONG, st.none() | ENDPOINTS),
    st.builds(Challenge, WORD, st.binary(min_size=8, max_size=8)),
    st.builds(Response, WORD, st.binary(min_size=8, max_size=8)),
    st.builds(Close, WORD),
)


def test_a_probe_reads_as_the_wire_document_says() -> None:
    assert bytes(Probe(0x01020304, 5, 6)).hex() == "010001020304000000050000000000000006"


def test_an_answer_carries_an_ipv4_address_in_the_first_four_of_sixteen_bytes() -> None:
    data = bytes(Answer(1, 2, 3, 4, 5, 6, 7, Endpoint("192.0.2.1", 8)))
    assert len(data) == 69
    assert data[-19:].hex() == "04c0000201" + 12 * "00" + "0008"


@given(FRAMES, st.integers(0, 1400))
def test_what_is_written_is_read_with_any_padding(frame: Frame, padding: int) -> None:
    assert parse(bytes(frame) + bytes(padding)) == frame


@given(FRAMES, st.data())
def test_a_frame_that_is_cut_off_is_refused(frame: Frame, data: st.DataObject) -> None:
    whole = bytes(frame)
    with pytest.raises(RemoteProtocolError):
        parse(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(
    st.binary(max_size=120) | st.tuples(st.integers(0, 5), st.binary(max_size=90)).map(lambda t: bytes(t[:1]) + t[1])
)
def test_any_bytes_give_a_frame_that_says_the_same_or_a_protocol_error(data: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        again = bytes(parse(data))
        assert again[:1] + again[2:] == (data[:1] + data[2:])[: len(again) - 1]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (bytes(5), "frame"),
        (bytes((6, 0, 0, 0, 0, 0)), "frame-type"),
        (bytes((0x0F, 0, 0, 0, 0, 0)), "frame-type"),
        (bytes(EpochFrame(1)) + b"\0\1", "frame"),
        (bytes(Answer(1, 2, 3, 4, 5, 6, 7, Endpoint("192.0.2.1", 8))).replace(b"\x04\xc0", b"\x05\xc0"), "frame"),
    ],
)
def test_what_no_rule_allows_is_refused_by_name(data: bytes, reason: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        parse(data)
    assert caught.value.reason == reason
