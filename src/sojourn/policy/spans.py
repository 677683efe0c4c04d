"""Spans of local time: "mon-fri 08:00-18:00", "sat,sun", "22:00-06:00" (which goes on into the next day)."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MINUTES_A_DAY: Final = 24 * 60
_WEEK: Final = 7 * _MINUTES_A_DAY
_CLOCK = re.compile(r"^([01]?[0-9]|2[0-4]):([0-5][0-9])$")
REMEDY: Final = 'write it like "mon-fri 08:00-18:00", "sat,sun" or "22:00-06:00"'


class LocalTime(Struct, frozen=True):
    """What the wall clock and the calendar of this place show."""

    weekday: int
    """0 = Monday."""
    second: int
    """Since midnight."""

    @property
    def in_week(self) -> int:
        """Seconds since Monday, 00:00."""
        return self.weekday * 86400 + self.second


class Span(Struct, frozen=True):
    """Some days, and minutes of them; `end` <= `begin` = on to the next day."""

    days: frozenset[int]
    begin: int
    end: int

    def pieces(self) -> list[tuple[int, int]]:
        """Return (begin, end) in minutes of the week; the end of a piece may lie in the next week."""
        length = (self.end - self.begin) % _MINUTES_A_DAY or _MINUTES_A_DAY
        return [(day * _MINUTES_A_DAY + self.begin, day * _MINUTES_A_DAY + self.begin + length) for day in self.days]


def parse(text: str) -> Span:
    """Read one span. Raises ValueError with a remedy."""
    words = text.lower().split()
    days, clock = frozenset(range(7)), (0, _MINUTES_A_DAY)
    if not words or len(words) > 2:
        raise ValueError(f"{text!r} is no span of time: {REMEDY}")
    if len(words) == 2 or words[0][0].isalpha():
        days = frozenset(day for part in words[0].split(",") for day in _days(part, text))
    if len(words) == 2 or not words[0][0].isalpha():
        clock = _clock(words[-1], text)
    return Span(days, clock[0] % _MINUTES_A_DAY, clock[1])


def _days(part: str, text: str) -> Iterable[int]:
    first, dash, last = part.partition("-")
    if first not in DAYS or (dash and last not in DAYS):
        raise ValueError(f"{text!r} has no day {part!r}: days are {', '.join(DAYS)}; {REMEDY}")
    begin = DAYS.index(first)
    count = (DAYS.index(last) - begin) % 7 + 1 if dash else 1
    return [(begin + step) % 7 for step in range(count)]


def _clock(word: str, text: str) -> tuple[int, int]:
    first, _, last = word.partition("-")
    found = _CLOCK.match(first), _CLOCK.match(last)
    if found[0] is None or found[1] is None:
        raise ValueError(f"{text!r} is no span of time: {REMEDY}")
    begin, end = (int(one[1]) * 60 + int(one[2]) for one in found if one is not None)
    if begin >= _MINUTES_A_DAY or end > _MINUTES_A_DAY:
        raise ValueError(f"{text!r} is beyond 24:00: {REMEDY}")
    return begin, end


def _pieces(spans: Sequence[str]) -> list[tuple[int, int]]:
    return [(begin * 60, end * 60) for text in spans for begin, end in parse(text).pieces()]


def within(spans: Sequence[str], now: LocalTime) -> bool:
    """Say whether it is any of these times now. Spans were checked when they were read."""
    moment = now.in_week
    return any(begin <= at < end for begin, end in _pieces(spans) for at in (moment, moment + _WEEK * 60))
