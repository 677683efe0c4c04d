"""What traffic goes into the tunnels: the `[[capture]]` rules of host.toml.

A rule is written in TOML keys or in iptables syntax; both go through the parser that
HandoverRequest uses (upmt/match.py). The first rule that covers a flow decides. A flow that
none covers is captured, unless some rule has `action = "capture"`: who lists what is
captured wants nothing else captured.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

from sojourn.errors import ConfigError, RemoteProtocolError
from sojourn.model import Flow
from sojourn.upmt.match import Match, covers, parse

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
    action: Literal["capture", "direct"] = "capture"


class Capture(Struct, frozen=True):
    """One rule, parsed: flows that `match` covers are captured, or go `direct`."""

    match: Match
    direct: bool = False


_OPTIONS = (
    ("protocol", "-p"),
    ("source", "-s"),
    ("destination", "-d"),
    ("source_port", "--sport"),
    ("destination_port", "--dport"),
)


def captures_of(entries: Sequence[CaptureEntry], file: str) -> tuple[Capture, ...]:
    """Parse the rules in order. Raises ConfigError only."""
    return tuple(_capture(entry, f"{file}: capture[{index}]") for index, entry in enumerate(entries))


def captured(rules: Sequence[Capture], flow: Flow) -> bool:
    """Say whether a flow goes into the tunnels."""
    for rule in rules:
        if covers(rule.match, flow):
            return not rule.direct
    return all(rule.direct for rule in rules)


def _capture(entry: CaptureEntry, where: str) -> Capture:
    keys = [(option, str(value)) for name, option in _OPTIONS if (value := getattr(entry, name)) is not None]
    if entry.match is not None and keys:
        raise ConfigError(where, "has `match` and other keys", "Write the rule in one of the two forms.")
    try:
        return Capture(parse(entry.match if entry.match is not None else _text(keys)), entry.action == "direct")
    except RemoteProtocolError as error:
        fix = 'Write it like match = "-p tcp --dport 22", or protocol = "tcp" and destination_port = 22.'
        raise ConfigError(where, str(error), fix) from error


def _text(keys: Sequence[tuple[str, str]]) -> str:
    words: list[str] = []
    for option, value in keys:
        negated = value.startswith("!")
        words += [*(["!"] if negated else []), option, "'" + value.removeprefix("!").strip().replace("'", "") + "'"]
    return " ".join(words)
