"""From TOML text to a typed value, or to a `ConfigError` that says which key and how to mend it."""

import difflib
import re
import tomllib
from typing import Any, TypeVar

import msgspec

from sojourn.errors import ConfigError

T = TypeVar("T")

MAX_CONFIG_BYTES = 1 << 20
_AT = re.compile(r" - at `\$\.?(.*?)`(?: in `.*`)?$|$", re.DOTALL)
_UNKNOWN = re.compile(r"unknown field `(.*?)`")
_MISSING = re.compile(r"missing required field `(.*?)`")


def decode(text: str | bytes, kind: type[T], file: str) -> T:
    """Read TOML into `kind`; `file` is what the error shall call the text. Raises ConfigError only."""
    return convert(_table(text, file), kind, file)


def convert(table: dict[str, Any], kind: type[T], file: str) -> T:
    """Turn a parsed table into `kind`. Raises ConfigError only."""
    try:
        return msgspec.convert(table, kind, strict=True)
    except msgspec.ValidationError as error:
        raise _explain(str(error), kind, file) from error


def _table(text: str | bytes, file: str) -> dict[str, Any]:
    if len(text) > MAX_CONFIG_BYTES:
        raise ConfigError(file, "is larger than 1 MiB", "Is this the right file?")
    try:
        return tomllib.loads(text.decode() if isinstance(text, bytes) else text)
    except UnicodeDecodeError as error:
        raise ConfigError(file, f"is not UTF-8 text (byte {error.start})", "Save it as UTF-8.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            file, f"is not valid TOML: {error}", "Mend that line; https://toml.io shows the syntax."
        ) from error
    except (RecursionError, ValueError) as error:  # deep nesting; dates and integers out of range
        raise ConfigError(file, f"cannot be read as TOML: {error}", "Write plain values only.") from error


def _explain(message: str, kind: type[Any], file: str) -> ConfigError:
    at = _AT.search(message)
    where = at.group(1) if at is not None and at.group(1) else ""
    unknown, missing = _UNKNOWN.search(message), _MISSING.search(message)
    if unknown is not None:
        key = _join(where, unknown.group(1))
        return ConfigError(f"{file}: {key}", "there is no such key", _suggest(unknown.group(1), where, kind))
    if missing is not None:
        return ConfigError(f"{file}: {_join(where, missing.group(1))}", "this key is missing", "Add it.")
    why = message[: at.start()] if at is not None else message
    return ConfigError(f"{file}: {where or 'top level'}", why[:1].lower() + why[1:], "Correct the value.")


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _suggest(key: str, where: str, kind: type[Any]) -> str:
    if where or not issubclass(kind, msgspec.Struct):
        return "Remove it, or correct its spelling."
    names = [field.encode_name for field in msgspec.structs.fields(kind)]
    near = difflib.get_close_matches(key, names, 1)
    return f"Did you mean {near[0]!r}?" if near else f"Known keys: {', '.join(names)}."
