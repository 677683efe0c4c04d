"""What the user ordered (`sojourn handover`): everything, some flows, a match, or an application, to one network.

Instead of a network it can be a word (`WORDS`): hold (wait), block (refuse), for an application also direct.

Flows and matches follow the others while their network does not work, and return when it does. An application's order
is a rule above all others: flows to come are included. It ends when the user releases it, or when its network has been
away for `AWAY_FOR_GOOD`. An order for everything ends all orders before it. Bounded: the newest orders are kept.
"""

from collections.abc import Collection
from fnmatch import fnmatchcase
from typing import Final

from sojourn.model import Flow
from sojourn.policy.match import Match
from sojourn.policy.rules import Otherwise, Policy, Subject, Via

MAX_MATCHED: Final = 32
"""Orders by match that are kept; older ones are forgotten."""
MAX_APPLICATIONS: Final = 64
AWAY_FOR_GOOD: Final = 3600.0
"""Seconds for which an application's order outlives its network."""
HOLD: Final = "=hold"
BLOCK: Final = "=block"
DIRECT: Final = "=direct"
WORDS: Final = {"hold": HOLD, "block": BLOCK, "direct": DIRECT}
"""What stands for a network in an order; no network has such a name."""
PREFIX: Final = "user:"
"""Begins the label of an application's order; no policy of a file has such a name."""


class UserOrders:
    """All of them."""

    def __init__(self) -> None:
        self.everything: str | None = None
        """The network that the user ordered for everything; it holds while that network works."""
        self.pinned: dict[Flow, str] = {}
        self.matched: dict[Match, str] = {}
        """Flows of that time only; those to come are not included."""
        self.applications: dict[str, str] = {}
        self.placed: dict[Flow | Match, str | None] = {}
        """Where the pinned and the matched are now."""
        self._away: dict[str, float] = {}
        """Since when the network of an application's order is away."""

    def apart(self) -> list[tuple[Flow | Match, str]]:
        """Return what stands apart from its policy, with the network that it was ordered to."""
        return [*self.matched.items(), *self.pinned.items()]

    def clear(self) -> None:
        """End all orders."""
        self.everything = None
        self.pinned.clear()
        self.matched.clear()
        self.placed.clear()
        self.applications.clear()
        self._away.clear()

    def pin(self, flows: Collection[Flow], network: str) -> None:
        """Put flows on a network."""
        self.pinned.update(dict.fromkeys(flows, network))

    def match(self, match: Match, network: str) -> None:
        """Put all flows that a match covers on a network."""
        self.matched.pop(match, None)
        self.matched[match] = network
        if len(self.matched) > MAX_MATCHED:
            oldest = next(iter(self.matched))
            del self.matched[oldest]
            self.placed.pop(oldest, None)

    def application(self, name: str, network: str) -> None:
        """Put an application on a network."""
        self.applications.pop(name, None)
        self.applications[name] = network
        self._away.pop(name, None)
        if len(self.applications) > MAX_APPLICATIONS:
            self.forget_application(next(iter(self.applications)))

    def forget_application(self, name: str) -> bool:
        """Release an application; say whether there was an order for it."""
        self._away.pop(name, None)
        return self.applications.pop(name, None) is not None

    def forget_flow(self, flow: Flow) -> None:
        """Forget a flow: it has ended, or is released."""
        self.pinned.pop(flow, None)
        self.placed.pop(flow, None)

    def forget_match(self, match: Match) -> None:
        """Release what a match covers."""
        self.matched.pop(match, None)
        self.placed.pop(match, None)

    def expire(self, present: Collection[str], now: float) -> list[str]:
        """Release the applications whose network has been away for good; return their names."""
        gone: list[str] = []
        for name, network in list(self.applications.items()):
            if network in present or is_word(network):
                self._away.pop(name, None)
            elif now >= self._away.setdefault(name, now) + AWAY_FOR_GOOD:
                self.forget_application(name)
                gone.append(name)
        return gone

    def deadline(self) -> float | None:
        """Return when the next application's order expires."""
        return min((since + AWAY_FOR_GOOD for since in self._away.values()), default=None)


def label_of(application: str) -> str:
    """Return the label of the rule that an application's order is."""
    return PREFIX + application


def policy_of(application: str, network: str, home: Policy) -> Policy:
    """Return an application's order as a policy. While the network does not work it is as `home` says."""
    subject = Subject(applications=(application,))
    if network == BLOCK:
        return Policy(label_of(application), subject, (), blocked=True, came_from="order")
    if network == HOLD:
        return Policy(label_of(application), subject, (), otherwise=Otherwise.HOLD, came_from="order")
    if network == DIRECT:
        return Policy(label_of(application), subject, home.networks, via=Via.DIRECT, came_from="order")
    return Policy(
        label_of(application), subject, (network, *home.networks),
        otherwise=home.otherwise, came_from="order",
    )  # fmt: skip


def home_of(application: str, policies: Collection[Policy]) -> Policy:
    """Return the policy that would speak of an application by its name, else the last one, for everything."""
    for policy in policies:
        names = (*policy.subject.applications, policy.label)
        if any(fnmatchcase(application, pattern) for pattern in names if pattern):
            return policy
    return list(policies)[-1]


def is_word(place: str) -> bool:
    """Say whether an order's place is no network."""
    return place in WORDS.values()


def word_of(place: str) -> str:
    """Return an order's network or word as people write it."""
    return place.removeprefix("=")
