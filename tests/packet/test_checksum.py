import struct

from hypothesis import given
from hypothesis import strategies as st

from sojourn.packet.checksum import checksum, complete, fold, pseudo_header, sum_of, update

words = st.integers(0, 0xFFFF)


def add_up_slowly(data: bytes) -> int:
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_the_example_of_rfc_1071_section_3() -> None:
    assert sum_of(bytes.fromhex("0001f203f4f5f6f7")) == 0xDDF2


@given(st.binary(max_size=80))
def test_the_sum_is_the_one_that_adding_word_by_word_gives(data: bytes) -> None:
    assert sum_of(data) == add_up_slowly(data + b"\0" * (len(data) & 1))


@given(st.binary(min_size=2, max_size=60), words)
def test_a_packet_with_its_checksum_sums_to_nothing_left(data: bytes, initial: int) -> None:
    even = data[: len(data) & ~1]
    whole = even + checksum(even, initial).to_bytes(2)
    assert checksum(whole, initial) == 0


@given(st.lists(words, min_size=2, max_size=12), words, st.data())
def test_an_updated_checksum_is_as_good_as_a_new_one(header: list[int], new: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(header) - 1))
    before = checksum(struct.pack(f">{len(header)}H", *header))
    after = update(before, header[index], new)
    header[index] = new
    # 0 and 0xFFFF are the same number in one's complement arithmetic
    assert fold(after + sum_of(struct.pack(f">{len(header)}H", *header))) in {0xFFFF, 0}


@given(st.binary(min_size=20, max_size=90), st.sampled_from([(6, 16), (17, 6)]))
def test_a_completed_checksum_verifies(transport: bytes, kind: tuple[int, int]) -> None:
    protocol, offset = kind
    pseudo = pseudo_header(bytes(4), bytes(range(4)), protocol, len(transport))
    packet = bytearray(20) + transport
    packet[20 + offset : 22 + offset] = pseudo.to_bytes(2)
    complete(packet, 20, offset)
    assert checksum(packet[20:], pseudo) == 0
    assert packet[20 + offset : 22 + offset] != b"\0\0"
