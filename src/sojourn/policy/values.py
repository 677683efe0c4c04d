"""Plain values of policy keys. Each reader raises ValueError "why: how to mend it"."""

from collections.abc import Sequence
from typing import Final

MAX_VALUES: Final = 64
MAX_TEXT: Final = 255


class Bad(Exception):
    """Several mistakes in one table: (key, why, how to mend it)."""

    def __init__(self, problems: Sequence[tuple[str, str, str]]) -> None:
        super().__init__()
        self.problems = tuple(problems)


def explained(error: ValueError) -> tuple[str, str]:
    """Take "why: how to mend it" apart, the second as a sentence."""
    why, _, fix = str(error).partition(": ")
    fix = fix[:1].upper() + fix[1:] or "Correct the value"
    return why, fix if fix.endswith("?") else fix.rstrip(".") + "."


def boolean(value: object) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is not true or false: write it without quotes")
    return value


def integer(value: object, first: int, last: int) -> int:
    """Read a whole number between two others."""
    if isinstance(value, bool) or not isinstance(value, int) or not first <= value <= last:
        raise ValueError(f"{value!r} is no number from {first} to {last}: write it without quotes")
    return value


def strings(value: object, *, most: int = MAX_VALUES) -> tuple[str, ...]:
    """Read one text or a list of them."""
    given = list(value) if isinstance(value, list | tuple) else [value]
    found = [one for one in given if isinstance(one, str)]
    if len(found) < len(given):
        raise ValueError(f"{value!r} is not text: write it in quotes, or several as a list of texts")
    if not all(0 < len(one) <= MAX_TEXT for one in found):
        raise ValueError(f"a text is empty or longer than {MAX_TEXT} characters: shorten it or remove it")
    if not 0 < len(found) <= most:
        raise ValueError(f"{len(found)} values are given: write at least one and at most {most}")
    return tuple(dict.fromkeys(found))


def names(value: object) -> tuple[str, ...]:
    """Read one text or a list of them, which may be empty."""
    return () if value in ([], ()) else strings(value)


def choice(value: object, words: Sequence[str], *, single: bool = False) -> tuple[str, ...]:
    """Read one of some words, or a list of them."""
    found = strings(value, most=1 if single else MAX_VALUES)
    for word in found:
        if word not in words:
            raise ValueError(f"{word!r} is not known here: write one of {', '.join(words)}")
    return found
