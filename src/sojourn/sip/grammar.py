"""The small grammar that SIP headers share: lists, parameters and quoted strings (RFC 3261 §25.1).

Separators count only outside of quoted strings and angle brackets, so that a realm may
hold a comma and a display name a semicolon.
"""

import re
from typing import Final

from sojourn.errors import RemoteProtocolError

Parameters = dict[str, str | None]
"""Parameters by lower-case name; None for one without a value ("rport")."""

TOKEN: Final = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+")
_HOST: Final = re.compile(r"[A-Za-z0-9\-._~%:\[\]]+")
_QUOTED_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)


def split(text: str, separator: str) -> list[str]:
    """Cut at `separator` where it stands outside of quotes and <>; the parts come back stripped."""
    parts: list[str] = []
    start, quoted, angled, skip = 0, False, False, False
    for at, char in enumerate(text):
        if skip:
            skip = False
        elif quoted:
            skip = char == "\\"
            quoted = char != '"'
        elif char == '"':
            quoted = True
        elif char in "<>":
            angled = char == "<"
        elif char == separator and not angled:
            parts.append(text[start:at].strip())
            start = at + 1
    if quoted or angled:
        raise RemoteProtocolError("a quote or an angle bracket is not closed", reason="syntax")
    parts.append(text[start:].strip())
    return parts


def is_token(text: str) -> bool:
    """Say whether `text` is a token of RFC 3261 §25.1."""
    return TOKEN.fullmatch(text) is not None


def unquote(text: str) -> str:
    """Return what a quoted string says; other text comes back as it is."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    return _QUOTED_PAIR.sub(r"\1", text[1:-1])


def quote(text: str) -> str:
    """Write `text` as a quoted string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def parse_parameters(parts: list[str]) -> Parameters:
    """Read `name[=value]` parts. Empty ones are passed over: the paper's Fig. 9 ends a Via with ';'."""
    found: Parameters = {}
    for part in parts:
        if not part:
            continue
        name, equals, value = part.partition("=")
        name = name.rstrip().lower()
        value = value.lstrip()
        if not is_token(name) or name in found:
            raise RemoteProtocolError(f"a parameter has no name, or the name of another: {part!r}", reason="syntax")
        if not equals:
            found[name] = None
        elif value.startswith('"'):
            found[name] = unquote(value)
        elif is_token(value) or _HOST.fullmatch(value):
            found[name] = value
        else:
            raise RemoteProtocolError(f"a parameter has a bad value: {part!r}", reason="syntax")
    return found


def format_parameters(parameters: Parameters) -> str:
    """Write parameters, each with its leading semicolon."""
    return "".join(
        f";{name}"
        if value is None
        else f";{name}={value if _HOST.fullmatch(value) or is_token(value) else quote(value)}"
        for name, value in parameters.items()
    )


def parse_number(text: str, limit: int, what: str) -> int:
    """Read decimal ASCII digits up to `limit`."""
    if not text.isascii() or not text.isdigit() or len(text) > 20 or int(text) > limit:
        raise RemoteProtocolError(f"{what} is not a number from 0 to {limit}: {text[:40]!r}", reason="number")
    return int(text)
