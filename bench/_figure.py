"""One figure of a program, and what reads it from the JSON of a run.

A `Figure` reads one value of ours and those beside it; None where the run has not got it. Judged is the value itself,
or what it is of a peer's (`by`), or beyond it (`beyond`).
"""

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

Json = Any
Get = Callable[[Json], float | None]


class Figure(Struct, frozen=True):
    """One row of a table."""

    what: str
    ours: Get
    unit: str = ""
    least: float | None = None
    most: float | None = None
    by: str | None = None
    """The peer that ours is divided by; one of `beside`."""
    beyond: str | None = None
    """The peer that is taken from ours; one of `beside`."""
    beside: Mapping[str, Get] = {}
    plotted: bool = True


def at(*path: str | int) -> Get:
    """Return what reads one number by its place in the JSON."""

    def get(found: Json) -> float | None:
        for step in path:
            inside = isinstance(found, list) and isinstance(step, int) and -len(found) <= step < len(found)
            if not inside and not (isinstance(found, dict) and step in found):
                return None
            found = found[step]
        return float(found) if isinstance(found, int | float) else None

    return get


def mean(*each: Get) -> Get:
    """Return what reads the mean of several numbers: of both directions, say."""

    def get(found: Json) -> float | None:
        values = [value for one in each if (value := one(found)) is not None]
        return sum(values) / len(values) if values and len(values) == len(each) else None

    return get


def worst(*each: Get) -> Get:
    """Return what reads the largest of several numbers."""

    def get(found: Json) -> float | None:
        return max((value for one in each if (value := one(found)) is not None), default=None)

    return get


def both(*path: str, key: str) -> Get:
    """Return what reads the mean of up and down."""
    return mean(at(*path, "up", key), at(*path, "down", key))


def named(names: tuple[str, ...], get: Callable[[str], Get]) -> dict[str, Get]:
    return {name: get(name) for name in names}
