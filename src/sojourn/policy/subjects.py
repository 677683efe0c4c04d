"""Whom a `[[policy]]` table speaks of: its keys about program, user, ports and destination, as a `Subject`."""

import ipaddress
import itertools
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from sojourn.errors import RemoteProtocolError
from sojourn.policy.match import PROTOCOLS, Match, Term
from sojourn.policy.match import parse as parse_match
from sojourn.policy.rules import Subject, Via
from sojourn.policy.values import MAX_VALUES, Bad, explained, strings

_TEXTS: Final = {
    "application": "applications",
    "executable": "executables",
    "command": "commands",
    "unit": "units",
    "cgroup": "cgroups",
    "container": "containers",
}
_FLOW: Final = ("protocol", "port", "local_port")
SUBJECT_KEYS: Final = (*_TEXTS, "user", *_FLOW, "destination", "match")
MAX_MATCHES: Final = 256

_NAME = re.compile(r"^(?=.{1,253}$)[A-Za-z0-9_*?\[\]!-]+(\.[A-Za-z0-9_*?\[\]!-]+)*\.?$")
_PORTS = re.compile(r"^([0-9]{1,5})(?:[-:]([0-9]{1,5}))?$")
COMMAND_BYTES: Final = 15
"""The kernel cuts command names at this length (TASK_COMM_LEN - 1)."""


def read_subject(table: Mapping[str, Any], user_id: Callable[[str], int | None]) -> Subject:
    """Return whom the table speaks of. Raises Bad with every mistake."""
    problems: list[tuple[str, str, str]] = []

    def value(key: str, reader: Callable[[Any], Any]) -> Any:  # noqa: ANN401 - what the key's reader makes
        if key not in table:
            return ()
        try:
            return reader(table[key])
        except ValueError as error:
            problems.append((key, *explained(error)))
            return ()

    fields: dict[str, Any] = {field: value(key, _READERS.get(key, strings)) for key, field in _TEXTS.items()}
    fields["users"] = value("user", lambda given: _users(given, user_id))
    fields["destinations"], fields["names"] = value("destination", _destinations) or ((), ())
    match = value("match", _matches)
    terms = [value(key, reader) for key, reader in (("protocol", _protocols), ("port", _ports), ("local_port", _ports))]
    if match and any(terms):
        problems.append(("match", "stands beside protocol or port", "Write the rule in one of the two forms."))
    fields["match"] = match or _product(*terms)
    if len(fields["match"]) > MAX_MATCHES:
        problems.append(("port", f"makes more than {MAX_MATCHES} combinations", "Use ranges, like 5000-5100."))
    if problems:
        raise Bad(problems)
    return Subject(**fields)


def _commands(value: object) -> tuple[str, ...]:
    found = strings(value)
    for name in found:
        if "*" not in name and len(name.encode()) > COMMAND_BYTES:
            short = name.encode()[:COMMAND_BYTES].decode(errors="ignore")
            raise ValueError(f"{name!r} is longer than the {COMMAND_BYTES} bytes that a kernel keeps: write {short!r}")
    return found


def _paths(value: object) -> tuple[str, ...]:
    found = strings(value)
    for path in found:
        if not path.startswith(("/", "*")):
            raise ValueError(f"{path!r} is no whole path: write it like /usr/bin/ssh, or use `application`")
    return found


_READERS: Final = {"command": _commands, "executable": _paths, "cgroup": _paths}


def _users(value: object, user_id: Callable[[str], int | None]) -> tuple[int, ...]:
    found: list[int] = []
    for one in value if isinstance(value, list | tuple) else [value]:
        known = user_id(one) if isinstance(one, str) else one
        if isinstance(one, str) and known is None:
            raise ValueError(f"there is no user {one!r} here: check the spelling, or give the user id as a number")
        if isinstance(known, bool) or not isinstance(known, int) or not 0 <= known < 1 << 32:
            raise ValueError(f'{one!r} is no user: write a name like "alice" or a user id like 1000')
        found.append(known)
    if not 0 < len(found) <= MAX_VALUES:
        raise ValueError(f"{len(found)} users are given: write at least one and at most {MAX_VALUES}")
    return tuple(dict.fromkeys(found))


def _destinations(value: object) -> tuple[tuple[str, ...], tuple[str, ...]]:
    networks: list[str] = []
    called: list[str] = []
    for text in strings(value):
        try:
            networks.append(str(ipaddress.ip_network(text, strict=False)))
        except ValueError:
            if not _NAME.match(text) or "/" in text or text.replace(".", "").isdigit():
                raise ValueError(
                    f'{text!r} is no network and no name: write it like "192.0.2.0/24", "*.example.org"'
                ) from None
            called.append(text.lower().rstrip("."))
    return tuple(dict.fromkeys(networks)), tuple(dict.fromkeys(called))


def _matches(value: object) -> tuple[Match, ...]:
    try:
        return tuple(parse_match(text) for text in strings(value))
    except RemoteProtocolError as error:
        raise ValueError(f"{str(error).replace(': ', ' ')}: write it like '-p tcp --dport 22'") from error


def _protocols(value: object) -> tuple[Term, ...]:
    found: list[Term] = []
    for word in strings(value):
        number = PROTOCOLS.get(word.lower(), int(word) if word.isascii() and word.isdigit() and len(word) < 4 else 256)
        if number > 255:
            raise ValueError(f"{word!r} is no protocol: write one of {', '.join(PROTOCOLS)}, or its number in quotes")
        found.append(Term(str(number)))
    return tuple(dict.fromkeys(found))


def _ports(value: object) -> tuple[Term, ...]:
    found: list[Term] = []
    for one in value if isinstance(value, list | tuple) else [value]:
        whole = _PORTS.match(str(one)) if isinstance(one, int | str) and not isinstance(one, bool) else None
        first, last = (int(whole[1]), int(whole[2] or whole[1])) if whole is not None else (1, 0)
        if not 0 <= first <= last <= 65535:
            raise ValueError(f'{one!r} is no port: write 22, "5000-5100" or a list of these')
        found.append(Term(f"{first}:{last}"))
    if not 0 < len(found) <= MAX_VALUES:
        raise ValueError(f"{len(found)} ports are given: write at least one and at most {MAX_VALUES}")
    return tuple(dict.fromkeys(found))


def _product(protocols: tuple[Term, ...], ports: tuple[Term, ...], local: tuple[Term, ...]) -> tuple[Match, ...]:
    """Return a match for each combination. Ports without a protocol are TCP's and UDP's alike."""
    if not (protocols or ports or local):
        return ()
    return tuple(
        Match(protocol=protocol, destination_ports=port, source_ports=own)
        for protocol, port, own in itertools.product(protocols or (None,), ports or (None,), local or (None,))
    )


def automatic_label(table: Mapping[str, Any], subject: Subject) -> str:
    """Return a name for a policy that has none, of what it speaks of."""
    peer = table.get("peer", "peers" if table.get("via") == Via.PEER and "destination" not in table else None)
    peers = (str(peer[0] if isinstance(peer, list) and peer else peer).replace("*", "peers"),) if peer else ()
    for found in (
        subject.applications, subject.units, subject.containers, subject.commands, subject.executables, subject.cgroups,
        peers, subject.names, subject.destinations,
    ):  # fmt: skip
        if found:
            word = (
                found[0].rstrip("/").rpartition("/")[2] if found in (subject.executables, subject.cgroups) else found[0]
            )
            return _printable(word.replace("/", "_"))
    for key in ("user", "port", "local_port", "protocol"):
        if key in table:
            value = table[key]
            return _printable(f"{key.replace('_', ' ')} {value[0] if isinstance(value, list) and value else value}")
    return "match" if subject.match else "everything"


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() and letter not in "/:" else "_" for letter in text) or "policy"
