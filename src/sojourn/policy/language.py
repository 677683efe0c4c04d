"""The policy language: `[[policy]]` tables of TOML in, `Policy` values out, or every mistake with its line.

    reading = read(tables, Context("host.toml", text))
    reading.policies       those that are right, in order, and at the end the default one (`order` of host.toml)
    reading.errors         all mistakes, not only the first
    reading.warnings       what is allowed and probably not meant

The keys are those of DESIGN §4; docs/guide/policies.md explains each. What a table says of a program and a
destination is read by subjects.py, quantities with their units by quantities.py.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

from msgspec import Struct

from sojourn.policy import peers, quantities, spans
from sojourn.policy.locate import Lines
from sojourn.policy.presets import PRESETS, expand
from sojourn.policy.problems import Problem
from sojourn.policy.rules import DEFAULT, Order, Otherwise, Policy, Require, Rule, Subject, Trigger, Via
from sojourn.policy.subject import speaks_of_everything
from sojourn.policy.subjects import SUBJECT_KEYS, automatic_label, read_subject
from sojourn.policy.values import Bad, boolean, choice, explained, integer, names, strings

MAX_POLICIES: Final = 256
MAX_NAME: Final = 64
MAX_COPIES: Final = 4
KINDS: Final = ("ethernet", "wifi", "cellular", "other")
COSTS: Final = ("free", "metered")
SECURITY: Final = ("trusted", "encrypted", "open")
DEFAULT_ORDER: Final = ("ethernet", "wifi", "cellular", "*")

_REQUIRE: Final[dict[str, Callable[[Any], Any]]] = {
    "rtt": quantities.seconds,
    "loss": quantities.fraction,
    "jitter": quantities.seconds,
    "rate": quantities.bits_per_second,
    "signal": quantities.fraction,
    "metered": boolean,
    "cost": lambda value: choice(value, COSTS),
    "security": lambda value: choice(value, SECURITY),
    "under_cap": boolean,
    "time": lambda value: _times(value),
}
_OTHERS: Final[dict[str, tuple[str, Callable[[Any], Any]]]] = {
    "order": ("order", lambda value: _one_of(Order, value)),
    "via": ("via", lambda value: _one_of(Via, value)),
    "trigger": ("trigger", lambda value: _one_of(Trigger, value)),
    "otherwise": ("otherwise", lambda value: _one_of(Otherwise, value)),
    "copies": ("copies", lambda value: integer(value, 1, MAX_COPIES)),
    "stay": ("stay", boolean),
    "minimum_stay": ("minimum_stay", quantities.seconds),
    "block": ("blocked", boolean),
    "ask_timeout": ("ask_timeout", quantities.seconds),
    "ask_default": ("ask_default", lambda value: _one_of(Otherwise, value)),
}
KEYS: Final = ("name", "preset", *SUBJECT_KEYS, "peer", "networks", "require", *_OTHERS)


class Context(Struct, frozen=True):
    """What is known beside the tables themselves."""

    file: str = "host.toml"
    text: str | None = None
    """The file's text, for line numbers; None where there is none (tables that an anchor pushed)."""
    order: tuple[str, ...] = DEFAULT_ORDER
    """`order` of host.toml: the default policy's networks, and what "*" stands for."""
    networks: frozenset[str] | None = None
    """Names and labels of networks that are known; None = any name may be right."""
    user_id: Callable[[str], int | None] = lambda _name: None
    """Looks a user's name up."""
    peers: Mapping[str, str] = {}
    """Home addresses by the names of `[peer.NAME]`."""
    came_from: str = "user"
    prefix: str = ""
    """Stands before each label: what an anchor pushed cannot take a name of the user's."""
    array: str = "policy"
    """What the tables are called where they stand."""


class Reading(Struct, frozen=True):
    """The outcome. With errors, `policies` lacks the tables that have them."""

    policies: tuple[Policy, ...]
    errors: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


def parse(tables: Sequence[object], context: Context) -> tuple[Policy, ...]:
    """Return all policies, the default one last. Raises ConfigError with the first mistake."""
    reading = read(tables, context)
    if reading.errors:
        raise reading.errors[0].error()
    return reading.policies


def rules_of(policies: Sequence[Policy]) -> tuple[Rule, ...]:
    """Return what a data path must know of them; flows that no rule covers are the default policy's."""
    return tuple(Rule(policy.label, policy.subject) for policy in policies if policy.label != DEFAULT)


def default_policy(order: Sequence[str]) -> Policy:
    """Return the policy of all flows that no other one covers."""
    return Policy(DEFAULT, networks=_with_all(order))


def read(tables: Sequence[object], context: Context) -> Reading:
    """Read the tables in order. Raises nothing."""
    reader = _Reader(context)
    policies: list[Policy] = []
    if len(tables) > MAX_POLICIES:
        reader.complain(MAX_POLICIES, (), f"is one more than {MAX_POLICIES} policies", "Join some of them.")
    for index, table in enumerate(tables[:MAX_POLICIES]):
        policy = reader.policy(index, table)
        if policy is not None:
            reader.compare(index, policy, policies)
            policies.append(policy)
    policies.append(default_policy(context.order))
    return Reading(tuple(policies), tuple(reader.errors), tuple(reader.warnings))


class _Reader:
    def __init__(self, context: Context) -> None:
        self.context = context
        self.errors: list[Problem] = []
        self.warnings: list[Problem] = []
        self._lines = Lines(context.text) if context.text is not None else None
        self._labels: dict[str, int] = {}

    def complain(self, index: int, keys: tuple[str, ...], why: str, fix: str, *, warn: bool = False) -> None:
        line = self._lines.of(self.context.array, index, *keys) if self._lines is not None else None
        key = ".".join((f"{self.context.array}[{index}]", *keys))
        (self.warnings if warn else self.errors).append(Problem(self.context.file, line, key, why, fix))

    def policy(self, index: int, given: object) -> Policy | None:
        before = len(self.errors)
        if not isinstance(given, dict):
            self.complain(index, (), "is not a table", "Write [[policy]] and its keys below.")
            return None
        self._unknown(index, (), given, KEYS)
        table = self._preset(index, given)
        subject = self._with_peers(index, table, self._subject(index, table))
        fields: dict[str, Any] = {}
        for key, (field, reader) in _OTHERS.items():
            if key in table:
                fields[field] = self._value(index, (key,), table[key], reader)
        if "peer" in table:
            fields.setdefault("via", Via.PEER)
        fields["networks"] = self._networks(index, table)
        fields["require"] = self._require(index, table.get("require", {}))
        label = self._label(index, table, subject)
        if len(self.errors) > before:
            self._labels = {taken: owner for taken, owner in self._labels.items() if owner != index}
            return None
        line = self._lines.of(self.context.array, index) if self._lines is not None else None
        preset = str(table.get("preset", ""))
        fields |= {"came_from": self.context.came_from, "preset": preset, "line": line}
        policy = Policy(label, subject, **fields)
        self._consistent(index, policy)
        return policy if len(self.errors) == before else None

    def _unknown(self, index: int, keys: tuple[str, ...], table: Mapping[str, Any], known: Sequence[str]) -> None:
        for key in table:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, 1)
                fix = f"Did you mean {near[0]!r}?" if near else f"Known keys: {', '.join(known)}."
                self.complain(index, (*keys, str(key)), "there is no such key", fix)

    def _value(
        self,
        index: int,
        keys: tuple[str, ...],
        value: object,
        reader: Callable[[Any], Any],
    ) -> Any:  # noqa: ANN401 - whatever the key's reader makes of it
        try:
            return reader(value)
        except ValueError as error:
            self.complain(index, keys, *explained(error))
            return None

    def _preset(self, index: int, given: dict[str, Any]) -> dict[str, Any]:
        word = given.get("preset")
        if word is None:
            return given
        preset = PRESETS.get(word) if isinstance(word, str) else None
        if preset is None:
            near = difflib.get_close_matches(str(word), PRESETS, 1, 0.4)
            fix = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(PRESETS)}."
            self.complain(index, ("preset",), f"there is no preset {word!r}", fix)
            return given
        for need in preset.needs:
            at: Any = given
            for part in need.split("."):
                at = at.get(part) if isinstance(at, dict) else None
            if at is None:
                example = 'require = { rtt = "150ms", loss = "2%" }' if "." in need else 'networks = ["wifi"]'
                self.complain(index, ("preset",), f"{word} needs `{need}`", f"Add it, like {example}.")
        return expand(given, preset)

    def _subject(self, index: int, table: Mapping[str, Any]) -> Subject:
        try:
            return read_subject(table, self.context.user_id)
        except Bad as bad:
            for key, why, fix in bad.problems:
                self.complain(index, (key,), why, fix)
            return Subject()

    def _with_peers(self, index: int, table: Mapping[str, Any], subject: Subject) -> Subject:
        """Let a policy about peers speak of no other flows (policy/peers.py)."""
        try:
            return peers.narrowed(table, subject, self.context.peers)
        except Bad as bad:
            for key, why, fix in bad.problems:
                self.complain(index, (key,), why, fix)
            return subject

    def _networks(self, index: int, table: Mapping[str, Any]) -> tuple[str, ...]:
        if "networks" not in table:
            return _with_all(self.context.order)
        given = self._value(index, ("networks",), table["networks"], names)
        if given is None:
            return ()
        if not given and not table.get("block"):
            fix = 'Name some, like ["wifi", "*"], or write preset = "Block".'
            self.complain(index, ("networks",), "is empty: no flow could go anywhere", fix)
        words = ["*" if word == "any" else word for word in given]
        known = self.context.networks
        for word in words:
            if known is not None and word not in known and word not in KINDS and word != "*":
                near = difflib.get_close_matches(word, [*known, *KINDS], 1)
                fix = f"Did you mean {near[0]!r}?" if near else "`sojourn networks` shows their names."
                self.complain(index, ("networks",), f"no network is called {word!r} now", fix, warn=True)
        if table.get("preset") == "Static" and len(words) != 1:
            self.complain(index, ("networks",), "Static is one network", 'Name one, like networks = ["wifi"].')
        return _expanded(words, self.context.order)

    def _require(self, index: int, given: object) -> Require:
        if not isinstance(given, dict):
            self.complain(index, ("require",), "is not a table", 'Write it like { loss = "2%", rtt = "150ms" }.')
            return Require()
        self._unknown(index, ("require",), given, tuple(_REQUIRE))
        found = {
            key: self._value(index, ("require", key), given[key], reader)
            for key, reader in _REQUIRE.items()
            if key in given
        }
        return Require(**{key: value for key, value in found.items() if value is not None})

    def _label(self, index: int, table: Mapping[str, Any], subject: Subject) -> str:
        prefix = self.context.prefix
        if "name" in table:
            name = self._value(index, ("name",), table["name"], _name)
            label = prefix + str(name)
            if label in self._labels:
                why = f"{name!r} is the name of {self.context.array}[{self._labels[label]}] already"
                self.complain(index, ("name",), why, "Give each policy a name of its own.")
        else:
            base = label = prefix + automatic_label(table, subject)[: MAX_NAME - 12]
            count = 1
            while label in self._labels:
                count += 1
                label = f"{base} ({count})"
        self._labels.setdefault(label, index)  # a name belongs to the first, also when a second one is refused it
        return label

    def _consistent(self, index: int, policy: Policy) -> None:
        if policy.copies > 1 and policy.via is not Via.ANCHOR:
            why = f"copies are made for an anchor to sort out, not for via = {str(policy.via)!r}"
            self.complain(index, ("copies",), why, 'Remove it, or write via = "anchor".')
        if policy.via is Via.PEER and Otherwise.DIRECT in (policy.otherwise, policy.ask_default):
            self.complain(index, ("otherwise",), "peers are not reached past the nodes", 'Write "hold" or "block".')
        if policy.trigger is not Trigger.PEER and policy.via is not Via.PEER:
            self.complain(index, ("trigger",), "is about flows with peers", 'Add via = "peer", or remove it.')
        if policy.ask_default is Otherwise.ASK:
            self.complain(index, ("ask_default",), "a question cannot answer itself", 'Write "hold", "any" or "block".')
        if policy.came_from != "user" and Via.DIRECT in (policy.via, *map(str, (policy.otherwise, policy.ask_default))):
            self.complain(index, (), "takes traffic past the tunnels, which is the user's alone", "Remove direct.")
        if not 1 <= policy.ask_timeout <= 86400:
            self.complain(index, ("ask_timeout",), "is not between 1 s and 24 h", 'Write it like "30s".')

    def compare(self, index: int, policy: Policy, before: Sequence[Policy]) -> None:
        """Warn of a policy that never gets a turn."""
        for earlier in before:
            everything = speaks_of_everything(earlier.subject)
            if everything or earlier.subject == policy.subject:
                why = f"is never reached: {earlier.label!r} above it covers " + (
                    "everything" if everything else "the same"
                )
                self.complain(index, (), why, "Move it up, or remove it.", warn=True)
                return


def _with_all(order: Sequence[str]) -> tuple[str, ...]:
    return tuple(order) if "*" in order else (*order, "*")


def _expanded(words: Sequence[str], order: Sequence[str]) -> tuple[str, ...]:
    """Let "*" be the rest in the owner's general order, as people expect of "any other"."""
    if "*" not in words:
        return tuple(words)
    place = words.index("*")
    rest = [word for word in _with_all(order) if word not in words or word == "*"]
    return tuple(dict.fromkeys([*words[:place], *rest, *words[place + 1 :]]))


def _one_of(kind: type[StrEnum], value: object) -> StrEnum:
    return kind(choice(value, tuple(str(one) for one in kind), single=True)[0])


def _times(value: object) -> tuple[str, ...]:
    found = strings(value)
    for text in found:
        spans.parse(text)
    return found


def _name(value: object) -> str:
    (text,) = strings(value, most=1)
    if len(text) > MAX_NAME - 12 or set("/:") & set(text) or not text.isprintable():
        raise ValueError(f"{text[:20]!r} cannot be a name: use at most {MAX_NAME - 12} letters, no '/' and no ':'")
    return text
