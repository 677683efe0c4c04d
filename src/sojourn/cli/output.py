"""How the command line prints: rich tables on a terminal, aligned plain text in a pipe, JSON on demand.

rich takes 60 ms to import: only a terminal pays for it. It honours NO_COLOR by itself.
"""

import sys
from collections.abc import Sequence
from typing import Any

import msgspec


def emit_json(value: object) -> None:
    """Print a value as one JSON document, indented for people (programs don't mind)."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def emit_json_line(value: object) -> None:
    """Print one item of a stream, at once."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def line(text: str = "") -> None:
    """Print one line of text for people."""
    print(cell(text) if text else "")


def flush_line(text: str) -> None:
    """Print one line of a stream, at once."""
    line(text)
    sys.stdout.flush()


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "") -> None:
    """Print rows under column headings; a column whose name starts with ">" is set right."""
    cells = [[cell(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        _rich_table(columns, cells, title)
        return
    headings = [name.removeprefix(">") for name in columns]
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    if title:
        print(title)
    for row in (headings, *cells):
        words = (
            word.rjust(width) if name.startswith(">") else word.ljust(width)
            for name, word, width in zip(columns, row, widths, strict=True)
        )
        print("  ".join(words).rstrip())


def _rich_table(columns: Sequence[str], cells: Sequence[Sequence[str]], title: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for name in columns:
        grid.add_column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left", overflow="fold")
    for row in cells:
        grid.add_row(*(Text(word, style(word)) for word in row))
    Console().print(grid)


_STYLES = {
    "up": "green", "associated": "green", "ok": "green",
    "degraded": "yellow", "captive": "yellow", "connecting": "yellow", "warning": "yellow",
    "down": "red", "blocked": "red", "offline": "red", "problem": "red",
}  # fmt: skip


def cell(value: object) -> str:
    """Write a value so that a terminal shows it and obeys none of it."""
    # What a peer or a file named may hold control characters: a terminal must not obey them.
    text = "-" if value is None or value == "" else str(value)
    return "".join(character if character.isprintable() else "?" for character in text)


def style(word: str) -> str:
    """Return the colour of a state (rich's), or no style."""
    return _STYLES.get(word, "")


def size(count: float | None) -> str:
    """Write a number of bytes with a unit."""
    if count is None:
        return "-"
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def milliseconds(value: float | None) -> str:
    """Write a time in ms."""
    return "-" if value is None else f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms"


def percent(value: float | None) -> str:
    """Write a fraction."""
    return "-" if value is None else f"{value * 100:.1f} %"


def duration(seconds: float | None) -> str:
    """Write a time span in its two largest units."""
    if seconds is None:
        return "-"
    whole = int(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}h {minutes}m"
    return f"{minutes}m {whole % 60}s" if minutes else f"{whole}s"


def get(item: Any, *path: str) -> Any:  # noqa: ANN401 - what a daemon sent
    """Return a nested value of a JSON object, or None where any step is missing."""
    for key in path:
        item = item.get(key) if isinstance(item, dict) else None
    return item
