"""Whether a rule covers a flow: once in plain words (`covers`), and compiled for the data path (`compile_rules`).

Both give the same answers (the tests compare them). The compiled form asks what depends on the program once a
program, keeps the rules that are left for it, and asks of each new flow only ports and destination.
"""

import ipaddress
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from fnmatch import translate
from functools import cached_property, lru_cache

from sojourn.model import Flow, Origin
from sojourn.policy import match as matching
from sojourn.policy.match import Match, Term
from sojourn.policy.names import application_names, container_names, path_of, unit_names
from sojourn.policy.rules import DEFAULT, Rule, Subject

NamesOf = Mapping[str, Collection[str]]
"""DNS names by address (policy/dns_names.py)."""

MAX_OWNERS = 4096
"""Programs whose rules are remembered."""
MAX_PATTERNS = 16384
"""Patterns that are kept compiled: far more than anybody writes. Beyond that it is slow, not wrong."""


def covers(subject: Subject, flow: Flow, origin: Origin | None, names: NamesOf | None = None) -> bool:
    """Say whether all that a subject gives is met by a flow and by the program that made it.

    What is not known of a program meets nothing, not even "*".
    """
    if subject.match and not any(matching.covers(one, flow) for one in subject.match):
        return False
    return covers_destination(subject, flow.remote.address, names) and covers_owner(subject, origin)


def covers_destination(subject: Subject, address: str, names: NamesOf | None = None) -> bool:
    """Say whether the destination is in one of the subject's networks or has one of its names."""
    if not subject.destinations and not subject.names:
        return True
    remote = ipaddress.ip_address(address)
    if any(remote in ipaddress.ip_network(network) for network in subject.destinations):
        return True
    called = names.get(address, ()) if names is not None and subject.names else ()
    return _any(subject.names, called)


def covers_owner(subject: Subject, origin: Origin | None) -> bool:
    """Say whether the program is one that the subject speaks of."""
    return not speaks_of_owner(subject) or (origin is not None and _Owner(origin).met(subject))


class _Owner:
    """A program, with each kind of its names worked out once however many rules ask."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.path, self.command = (path_of(origin),), (origin.command,)

    @cached_property
    def applications(self) -> tuple[str, ...]:
        return application_names(self.origin)

    @cached_property
    def units(self) -> tuple[str, ...]:
        return unit_names(self.origin)

    @cached_property
    def levels(self) -> tuple[str, ...]:
        return _levels(self.origin.cgroup)

    @cached_property
    def containers(self) -> tuple[str, ...]:
        return container_names(self.origin)

    def met(self, subject: Subject) -> bool:
        return (
            (not subject.applications or _any(subject.applications, self.applications))
            and (not subject.executables or _any(subject.executables, self.path))
            and (not subject.commands or _any(subject.commands, self.command))
            and (not subject.units or _any(subject.units, self.units))
            and (not subject.cgroups or _any(subject.cgroups, self.levels))
            and (not subject.containers or _any(subject.containers, self.containers))
            and (not subject.users or self.origin.uid in subject.users)
        )


def speaks_of_owner(subject: Subject) -> bool:
    """Say whether it takes to know the program to tell."""
    return bool(
        subject.applications or subject.executables or subject.commands or subject.units
        or subject.cgroups or subject.containers or subject.users
    )  # fmt: skip


def speaks_of_everything(subject: Subject) -> bool:
    """Say whether there is no flow that it does not cover."""
    return subject == Subject()


def _any(wanted: Sequence[str], have: Iterable[str]) -> bool:
    names = [name for name in have if name]
    for pattern in wanted:
        match = _glob(pattern)
        if pattern in names if match is None else any(match(name) for name in names):
            return True
    return False


@lru_cache(MAX_PATTERNS)
def _glob(pattern: str) -> Callable[[str], re.Match[str] | None] | None:
    """Return what matches a pattern; None when it stands for itself alone. The cache of fnmatch holds only 256."""
    return re.compile(translate(pattern)).match if any(letter in pattern for letter in "*?[") else None


def _levels(cgroup: str) -> tuple[str, ...]:
    """Return a path and every one above it: a rule for a cgroup covers what is below."""
    parts = cgroup.rstrip("/").split("/")
    return tuple("/".join(parts[:end]) for end in range(len(parts), 1, -1))


# -- compiled

FlowTest = Callable[[Flow], bool]
Chain = tuple[tuple[str, FlowTest | None], ...]


def compile_rules(rules: Iterable[Rule], names: NamesOf | None = None) -> Callable[[Flow, Origin | None], str]:
    """Return a function that tells the label of the first rule that covers a flow (DEFAULT = none does).

    `names` is asked at each call: it may change meanwhile.
    """
    tests = tuple((rule.label, rule.subject, _flow_test(rule.subject, names)) for rule in rules)
    known: dict[int, tuple[Origin, Chain]] = {}
    nobody = _chain(tests, None)

    def label_of(flow: Flow, origin: Origin | None) -> str:
        if origin is None:
            chain = nobody
        else:
            kept = known.get(origin.owner)
            if kept is not None and (kept[0] is origin or kept[0] == origin):
                chain = kept[1]
            else:
                chain = _chain(tests, origin)
                known.pop(origin.owner, None)
                if len(known) >= MAX_OWNERS:
                    del known[next(iter(known))]
                known[origin.owner] = (origin, chain)
        for label, test in chain:
            if test is None or test(flow):
                return label
        return DEFAULT

    return label_of


def _chain(tests: Iterable[tuple[str, Subject, FlowTest | None]], origin: Origin | None) -> Chain:
    """Return the rules that are left for a program, up to the first that asks nothing more."""
    chain: list[tuple[str, FlowTest | None]] = []
    owner = _Owner(origin) if origin is not None else None
    for label, subject, test in tests:
        if not speaks_of_owner(subject) or (owner is not None and owner.met(subject)):
            chain.append((label, test))
            if test is None:
                break
    return tuple(chain)


def _flow_test(subject: Subject, names: NamesOf | None) -> FlowTest | None:
    matches = [match_test(match) for match in subject.match]
    tests: list[FlowTest] = []
    if matches:
        tests.append(matches[0] if len(matches) == 1 else lambda flow: any(test(flow) for test in matches))
    if subject.destinations or subject.names:
        tests.append(_destination_test(subject, names))
    if len(tests) == 2:
        first, second = tests
        return lambda flow: first(flow) and second(flow)
    return tests[0] if tests else None


def _destination_test(subject: Subject, names: NamesOf | None) -> FlowTest:
    inside = [_network_test(network) for network in subject.destinations]

    def test(flow: Flow) -> bool:
        address = flow.remote.address
        if any(one(address) for one in inside):
            return True
        called = names.get(address, ()) if names is not None and subject.names else ()
        return _any(subject.names, called)

    return test


def _network_test(text: str) -> Callable[[str], bool]:
    network = ipaddress.ip_network(text)
    shift, prefix = network.max_prefixlen - network.prefixlen, int(network.network_address)
    want = prefix >> shift
    six = network.version == 6

    def test(address: str) -> bool:
        if (":" in address) is not six:
            return False
        return _number(address) >> shift == want

    return test


_numbers: dict[str, int] = {}


def _number(address: str) -> int:
    """Return an address as a number; the same one is asked for by each rule."""
    number = _numbers.get(address)
    if number is None:
        if len(_numbers) >= MAX_OWNERS:
            _numbers.clear()
        number = _numbers[address] = int(ipaddress.ip_address(address))
    return number


def match_test(match: Match) -> FlowTest:
    """Return a test that says what `policy.match.covers` says."""
    tests: list[FlowTest] = []
    if match.protocol is not None:
        tests.append(_protocol_test(match.protocol))
    if match.destination_ports is not None:
        tests.append(_ports_test(match.destination_ports, local=False))
    if match.source_ports is not None:
        tests.append(_ports_test(match.source_ports, local=True))
    if match.destination is not None:
        tests.append(_address_test(match.destination, local=False))
    if match.source is not None:
        tests.append(_address_test(match.source, local=True))
    if len(tests) == 1:
        return tests[0]
    if len(tests) == 2:
        first, second = tests
        return lambda flow: first(flow) and second(flow)
    return lambda flow: all(test(flow) for test in tests)


def _protocol_test(term: Term) -> FlowTest:
    number, negated = int(term.value), term.negated
    return lambda flow: (flow.protocol == number) is not negated


def _ports_test(term: Term, *, local: bool) -> FlowTest:
    first, _, last = term.value.partition(":")
    low, high, negated = int(first), int(last), term.negated
    if local:
        return lambda flow: (low <= flow.local.port <= high) is not negated
    return lambda flow: (low <= flow.remote.port <= high) is not negated


def _address_test(term: Term, *, local: bool) -> FlowTest:
    inside, negated = _network_test(term.value), term.negated
    if local:
        return lambda flow: inside(flow.local.address) is not negated
    return lambda flow: inside(flow.remote.address) is not negated
