"""Numbers of copied packets: their bytes, and which of them a receiver lets through."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.packet import sequence
from sojourn.packet.sequence import MODULUS, PATIENCE, PER_SECOND, WINDOW, SequenceWindow

NUMBERS = st.integers(0, MODULUS - 1)


@given(NUMBERS, st.binary(min_size=1, max_size=40))
def test_what_is_put_is_taken_out_again(number: int, packet: bytes) -> None:
    plaintext = sequence.put(number, packet)
    assert plaintext[0] >> 4 == 1
    assert len(plaintext) == len(packet) + sequence.OVERHEAD_BYTES
    assert sequence.take(plaintext) == (number, packet)


@given(st.binary(max_size=64))
def test_any_bytes_are_a_copied_packet_or_refused(data: bytes) -> None:
    try:
        number, packet = sequence.take(data)
    except RemoteProtocolError:
        return
    assert sequence.put(number, packet) == data


@pytest.mark.parametrize("data", [b"", b"\x10\0\0\0", b"\x45\0\0\0\0", b"\x20\0\0\0\0"])
def test_a_number_alone_and_other_kinds_are_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        sequence.take(data)


def test_each_number_passes_once_whatever_order_two_copies_take() -> None:
    random = Random(5)
    for start in (0, 7, MODULUS - 500, MODULUS // 2 - 500):
        numbers = [(start + at) % MODULUS for at in range(3000)]
        arrivals = sorted((at + random.random() * delay, n) for delay in (1, 400) for at, n in enumerate(numbers))
        window = SequenceWindow()
        passed = [n for at, n in arrivals if window.accept(n, at * 0.02)]
        assert len(passed) == len(set(passed))
        assert set(passed) == set(numbers)


@given(NUMBERS, st.lists(st.integers(-WINDOW + 1, WINDOW - 1), max_size=60))
def test_no_number_within_the_window_passes_twice(start: int, steps: list[int]) -> None:
    window, passed = SequenceWindow(), set()
    window.accept(start, 0.0)
    passed.add(start)
    top = start
    for step in steps:
        number = (top + step) % MODULUS
        if window.accept(number, 0.0):
            assert number not in passed
            passed.add(number)
        if step > 0:
            top = number


def test_a_packet_older_than_the_window_is_dropped_while_newer_ones_come() -> None:
    window = SequenceWindow()
    for number in range(3000):
        assert window.accept(number, number * 0.001)
    assert not window.accept(3000 - WINDOW - 1, 3.0)
    assert not window.accept(2999, 3.0)


@pytest.mark.parametrize("apart", [1 << 16, 1 << 20, MODULUS // 2, MODULUS - (1 << 17)])
def test_a_sender_that_began_anew_is_heard_at_once_and_its_former_packets_are_not_heard_again(apart: int) -> None:
    window = SequenceWindow()
    for number in range(100):
        window.accept(number, 1.0)
    anew = (100 + apart) % MODULUS
    assert window.accept(anew, 1.1)
    assert not window.accept(99, 1.1)
    assert not window.accept(anew, 1.1)
    assert window.accept(sequence.following(anew), 1.2)
    assert not window.accept(anew, 1.2)


def test_a_sender_that_began_just_behind_is_heard_after_a_while() -> None:
    window = SequenceWindow()
    for number in range(5000):
        window.accept(number, 1.0)
    assert not window.accept(1000, 1.5)
    assert window.accept(1002, 1.0 + PATIENCE)
    assert window.accept(1003, 1.0 + PATIENCE)
    assert not window.accept(1002, 1.1 + PATIENCE)


def test_beginnings_run_ahead_of_any_flow_and_start_over_in_time() -> None:
    assert sequence.first(1.0) == PER_SECOND
    assert sequence.first(MODULUS / PER_SECOND + 1.0) == PER_SECOND
    assert sequence.following(MODULUS - 1) == 0
