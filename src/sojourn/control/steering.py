"""Which network carries which session of a client that moves: a mobile host's decision, applied to MSOCKS.

Lines (a control connection a network) stand where tunnels do, sessions where flows do; policies, lanes, patience and
the user's orders are `Decide`'s, so that host.toml means the same with and without root. Loss is that of the way out:
segments that TCP has sent again. What only packets have is left out (`left_out`), and the user is told.

A destination that is named, and resolved by the proxy, has no address here: `names` match it, networks do not.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec import Struct

from sojourn.control.decide import Decide, Fact
from sojourn.control.decide_paths import Preferences
from sojourn.control.entries import Entry, entry_of, of_handover
from sojourn.control.measures import PathMeasured
from sojourn.control.network_facts import NetworkFacts
from sojourn.control.questions import Questions
from sojourn.control.rehearse import Moving, Running, rehearse
from sojourn.model import Flow, Network, Origin
from sojourn.policy import match as matching
from sojourn.policy.names import application_name
from sojourn.policy.problems import Problem
from sojourn.policy.rules import DEFAULT, Policy, Via
from sojourn.policy.spans import LocalTime
from sojourn.policy.subject import covers
from sojourn.upmt.commands import Everything, Exactly, Labelled, Matching, Select
from sojourn.upmt.host_events import FlowGone, Handover, HandoverWanted

UNKNOWN_ADDRESS = "0.0.0.0"
"""Stands for the address of a destination that only its name is known of."""


class Placement(Struct, frozen=True):
    """Where a session goes."""

    network: str | None = None
    """None: it waits for a network."""
    blocked: bool = False
    direct: bool = False
    """Not through the proxy at all; decided when it is opened."""


class Steered:
    """One session, as policies see it."""

    __slots__ = ("flow", "hosts", "label", "origin", "placement")

    def __init__(self, flow: Flow, origin: Origin | None, hosts: tuple[str, ...]) -> None:
        self.flow = flow
        self.origin = origin
        self.hosts = hosts
        """Names of the destination."""
        self.label = DEFAULT
        self.placement = Placement()


def named(application: str) -> Origin | None:
    """Return the program that calls itself so; None for one that has not said its name."""
    return Origin(zlib.crc32(application.encode()), name=application) if application else None


def left_out(policies: Iterable[Policy], file: str) -> list[Problem]:
    """Return what of these policies means nothing where streams are carried by MSOCKS instead of tunnels."""
    found = []
    for policy in policies:
        words = [
            ("copies", policy.copies > 1, "a stream through the proxy has one connection at a time"),
            ("require.jitter", policy.require.jitter is not None, "nobody measures it on a TCP connection"),
        ]
        found += [
            Problem(file, policy.line, f"policy {policy.label!r}: {key}", f"is ignored without `sojourn host`: {why}",
                    "All else of it holds.")
            for key, there, why in words if there
        ]  # fmt: skip
    return found


class Steering:
    """See the module. Whatever changes returns the flows whose placement is another one now."""

    def __init__(
        self,
        preferences: Preferences,
        policies: Sequence[Policy] = (),
        *,
        describe: Callable[[Network], NetworkFacts] | None = None,
        local_time: Callable[[float], LocalTime] | None = None,
        note: Callable[[Entry], None] = lambda _entry: None,
        questions: Questions | None = None,
    ) -> None:
        """`note` is told what the roaming log shall say."""
        asks = Questions() if questions is None else questions
        self.decide = Decide(preferences, policies, describe=describe, local_time=local_time, questions=asks)
        self._flows: dict[Flow, Steered] = {}
        self._note = note

    def __getitem__(self, flow: Flow) -> Steered:
        return self._flows[flow]

    def rehearsed(
        self, policies: Sequence[Policy], before: Sequence[Policy], now: float, at: LocalTime
    ) -> list[Moving]:
        """Return the sessions that would move if `policies` held instead of `before`."""
        running = [
            Running(one.flow, one.origin, one.label, one.placement.network, hosts=one.hosts)
            for one in self._flows.values()
        ]
        return rehearse(policies, before, running, self.decide.facts_of(now), at)

    @property
    def measured(self) -> bool:
        """Say whether any policy goes by what is measured."""
        return any(lane.measured for lane in self.decide.lanes.values())

    # -- what happens

    def handle(self, fact: Fact, now: float) -> list[Flow]:
        """Take in what happened to a network, an order, or an answer."""
        if not isinstance(fact, PathMeasured | FlowGone | HandoverWanted):
            for entry in entry_of(fact):  # type: ignore[arg-type]
                self._note(entry)
        return self._carry_out(self.decide.handle(fact, now))

    def deadline(self) -> float | None:
        """Return when time alone may be a reason to decide otherwise."""
        return self.decide.deadline()

    def tick(self, now: float) -> list[Flow]:
        """Decide again: time can be the reason."""
        return self._carry_out(self.decide.tick(now))

    def replace(self, policies: Sequence[Policy], now: float) -> list[Flow]:
        """Go by other policies from now on."""
        before = {flow: steered.placement for flow, steered in self._flows.items()}
        self.decide.replace_policies(policies, now)
        for steered in self._flows.values():
            if steered.flow not in self.decide.orders.placed:
                self._label(steered)
        return [flow for flow, steered in self._flows.items() if steered.placement != before[flow]]

    # -- sessions

    def opened(self, flow: Flow, origin: Origin | None, hosts: Iterable[str], now: float) -> Steered:
        """Take in a session that somebody wants; its placement is where it goes."""
        steered = self._flows[flow] = Steered(flow, origin, tuple(hosts))
        self._label(steered)
        if self.decide.would_ask(steered.label):
            self.tick(now)
        return steered

    def ended(self, flow: Flow, now: float) -> None:
        """Forget a session."""
        if self._flows.pop(flow, None) is not None:
            self.decide.handle(FlowGone(flow), now)

    def called(self, steered: Steered) -> str | None:
        """Return what to call the program that has it."""
        return application_name(steered.origin)

    # -- details

    def _label(self, steered: Steered) -> None:
        """Place a session where the first rule that covers it has its flows."""
        self._relabel(steered)
        lane = self.decide.lanes[steered.label]
        direct = lane.label != DEFAULT and (lane.policy.via is Via.DIRECT or lane.direct)
        steered.placement = Placement(lane.place, lane.blocked, direct)
        self.decide.flows.seen(steered.flow, lane.place, steered.label, steered.origin)

    def _relabel(self, steered: Steered) -> None:
        names = {steered.flow.remote.address: steered.hosts}
        rules = (row.rule for row in self.decide.rules)
        steered.label = next(
            (rule.label for rule in rules if covers(rule.subject, steered.flow, steered.origin, names)), DEFAULT
        )

    def _carry_out(self, handovers: Sequence[Handover]) -> list[Flow]:
        changed: dict[Flow, None] = {}
        for steered in self._flows.values() if handovers else ():
            self._relabel(steered)  # an order for an application is a rule above all others
        for handover in handovers:
            self._note(of_handover(handover))
            for row in handover.plan:
                placement = Placement(row.network, row.block)
                for steered in self._selected(row.select):
                    if steered.placement != placement and not steered.placement.direct:
                        steered.placement = placement
                        changed[steered.flow] = None
        return list(changed)

    def _selected(self, select: Select) -> Iterator[Steered]:
        match select:
            case Everything():
                yield from self._flows.values()
            case Labelled(label):
                yield from (steered for steered in self._flows.values() if steered.label == label)
            case Matching(one):
                yield from (steered for flow, steered in self._flows.items() if matching.covers(one, flow))
            case Exactly(flows):
                yield from (self._flows[flow] for flow in flows if flow in self._flows)
