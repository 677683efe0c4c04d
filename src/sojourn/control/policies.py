"""The policies that hold now: the owner's, then what the anchor offers and the owner accepts, then the default one.

The owner's come first, and the first that covers a flow decides: so the owner's win. A file with a mistake changes
nothing: what was read before stays, and the mistakes are kept for `sojourn policy show`.
"""

import contextlib
import tomllib
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, Literal

from msgspec import Struct, field
from msgspec.structs import replace

from sojourn.control.config import HostConfig, parse_host
from sojourn.control.decode import decode
from sojourn.control.peer_config import entries
from sojourn.errors import ConfigError
from sojourn.policy.language import COSTS, DEFAULT_ORDER, Context, Reading, default_policy, read
from sojourn.policy.problems import Problem
from sojourn.policy.rules import DEFAULT, Policy
from sojourn.upmt.policy_push import PolicyPush

FROM_ANCHOR: Final = "anchor"
MAX_NAMED: Final = 256
"""Addresses that one policy's names stand for at a time, the newest."""


class PoliciesChanged(Struct, frozen=True, tag=True):
    """An event for the decision: from now on these hold, all of them, the default one last."""

    policies: tuple[Policy, ...]
    reason: str = "policies changed"
    names_only: bool = False
    """They are what they were, but for addresses whose names became known."""


class PolicyFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A file that holds policies alone, to be tested."""

    policies: tuple[dict[str, Any], ...] = field(name="policy", default=())
    order: tuple[str, ...] = DEFAULT_ORDER
    accept: tuple[Literal["policies", "costs", "preferences"], ...] = ()


class Candidate(Struct, frozen=True):
    """A text of host.toml, read and found right or wrong; nothing is changed by it yet."""

    config: HostConfig | PolicyFile | None
    reading: Reading
    accept: frozenset[str] = frozenset()
    own_order: bool = False
    """The file has an `order` of its own."""


class PolicyBook:
    """Owns what is read and pushed. `file` is what complaints call host.toml."""

    def __init__(self, file: str, user_id: Callable[[str], int | None]) -> None:
        self.file = file
        self.errors: tuple[Problem, ...] = ()
        """Mistakes of the newest file; while there are any, an older one holds."""
        self.known: Callable[[], frozenset[str]] = frozenset
        """Returns the names and labels of networks that are known now."""
        self.push = PolicyPush()
        self.push_errors: tuple[Problem, ...] = ()
        self._user_id = user_id
        self._held = Candidate(None, Reading((default_policy(DEFAULT_ORDER),)))
        self._pushed: tuple[Policy, ...] = ()

    @property
    def policies(self) -> tuple[Policy, ...]:
        """Return all that hold, in order; the last one is the default."""
        own = tuple(policy for policy in self._held.reading.policies if policy.label != DEFAULT)
        return (*own, *self._pushed, default_policy(self.order))

    @property
    def order(self) -> tuple[str, ...]:
        """Return the general order of networks: the owner's where the file has one, else an accepted one."""
        if self.push.order and "preferences" in self._held.accept and not self._held.own_order:
            return self.push.order
        return self._held.config.order if self._held.config is not None else DEFAULT_ORDER

    @property
    def costs(self) -> Mapping[str, str]:
        """Return what the anchor says of networks' costs, if the owner accepts that. Other words count as none."""
        accepted = self.push.costs if "costs" in self._held.accept else {}
        return {name: cost for name, cost in accepted.items() if cost in COSTS}

    @property
    def accept(self) -> frozenset[str]:
        """Return what of a push the owner lets in."""
        return self._held.accept

    @property
    def config(self) -> HostConfig | PolicyFile | None:
        """Return what the newest right file says."""
        return self._held.config

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """Return what is allowed in the file that holds, and probably not meant."""
        return self._held.reading.warnings

    def examine(self, text: str | bytes, *, partial: bool = False) -> Candidate:
        """Read a text of host.toml; nothing changes. Raises nothing: mistakes are in the reading.

        `partial`: a text without `anchor` and peers is taken for one that has policies only.
        """
        config: HostConfig | PolicyFile
        try:
            plain = text.decode() if isinstance(text, bytes) else text
            whole = True
            if partial:
                with contextlib.suppress(tomllib.TOMLDecodeError):
                    whole = bool({"anchor", "rendezvous", "peer"} & tomllib.loads(plain).keys())
            config = parse_host(plain, self.file) if whole else decode(plain, PolicyFile, self.file)
            own_order = config.order != DEFAULT_ORDER  # `join` writes that one into every file
        except (ConfigError, UnicodeDecodeError) as error:
            return Candidate(None, Reading((), (_problem(self.file, error),)))
        known = self.known()
        reading = read(
            config.policies,
            Context(self.file, plain, config.order, known or None, self._user_id, self._homes(config)),
        )
        return Candidate(config, reading, frozenset(config.accept), own_order)

    def _homes(self, config: HostConfig | PolicyFile | None) -> dict[str, str]:
        """Return the home addresses of peers by name; a text of policies alone speaks of those that hold."""
        known = config if isinstance(config, HostConfig) else self._held.config
        return {one.name: one.home for one in entries(known.peers)} if isinstance(known, HostConfig) else {}

    def load(self, text: str | bytes) -> bool:
        """Take in a text; say whether other policies hold now. With mistakes in it only `errors` change."""
        candidate = self.examine(text)
        self.errors = candidate.reading.errors
        if self.errors:
            return False
        before = self._effect()
        self._held = candidate
        self._read_push()
        return self._effect() != before

    def take(self, push: PolicyPush) -> bool:
        """Take in what the anchor offers; say whether other policies or costs hold now."""
        before = self._effect()
        self.push = push
        self._read_push()
        return self._effect() != before

    def _effect(self) -> tuple[object, ...]:
        """Return what makes a difference: where in the file a policy stands makes none."""
        return [replace(policy, line=None) for policy in self.policies], self.costs

    def with_own(self, candidate: Candidate) -> tuple[Policy, ...]:
        """Return what would hold if a candidate did."""
        other = PolicyBook(self.file, self._user_id)
        other.known, other.push, other._held = self.known, self.push, candidate
        other._read_push()
        return other.policies

    def _read_push(self) -> None:
        """Read the push again. What cannot be read of it is left out, and told by `policy show`."""
        self._pushed, self.push_errors = (), ()
        if "policies" not in self._held.accept:
            return
        context = Context(
            "the anchor's push", order=self.order, user_id=self._user_id, came_from=FROM_ANCHOR,
            prefix=f"{FROM_ANCHOR}/", array="policies",
        )  # fmt: skip
        reading = read(self.push.policies, context)
        self._pushed = tuple(policy for policy in reading.policies if policy.label != DEFAULT)
        self.push_errors = reading.errors


def with_addresses(policies: tuple[Policy, ...], names: Mapping[str, tuple[str, ...]]) -> tuple[Policy, ...]:
    """Return the policies with the addresses that have their destinations' names now, for whoever knows no names."""
    return tuple(_with_addresses(policy, names) for policy in policies)


def _with_addresses(policy: Policy, names: Mapping[str, tuple[str, ...]]) -> Policy:
    subject = policy.subject
    found = [
        address
        for address, called in names.items()
        if any(fnmatchcase(name, wanted) for wanted in subject.names for name in called)
    ]
    if not found:
        return policy
    networks = sorted(f"{address}/{128 if ':' in address else 32}" for address in found[-MAX_NAMED:])
    destinations = tuple(dict.fromkeys([*subject.destinations, *networks]))
    return replace(policy, subject=replace(subject, destinations=destinations))


def _problem(file: str, error: ConfigError | UnicodeDecodeError) -> Problem:
    if isinstance(error, ConfigError):
        where = error.where.removeprefix(file).lstrip(": ")
        return Problem(file, None, where or "file", error.why, error.fix)
    return Problem(file, None, "file", f"is not UTF-8 text (byte {error.start})", "Save it as UTF-8.")
