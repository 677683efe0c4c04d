"""Properties of D-Bus objects, read with care: what is absent or of another type is None."""

import unicodedata
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")

MAX_LABEL = 64
"""Characters of a name that somebody else chose: an SSID, an operator."""


def get(table: Any, name: str, kind: type[T]) -> T | None:  # noqa: ANN401
    """Return the value of a property, without its Variant, if it is exactly of this type; structs are lists."""
    value = table.get(name) if isinstance(table, Mapping) else None
    value = getattr(value, "value", value)
    value = list(value) if type(value) is tuple else value
    return value if type(value) is kind else None


def interface(objects: Any, path: str | None, name: str) -> Mapping[str, Any]:  # noqa: ANN401
    """Return the properties of one interface of one object; none when it is not there."""
    held = objects.get(path) if isinstance(objects, Mapping) else None
    table = held.get(name) if isinstance(held, Mapping) else None
    return table if isinstance(table, Mapping) else {}


def label(text: str | bytes | None) -> str | None:
    """Make a foreign name fit for terminals and logs: no control characters, no end of line, not too long."""
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    if text is None:
        return None
    shown = "".join(char for char in text if unicodedata.category(char)[0] != "C" and char not in "\u2028\u2029")
    return shown.strip()[:MAX_LABEL] or None
