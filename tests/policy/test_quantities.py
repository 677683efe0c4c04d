"""Quantities with their units, as people write them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.policy.quantities import bits_per_second, fraction, seconds, write_fraction, write_rate, write_seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [("150ms", 0.15), ("0.2 s", 0.2), ("2s", 2), ("5min", 300), ("500us", 0.0005), ("1h", 3600), (" 30s ", 30)],
)
def test_times(text: str, value: float) -> None:
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("value", ["150", 150, 0.15, "ms", "150 parsec", "-1s", "", None, "1e3s", True])
def test_a_time_without_a_unit_is_refused_with_the_remedy(value: object) -> None:
    with pytest.raises(ValueError, match='like "150ms"'):
        seconds(value)


@pytest.mark.parametrize(
    ("value", "share"), [("2%", 0.02), ("0.5 %", 0.005), (0.02, 0.02), ("0.02", 0.02), (0, 0), (1, 1), ("100%", 1)]
)
def test_shares(value: object, share: float) -> None:
    assert fraction(value) == pytest.approx(share)


@pytest.mark.parametrize("value", [2, "200%", "2", "x%", -0.1, True, None, math.nan, math.inf, "2 ms"])
def test_a_share_above_everything_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=": "):
        fraction(value)


def test_whoever_writes_2_for_a_share_is_asked_about_per_cent() -> None:
    with pytest.raises(ValueError, match='do you mean "2%"'):
        fraction(2)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5Mbit/s", 5e6), ("500 kbit/s", 5e5), ("2Mbps", 2e6), ("1Gbit/s", 1e9), ("1.5mbit/s", 1.5e6),
        ("1MB/s", 8e6), ("100bit/s", 100), ("64Kbps", 64e3),
    ],
)  # fmt: skip
def test_rates(text: str, value: float) -> None:
    assert bits_per_second(text) == pytest.approx(value)


@pytest.mark.parametrize("value", ["5", 5, "5MBt/s", "5Mb/s", "5Tbit/s", "fast", None, ["5Mbit/s"]])
def test_a_rate_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="5Mbit/s"):
        bits_per_second(value)


@given(st.floats(0, 1e5))
def test_a_written_time_is_read_as_the_same(value: float) -> None:
    assert seconds(write_seconds(value)) == pytest.approx(value, abs=1e-6)


@given(st.floats(0, 1))
def test_a_written_share_is_read_as_the_same(value: float) -> None:
    assert fraction(write_fraction(value)) == pytest.approx(value, abs=1e-7)


@given(st.floats(0, 1e11))
def test_a_written_rate_is_read_as_the_same(value: float) -> None:
    assert bits_per_second(write_rate(value)) == pytest.approx(value, abs=1e-5, rel=1e-5)


@given(st.text(max_size=20) | st.integers() | st.floats() | st.none() | st.lists(st.text(max_size=3), max_size=2))
def test_anything_at_all_is_a_quantity_or_a_value_error(value: object) -> None:
    for reader in (seconds, fraction, bits_per_second):
        try:
            assert reader(value) >= 0
        except ValueError:
            continue
