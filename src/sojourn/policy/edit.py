"""Changes of the `[[policy]]` tables of a TOML text, as a window makes them: whatever else stands in it stays.

A table takes the comment lines directly above its header along. Inside a table that is changed, comments and the order
of keys stay (tomlkit). What was meant is checked in the end: the text that comes out is read again, and must say what
the same changes make of the values; a text whose policies are written another way (`policy = [...]`) is refused.

    edited(text, [Edit("move", 2, to=0), Edit("set", 0, table={...}), Edit("order", networks=("wifi", "*"))])
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import tomlkit
from msgspec import Struct
from tomlkit.exceptions import TOMLKitError

from sojourn.errors import ConfigError
from sojourn.policy.language import MAX_POLICIES
from sojourn.policy.locate import Lines

MAX_EDITS: Final = 64
_HEADER: Final = "[[policy]]"


class Edit(Struct, frozen=True, forbid_unknown_fields=True):
    """One change; places count from 0, as after the changes before it."""

    op: Literal["add", "set", "remove", "move", "order"]
    at: int = 0
    to: int = 0
    table: dict[str, Any] = {}
    networks: tuple[str, ...] = ()


def tables_of(text: str) -> list[dict[str, Any]]:
    """Return the `[[policy]]` tables of a text, as they are written. Raises tomllib.TOMLDecodeError."""
    tables = tomllib.loads(text).get("policy", [])
    return [dict(table) for table in tables] if isinstance(tables, list) else []


def edited(text: str, edits: Sequence[Edit]) -> str:
    """Return the text with the changes. Raises ConfigError where they cannot be made."""
    if len(edits) > MAX_EDITS:
        raise ConfigError("edits", f"are more than {MAX_EDITS}", "Save now and then.")
    try:
        wanted = tables_of(text)
        order = tomllib.loads(text).get("order")
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("the file", f"is no TOML now ({error})", "Mend it by hand first.") from error
    for edit in edits:
        if edit.op == "order":
            text, order = _ordered(text, edit.networks), list(edit.networks)
            continue
        blocks = _Blocks(text)
        _check(edit, len(wanted), blocks)
        text = blocks.apply(edit)
        _apply(wanted, edit)
    try:
        came_out = tables_of(text), tomllib.loads(text).get("order")
    except tomllib.TOMLDecodeError as error:
        raise _by_hand() from error
    if came_out != (wanted, order):
        raise _by_hand()
    return text


def _check(edit: Edit, count: int, blocks: "_Blocks") -> None:
    if len(blocks) != count:
        raise _by_hand()
    last = count if edit.op == "add" else count - 1
    if not 0 <= edit.at <= last or (edit.op == "move" and not 0 <= edit.to <= last):
        raise ConfigError(f"policy[{edit.at}]", "is not there", f"There are {count} policies.")
    if edit.op == "add" and count >= MAX_POLICIES:
        raise ConfigError("policies", f"are {MAX_POLICIES} already", "Join some of them.")


def _apply(tables: list[dict[str, Any]], edit: Edit) -> None:
    match edit.op:
        case "add":
            tables.insert(edit.at, _plain(edit.table))
        case "set":
            tables[edit.at] = _plain(edit.table)
        case "remove":
            del tables[edit.at]
        case "move":
            tables.insert(edit.to, tables.pop(edit.at))


def _plain(value: Any) -> Any:  # noqa: ANN401 - TOML's values
    """Return a value as TOML has it: what is null in JSON is left out."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items() if one is not None}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value if one is not None]
    return value


class _Blocks:
    """The text cut at its policies: what stands before, each policy's lines, and what follows each of them."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines(keepends=True)
        if self._lines and not self._lines[-1].endswith("\n"):
            self._lines[-1] += "\n"
        lines = Lines(text)
        self._spans = [(self._with_comments(start), end) for start, end in lines.spans("policy")]

    def __len__(self) -> int:
        return len(self._spans)

    def _with_comments(self, start: int) -> int:
        while start > 0 and self._lines[start - 1].lstrip().startswith("#"):
            start -= 1
        return start

    def apply(self, edit: Edit) -> str:
        """Return the text with one change."""
        if edit.op == "add":
            return self._insert(self._lines, self._new_place(edit.at), _written(edit.table))
        start, end = self._span(edit.at)
        block = self._lines[start:end]
        rest = self._lines[:start] + self._lines[end:]
        if edit.op == "remove":
            return "".join(rest)
        if edit.op == "set":
            return "".join([*self._lines[:start], *_replaced(block, edit.table), *self._lines[end:]])
        left = _Blocks("".join(rest))
        return self._insert(rest, left._new_place(edit.to), block)

    def _span(self, index: int) -> tuple[int, int]:
        """Return the lines of a policy, without the comments that belong to what follows it."""
        start, end = self._spans[index]
        if index + 1 < len(self._spans):
            end = min(end, self._spans[index + 1][0])
        if end < len(self._lines):
            end = max(start + 1, self._with_comments(end))
        return start, end

    def _new_place(self, index: int) -> int:
        """Return the line before which a policy is to stand so that it is number `index`."""
        if index < len(self._spans):
            return self._span(index)[0]
        if self._spans:
            return self._span(len(self._spans) - 1)[1]
        return len(self._lines)

    @staticmethod
    def _insert(lines: list[str], place: int, block: list[str]) -> str:
        """Put a policy between others, with an empty line where it would touch them."""
        block = list(block)
        if place > 0 and lines[place - 1].strip():
            block.insert(0, "\n")
        if place < len(lines) and lines[place].strip() and block[-1].strip():
            block.append("\n")
        return "".join([*lines[:place], *block, *lines[place:]])


def _written(table: Mapping[str, Any]) -> list[str]:
    """Return the lines of a new policy."""
    document = tomlkit.document()
    for key, value in _plain(table).items():
        document[key] = _item(value)
    return [_HEADER + "\n", *_checked(tomlkit.dumps(document)).splitlines(keepends=True)]


def _item(value: Any) -> Any:  # noqa: ANN401 - tomlkit's items
    """Return a value as people write it: tables inside of a policy on one line."""
    if isinstance(value, Mapping):
        table = tomlkit.inline_table()
        table.update({key: _item(one) for key, one in value.items()})
        return table
    return tomlkit.item(value)


def _replaced(block: list[str], table: Mapping[str, Any]) -> list[str]:
    """Return a policy's lines with another content; comments, and the order of keys that stay, are kept."""
    header = next(number for number, line in enumerate(block) if re.match(r"\s*\[\[\s*policy\s*\]\]", line))
    end = len(block)
    while end > header + 1 and not block[end - 1].strip():
        end -= 1  # empty lines below stay where they are
    body = "".join(block[header:end])
    try:
        document = tomlkit.parse(body)
        held: Any = document["policy"][0]
        wanted = _plain(table)
        for key in [key for key in held if key not in wanted]:
            held.remove(key)
        for key, value in wanted.items():
            if key not in held or held[key] != value:
                held[key] = _item(value)
        text = tomlkit.dumps(document)
    except (TOMLKitError, TypeError, ValueError, KeyError) as error:
        raise _by_hand() from error
    if not text.endswith("\n"):
        text += "\n"
    return [*block[:header], *text.splitlines(keepends=True), *block[end:]]


def _ordered(text: str, networks: Sequence[str]) -> str:
    """Return the text with another `order`; only its own lines change."""
    lines = text.splitlines(keepends=True)
    span = Lines(text).span_of_key("order")
    if span is None:
        tables = [number for number, one in enumerate(lines) if one.lstrip().startswith("[")]
        place = tables[0] if tables else len(lines)
        while place > 0 and lines[place - 1].lstrip().startswith("#"):
            place -= 1
        span = place, place
    start, end = span
    try:
        document = tomlkit.parse("".join(lines[start:end]))
        document["order"] = list(networks)
        return "".join([*lines[:start], _checked(tomlkit.dumps(document)), *lines[end:]])
    except TOMLKitError as error:
        raise _by_hand() from error


def _checked(text: str) -> str:
    return text if text.endswith("\n") else text + "\n"


def _by_hand() -> ConfigError:
    why = "is written in a way that cannot be changed here without touching what else stands in it"
    return ConfigError("the file", why, "Change it by hand: what you save is read within a second.")
