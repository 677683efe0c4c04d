from hypothesis import given
from hypothesis import strategies as st

from sojourn.i3.challenge import NONCE_BYTES, NONCE_LIFE, Challenger

ADDRESSES = st.tuples(st.ip_addresses().map(str), st.integers(0, 65535))
TIMES = st.floats(0, 1e9)
OURS, THEIRS = Challenger(b"k" * 32), Challenger(b"l" * 32)


@given(ADDRESSES, TIMES, st.floats(0, NONCE_LIFE - 0.01))
def test_a_nonce_holds_at_its_address_for_a_while(address: tuple[str, int], now: float, later: float) -> None:
    nonce = OURS.nonce(address, now)
    assert len(nonce) == NONCE_BYTES
    assert OURS.holds(nonce, address, now + later)
    assert not OURS.holds(nonce, address, now + NONCE_LIFE + 1)
    assert not THEIRS.holds(nonce, address, now)


@given(ADDRESSES, ADDRESSES, TIMES)
def test_at_another_address_or_port_it_does_not(one: tuple[str, int], other: tuple[str, int], now: float) -> None:
    assert OURS.holds(OURS.nonce(one, now), other, now) is (one == other)


@given(ADDRESSES, TIMES, st.integers(0, 8 * NONCE_BYTES - 1))
def test_no_bit_of_it_can_be_changed(address: tuple[str, int], now: float, bit: int) -> None:
    changed = (int.from_bytes(OURS.nonce(address, now)) ^ 1 << bit).to_bytes(NONCE_BYTES)
    assert not OURS.holds(changed, address, now)


@given(st.binary(max_size=40), ADDRESSES, TIMES)
def test_made_up_bytes_are_no_nonce(data: bytes, address: tuple[str, int], now: float) -> None:
    assert not OURS.holds(data, address, now)
