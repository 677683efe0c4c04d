"""Rules by which flows go direct, in the form in which the kernel's programs ask them at connect (DESIGN §4).

What one kind of value says alone (a whole path, a command name, a user, a cgroup, a pinned name) is exact from a
program's first connection on. Patterns, several kinds at once, and names that are no command's are decided by
control when it first sees the program use a socket: its first flows may be on their way by then.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from sojourn.linux.bpf_map import BpfMap
from sojourn.linux.cgroups import path_of
from sojourn.linux.owner_programs import OwnerPrograms
from sojourn.linux.owners import (
    BY_ANYONE,
    BY_CGROUP,
    BY_COMMAND,
    BY_OWNER,
    BY_PIN,
    BY_USER,
    COMMAND_BYTES,
    program_path,
    script_path,
    verdict,
    verdict_key,
)
from sojourn.model import Origin
from sojourn.policy.rules import Rule, Subject
from sojourn.policy.subject import covers_owner

MOST_CGROUPS: Final = 1024
MOST_SEEN: Final = 8192
"""Programs with a verdict of their own: half of what the map holds (bpf/maps.h)."""
_GLOB: Final = frozenset("*?[")
_KINDS: Final = ("applications", "executables", "commands", "units", "cgroups", "containers", "users")


class DirectRules:
    """Keeps the programs' maps as the policies say."""

    def __init__(self, programs: OwnerPrograms, root: int) -> None:
        """`root`: the cgroup hierarchy's (linux/cgroups.py)."""
        self._verdicts: BpfMap = programs.map("verdicts")
        self._paths: BpfMap = programs.map("paths")
        self._names: BpfMap = programs.map("names")
        self._root = Path(path_of(root))
        self._rules: tuple[Rule, ...] = ()
        self._labels: frozenset[str] = frozenset()
        self._seen: dict[int, None] = {}
        """Programs with a verdict of their own, the one that used a socket last at the end."""

    @property
    def wanted(self) -> bool:
        """There is a rule by which flows go direct."""
        return any(self._is_direct(rule) for rule in self._rules)

    def set(self, rules: Iterable[Rule], direct: Iterable[str]) -> None:
        """Take over the rules, in their order, and the labels of those whose flows go direct.

        Which port or destination a flow has is not asked here. A rule that asks for it as well as for a program keeps
        that program's flows from going direct by a later rule; one that asks for nothing else is passed over.
        """
        self._rules = tuple(rule for rule in rules if _kinds(rule.subject) or not _asks_of_flow(rule.subject))
        self._labels = frozenset(direct)
        self._seen.clear()
        for held in (self._verdicts, self._paths):
            for key in list(held.keys()):
                held.delete(key)
        if not self.wanted:
            return
        for rank, rule in enumerate(self._rules):
            value = verdict(rank, self._is_direct(rule))
            for held, key in self._keys(rule.subject):
                if held.look_up(key) is None:  # an earlier rule goes before
                    held.update(key, value)

    def see(self, origin: Origin) -> None:
        """Decide about a program that uses a socket, for its next flows."""
        covering = (rule for rule in self._rules if covers_owner(rule.subject, origin))
        rule = next(covering, None)
        self._seen.pop(origin.owner, None)
        while len(self._seen) >= MOST_SEEN:  # every execution is a program of its own: most have long ended
            oldest = next(iter(self._seen))
            del self._seen[oldest]
            self._verdicts.delete(verdict_key(BY_OWNER, oldest))
        self._seen[origin.owner] = None
        self._decide(verdict_key(BY_OWNER, origin.owner), rule is not None and self._is_direct(rule))

    def pinned(self, pin: int, name: str) -> None:
        """Decide about a name that was just given."""
        origin = Origin(0, name=name)
        for rule in self._rules:
            if _kinds(rule.subject) == ["applications"] and covers_owner(rule.subject, origin):
                self._decide(verdict_key(BY_PIN, pin), self._is_direct(rule))
                return

    def _decide(self, key: bytes, direct: bool) -> None:
        """Write a verdict that needs no rank: it goes before all others. One that finds no room is made again."""
        with contextlib.suppress(OSError):
            self._verdicts.update(key, verdict(0, direct))

    def _is_direct(self, rule: Rule) -> bool:
        return rule.label in self._labels and not _asks_of_flow(rule.subject)

    def _keys(self, subject: Subject) -> Iterator[tuple[BpfMap, bytes]]:
        if len(_kinds(subject)) > 1:
            return
        if not _kinds(subject):
            yield self._verdicts, verdict_key(BY_ANYONE, 0)
        for path in _exact(subject.executables):
            for key in (program_path(path), script_path(path)):
                if key:
                    yield self._paths, key
        for word in _exact((*subject.commands, *subject.applications)):
            if len(word.encode()) < COMMAND_BYTES:
                yield self._verdicts, verdict_key(BY_COMMAND, word)
        for user in subject.users:
            yield self._verdicts, verdict_key(BY_USER, user)
        for path in _exact(subject.cgroups):
            for inode in self._below(path):
                yield self._verdicts, verdict_key(BY_CGROUP, inode)
        for pin in list(self._names.keys()) if subject.applications else ():
            name = (self._names.look_up(pin) or b"").rstrip(b"\0").decode(errors="replace")
            if covers_owner(subject, Origin(0, name=name)):
                yield self._verdicts, verdict_key(BY_PIN, int.from_bytes(pin, "little"))

    def _below(self, path: str) -> Iterator[int]:
        """Yield the ids of a cgroup and of those that are in it now."""
        root = self._root / path.lstrip("/")
        for count, (directory, _, _) in enumerate(os.walk(root)):
            if count >= MOST_CGROUPS:
                return
            yield os.stat(directory).st_ino


def _asks_of_flow(subject: Subject) -> bool:
    return bool(subject.match or subject.names or subject.destinations)


def _kinds(subject: Subject) -> list[str]:
    return [kind for kind in _KINDS if getattr(subject, kind)]


def _exact(patterns: Iterable[str]) -> Iterator[str]:
    return (pattern for pattern in patterns if not _GLOB & set(pattern))
