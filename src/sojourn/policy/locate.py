"""Where in a TOML text a key stands, so that a complaint can name the line.

tomllib keeps no positions. This reads just enough of TOML to know which lines begin a table or a key: strings and
brackets that go over several lines are passed over. It is used on text that tomllib has already accepted.
"""

import re

from msgspec import Struct

_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")


class _Entry(Struct, frozen=True):
    table: tuple[str, ...]
    index: int
    """Which element of the array of tables `table[0]`, from 0; 0 for a plain table."""
    key: tuple[str, ...]
    line: int
    is_array: bool = False
    """It is the header of an element of an array of tables."""
    is_header: bool = False


class Lines:
    """The lines of one text. Unknown places give the nearest known one above them, or None."""

    def __init__(self, text: str) -> None:
        self._entries = list(_entries(text))
        self._count = len(text.splitlines())
        self._starts = [number for number, _ in _logical_lines(text)]

    def of(self, array: str, index: int, *keys: str) -> int | None:
        """Return the line of a key in the element `index` of `[[array]]`; without keys, of its header."""
        for length in range(len(keys), -1, -1):
            wanted = keys[:length]
            for entry in self._entries:
                if entry.table[0] == array and entry.index == index and (*entry.table[1:], *entry.key) == wanted:
                    return entry.line
        return self.of_key(array)

    def spans(self, array: str) -> list[tuple[int, int]]:
        """Return for each element of `[[array]]` its first line and the line after its last, counted from 0."""
        headers = [entry for entry in self._entries if entry.is_header]
        found: list[tuple[int, int]] = []
        for place, entry in enumerate(headers):
            if entry.table == (array,) and entry.is_array:
                others = [other for other in headers[place + 1 :] if other.table[0] != array or other.table == (array,)]
                found.append((entry.line - 1, others[0].line - 1 if others else self._count))
        return found

    def span_of_key(self, key: str) -> tuple[int, int] | None:
        """Return the first line of a top-level key's value and the line after its last, counted from 0."""
        start = next(
            (one.line for one in self._entries if one.table == (key,) and not one.key and not one.is_header), None
        )
        if start is None:
            return None
        return start - 1, next((number - 1 for number in self._starts if number > start), self._count)

    def of_key(self, *keys: str) -> int | None:
        """Return the line where a top-level key or a table begins."""
        return next((entry.line for entry in self._entries if (*entry.table, *entry.key) == keys), None)


def _entries(text: str) -> list[_Entry]:
    entries: list[_Entry] = []
    counts: dict[str, int] = {}
    table: tuple[str, ...] = ()
    index = 0
    for number, line in _logical_lines(text):
        if (header := _HEADER.match(line)) is not None:
            table = _parts(header[2])
            if header[1] == "[[" and len(table) == 1:
                counts[table[0]] = counts.get(table[0], -1) + 1
            index = max(counts.get(table[0], 0), 0) if table else 0
            entries.append(_Entry(table, index, (), number, header[1] == "[[", True))
        elif (found := _KEY.match(line)) is not None:
            key = _parts(found[1])
            if table:
                entries.append(_Entry(table, index, key, number))
            else:
                entries.append(_Entry(key, 0, (), number))
    return entries


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(text)) or (text,)


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """Return the lines that begin outside of any string or bracket, with their numbers from 1."""
    found: list[tuple[int, str]] = []
    quote, depth = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if not quote and depth == 0:
            found.append((number, line))
            if _HEADER.match(line) is not None:
                continue
        quote, depth = _scan(line, quote, depth)
    return found


def _scan(line: str, quote: str, depth: int) -> tuple[str, int]:
    """Go over one line; return the multi-line quote that is open at its end, and how many brackets are."""
    place = 0
    while place < len(line):
        if quote:
            if line[place] == "\\" and quote[0] == '"':
                place += 2
            elif line.startswith(quote, place):
                place += len(quote)
                quote = ""
            else:
                place += 1
            continue
        letter = line[place]
        if letter == "#":
            break
        if letter in "\"'":
            quote = letter * 3 if line.startswith(letter * 3, place) else letter
            place += len(quote)
            continue
        depth = max(0, depth + (letter in "[{") - (letter in "]}"))
        place += 1
    return (quote if len(quote) == 3 else ""), depth
