"""What traffic goes into the tunnels: the `[[capture]]` rules of host.toml.

A rule is written in TOML keys or in iptables syntax; both go through the parser that
HandoverRequest uses (policy/match.py). The first rule that covers a flow decides. A flow that
none covers is captured, unless some rule has `action = "tunnel"`: who lists what goes into
the tunnels wants nothing else there.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

from sojourn.errors import ConfigError, RemoteProtocolError
from sojourn.policy.match import Match, parse

Action = Literal["tunnel", "direct"]
Word = Annotated[str, Meta(min_length=1, max_length=128)]


class CaptureEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """One `[[capture]]` table as written. A value that starts with "!" must not be met."""

    match: Annotated[str, Meta(max_length=512)] | None = None
    """iptables syntax; stands alone."""
    protocol: Word | None = None
    source: Word | None = None
    destination: Word | None = None
    source_port: Word | int | None = None
    destination_port: Word | int | None = None
    uid: int | Annotated[str, Meta(pattern=r"^[0-9]{1,10}-[0-9]{1,10}$")] | None = None
    """Only sockets of this user, or of these ("1000-1999")."""
    action: Action = "tunnel"


class Capture(Struct, frozen=True):
    """One rule, parsed. The first that covers a flow decides; a flow that none covers goes into the tunnels."""

    match: Match
    action: Action = "tunnel"
    uids: tuple[int, int] | None = None
    """First and last user id whose sockets are meant; None = everybody's."""


_OPTIONS = (
    ("protocol", "-p"),
    ("source", "-s"),
    ("destination", "-d"),
    ("source_port", "--sport"),
    ("destination_port", "--dport"),
)


def captures_of(entries: Sequence[CaptureEntry], file: str) -> tuple[Capture, ...]:
    """Parse the rules in order. Raises ConfigError only."""
    rules = tuple(_capture(entry, f"{file}: capture[{index}]") for index, entry in enumerate(entries))
    listed = any(rule.action == "tunnel" for rule in rules)
    return (*rules, Capture(Match(), "direct")) if listed else rules


def _capture(entry: CaptureEntry, where: str) -> Capture:
    keys = [(option, str(value)) for name, option in _OPTIONS if (value := getattr(entry, name)) is not None]
    if entry.match is not None and keys:
        raise ConfigError(where, "has `match` and other keys", "Write the rule in one of the two forms.")
    try:
        match = parse(entry.match if entry.match is not None else _text(keys))
    except RemoteProtocolError as error:
        fix = 'Write it like match = "-p tcp --dport 22", or protocol = "tcp" and destination_port = 22.'
        raise ConfigError(where, str(error), fix) from error
    return Capture(match, entry.action, _uids(entry.uid, where))


def _uids(uid: int | str | None, where: str) -> tuple[int, int] | None:
    if uid is None:
        return None
    first, _, last = str(uid).partition("-")
    low, high = (-1, -1) if isinstance(uid, int) and uid < 0 else (int(first), int(last or first))
    if not 0 <= low <= high < 1 << 32:
        raise ConfigError(f"{where}.uid", f"{uid} is no user id or range of them", 'Write 1000 or "1000-1999".')
    return low, high


def _text(keys: Sequence[tuple[str, str]]) -> str:
    words: list[str] = []
    for option, value in keys:
        negated = value.startswith("!")
        words += [*(["!"] if negated else []), option, "'" + value.removeprefix("!").strip().replace("'", "") + "'"]
    return " ".join(words)
