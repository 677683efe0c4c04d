"""How a pair lies in memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.msocks import splice_pair
from sojourn.msocks.splice_pair import (
    Half,
    Notice,
    Pair,
    PairFlag,
    State,
    Stream,
    pack,
    parse_notice,
    tuple_key,
    unpack,
)

u32, u64 = st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 64) - 1)


@given(numbers=st.lists(u32, min_size=8, max_size=8), long=u64, six=st.booleans())
def test_what_is_packed_is_read_again(numbers: list[int], long: int, six: bool) -> None:
    ends = (("2001:db8::1", 4), ("::1", 65535)) if six else (("192.0.2.1", 4), ("0.0.0.0", 0))
    half = Half(
        ends[0], ends[1], numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], 14, 7, 3, numbers[5], long
    )
    half.macs, half.path_mtu, half.heard, half.fresh_turn = (b"abcdef", b"ghijkl"), 1500, long, 1
    stream = Stream(long, 3, long, numbers[0], 1)
    pair = Pair(
        State.SPLICED, numbers[1], PairFlag.RETURNS, numbers[2], (half, Half(ends[0], ends[1])), (stream, Stream()),
        numbers[3] >> 2, quiet=six, leg_limit=numbers[6],
    )  # fmt: skip
    data = pack(pair)
    assert len(data) == splice_pair.PAIR_BYTES
    assert unpack(data, six=six) == pair
    assert splice_pair.read_streams(memoryview(data)) == pair.streams


@given(data=st.binary(max_size=20))
def test_a_notice_is_whole_or_none(data: bytes) -> None:
    if len(data) == splice_pair.NOTICE.size:
        assert isinstance(parse_notice(data), Notice)
    else:
        with pytest.raises(RemoteProtocolError):
            parse_notice(data)
    with pytest.raises(RemoteProtocolError):
        unpack(data)


@given(place=st.integers(0, 65535), whose=st.integers(0, 1), turn=u32)
def test_a_tuple_s_value_names_place_and_turn(place: int, whose: int, turn: int) -> None:
    value = splice_pair.tuple_value(place, whose, turn)
    assert (splice_pair.place_of(value), value & 1, value >> 17) == (place, whose, turn & splice_pair.TURN_MASK)
    assert value < 1 << 32


def test_keys_are_what_stands_in_packets() -> None:
    assert tuple_key(("192.0.2.1", 258), ("198.51.100.2", 1)).hex() == "c0000201c633640201020001"
    assert len(tuple_key(("::1", 1), ("::2", 2))) == 36
