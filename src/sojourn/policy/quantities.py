"""Quantities as people write them in policies: "150ms", "2%", "5Mbit/s".

Each reader raises ValueError "why: how to mend it".
"""

import math
import re

_NUMBER = re.compile(r"^\s*([0-9]{1,12}(?:\.[0-9]{1,9})?)\s*([A-Za-zµ/%]*)\s*$")

_TIMES = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}
_RATES = {"bit/s": 1.0, "bps": 1.0, "b/s": 8.0}
_PREFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}


def seconds(value: object) -> float:
    """Read "150ms", "0.2s", "5min"."""
    number, unit = _split(value, 'a time with its unit, like "150ms" or "2s"')
    scale = _TIMES.get(unit)
    if scale is None:
        raise ValueError(f'{value!r} is no time: write a number and one of us, ms, s, min, h, like "150ms"')
    return number * scale


def fraction(value: object) -> float:
    """Read "2%" or 0.02, from 0 to 1."""
    remedy = 'write it like "2%", or as a fraction like 0.02'
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not (math.isfinite(value) and 0 <= value <= 1):
            raise ValueError(f'{value!r} is not from 0 to 1: do you mean "{value}%"?')
        return float(value)
    number, unit = _split(value, f"a share: {remedy}")
    if unit not in {"", "%"}:
        raise ValueError(f"{value!r} is no share: {remedy}")
    share = number / 100 if unit == "%" else number
    if share > 1:
        raise ValueError(f"{value!r} is more than everything: {remedy}")
    return share


def bits_per_second(value: object) -> float:
    """Read "5Mbit/s", "500 kbit/s", "2Mbps"; "1MB/s" is bytes."""
    remedy = 'write it like "5Mbit/s" or "500kbit/s"'
    number, unit = _split(value, f"a rate: {remedy}")
    # "b/s" could be either: only "B/s" (bytes, as everybody writes them) is taken.
    for word, scale in _RATES.items():
        prefix = unit[: -len(word)]
        if not unit.lower().endswith(word) or prefix.lower() not in _PREFIXES:
            continue
        if word == "b/s" and not unit.endswith("B/s"):
            break
        return number * scale * _PREFIXES[prefix.lower()]
    raise ValueError(f"{value!r} is no rate: {remedy}")


def _split(value: object, wanted: str) -> tuple[float, str]:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not {wanted}")
    found = _NUMBER.match(value)
    if found is None:
        raise ValueError(f"{value!r} is not {wanted}")
    return float(found[1]), found[2]


def write_seconds(value: float) -> str:
    """Write a time so that `seconds` reads the same one."""
    if value and value < 1:
        return f"{_short(value * 1000)}ms"
    return f"{_short(value)}s"


def write_fraction(value: float) -> str:
    """Write a share in per cent."""
    return f"{_short(value * 100)}%"


def write_rate(value: float) -> str:
    """Write a rate with the largest prefix that fits."""
    for prefix, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= scale:
            return f"{_short(value / scale)}{prefix}bit/s"
    return f"{_short(value)}bit/s"


def _short(value: float) -> str:
    text = f"{value:.6f}".rstrip("0").rstrip(".")
    return text or "0"
