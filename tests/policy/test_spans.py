"""Spans of local time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.policy.spans import DAYS, LocalTime, parse, within


def at(day: str, clock: str) -> LocalTime:
    hour, _, minute = clock.partition(":")
    return LocalTime(DAYS.index(day), int(hour) * 3600 + int(minute) * 60)


@pytest.mark.parametrize(
    ("span", "inside", "outside"),
    [
        ("mon-fri 08:00-18:00", [("mon", "8:00"), ("fri", "17:59")],
         [("sat", "9:00"), ("mon", "18:00"), ("mon", "7:59")]),
        ("sat,sun", [("sat", "0:00"), ("sun", "23:59")], [("mon", "0:00"), ("fri", "23:59")]),
        ("22:00-06:00", [("mon", "23:00"), ("mon", "5:59"), ("sun", "22:00")], [("mon", "6:00"), ("mon", "21:59")]),
        ("sun 22:00-06:00", [("sun", "22:00"), ("mon", "5:59")], [("sun", "5:59"), ("mon", "22:00")]),
        ("fri-mon", [("fri", "0:00"), ("sun", "12:00"), ("mon", "23:59")], [("tue", "0:00"), ("thu", "23:59")]),
        ("00:00-24:00", [("wed", "0:00"), ("wed", "23:59")], []),
        ("mon 20:00-24:00", [("mon", "23:59")], [("tue", "0:00")]),
        ("12:00-12:00", [("mon", "12:00"), ("mon", "11:59")], []),
    ],
)  # fmt: skip
def test_a_span_holds_from_its_first_minute_to_the_one_before_its_last(
    span: str, inside: list[tuple[str, str]], outside: list[tuple[str, str]]
) -> None:
    assert [moment for moment in inside if not within([span], at(*moment))] == []
    assert [moment for moment in outside if within([span], at(*moment))] == []


def test_any_of_several_spans_will_do() -> None:
    assert within(["sat", "mon 08:00-09:00"], at("mon", "8:30"))
    assert not within([], at("mon", "8:30"))


@pytest.mark.parametrize(
    "text", ["", "monday", "mon 8-18", "08:00", "25:00-26:00", "mon tue", "24:00-25:00", "mon--fri"]
)
def test_what_is_no_span_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="mon-fri 08:00-18:00"):
        parse(text)


@given(st.text(max_size=30))
def test_anything_at_all_is_a_span_or_a_value_error(text: str) -> None:
    try:
        parse(text)
    except ValueError:
        return
    assert text.strip()
