"""A policy as people read it: its keys again, presets expanded, in TOML that `language.read` reads the same."""

from collections.abc import Sequence
from typing import Any

from sojourn.policy import match as matching
from sojourn.policy.match import PROTOCOLS, Match, Term
from sojourn.policy.quantities import write_fraction, write_rate, write_seconds
from sojourn.policy.rules import DEFAULT, Otherwise, Policy, Require, Subject

_PROTOCOL_NAMES = {str(number): name for name, number in reversed(PROTOCOLS.items())}
_TEXTS = (
    ("application", "applications"), ("executable", "executables"), ("command", "commands"), ("unit", "units"),
    ("cgroup", "cgroups"), ("container", "containers"), ("user", "users"),
)  # fmt: skip


def table_of(policy: Policy) -> dict[str, Any]:
    """Return the keys and values of a policy; what has its default is left out, but for the networks."""
    table: dict[str, Any] = {"name": policy.label.rpartition("/")[2]}
    table |= subject_table(policy.subject)
    table["networks"] = list(policy.networks)
    if require := _require(policy.require):
        table["require"] = require
    plain = Policy("")
    for key in ("order", "via", "trigger", "otherwise", "copies", "stay", "ask_default"):
        value = getattr(policy, key)
        if value != getattr(plain, key):
            table[key] = value if isinstance(value, int) else str(value)
    if policy.minimum_stay:
        table["minimum_stay"] = write_seconds(policy.minimum_stay)
    if policy.otherwise is Otherwise.ASK:
        table["ask_timeout"] = write_seconds(policy.ask_timeout)
    if policy.blocked:
        table["block"] = True
    return table


def subject_table(subject: Subject) -> dict[str, Any]:
    """Return the keys that say whom a policy speaks of."""
    table: dict[str, Any] = {key: _one_or_list(values) for key, field in _TEXTS if (values := getattr(subject, field))}
    if subject.match:
        table |= _match_table(subject.match)
    if subject.destinations or subject.names:
        table["destination"] = _one_or_list((*subject.destinations, *subject.names))
    return table


def describe(subject: Subject) -> str:
    """Return whom a policy speaks of in one line, for tables."""
    words = []
    for key, value in subject_table(subject).items():
        values = value if isinstance(value, list) else [value]
        words.append(f"{key.replace('_', ' ')} {' or '.join(map(str, values))}")
    return ", ".join(words) or "everything"


def _one_or_list(values: Sequence[Any]) -> Any:  # noqa: ANN401 - a text, a number, or a list of these
    return values[0] if len(values) == 1 else list(values)


def _match_table(matches: Sequence[Match]) -> dict[str, Any]:
    """Return protocol and ports where they say all, else iptables' words."""
    fields = ("protocol", "destination_ports", "source_ports")
    found: dict[str, dict[Term | None, None]] = {field: {} for field in fields}
    plain = True
    for match in matches:
        plain = plain and match.source is None and match.destination is None
        for field in fields:
            term: Term | None = getattr(match, field)
            plain = plain and not (term is not None and term.negated)
            found[field][term] = None
    combinations = 1
    for terms in found.values():
        combinations *= len(terms)
    if not plain or combinations != len(matches) or any(None in terms and len(terms) > 1 for terms in found.values()):
        return {"match": _one_or_list([matching.write(match) for match in matches])}
    table: dict[str, Any] = {}
    for key, field in zip(("protocol", "port", "local_port"), fields, strict=True):
        values = [term.value for term in found[field] if term is not None]
        if values:
            named = [_PROTOCOL_NAMES.get(value, value) for value in values]
            table[key] = _one_or_list(named if key == "protocol" else [_port(value) for value in values])
    return table


def _port(value: str) -> int | str:
    first, _, last = value.partition(":")
    return int(first) if first == last else f"{first}-{last}"


def _require(require: Require) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, write in (
        ("rtt", write_seconds), ("loss", write_fraction), ("jitter", write_seconds), ("rate", write_rate),
        ("signal", write_fraction),
    ):  # fmt: skip
        value = getattr(require, key)
        if value is not None:
            table[key] = write(value)
    if require.metered is not None:
        table["metered"] = require.metered
    for key in ("cost", "security", "time"):
        if values := getattr(require, key):
            table[key] = _one_or_list(values)
    if require.under_cap:
        table["under_cap"] = True
    return table


def toml_of(policies: Sequence[Policy]) -> str:
    """Return `[[policy]]` tables, the default one as a comment."""
    parts = []
    for policy in policies:
        if policy.label == DEFAULT:
            parts.append(f"# everything else: networks = {_literal(list(policy.networks))}\n")
            continue
        notes = [word for word in (f"preset {policy.preset}" if policy.preset else "", _origin(policy)) if word]
        parts.append("[[policy]]" + (f"   # {', '.join(notes)}" if notes else "") + "\n")
        parts[-1] += "".join(f"{key} = {_literal(value)}\n" for key, value in table_of(policy).items())
    return "\n".join(parts)


def _origin(policy: Policy) -> str:
    if policy.came_from != "user":
        return f"from the {policy.came_from}"
    return f"line {policy.line}" if policy.line is not None else ""


def _literal(value: Any) -> str:  # noqa: ANN401 - what `table_of` has made
    match value:
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case str():
            return _text(value)
        case dict():
            return "{ " + ", ".join(f"{key} = {_literal(one)}" for key, one in value.items()) + " }"
        case _:
            return "[" + ", ".join(_literal(one) for one in value) + "]"


def _text(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(_escape(letter) for letter in escaped) + '"'


def _escape(letter: str) -> str:
    code = ord(letter)
    return f"\\u{code:04X}" if code < 0x20 or 0x7F <= code < 0xA0 else letter
