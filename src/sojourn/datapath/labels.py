"""Which rule covers a new flow of a mobile host, and where that rule's flows go (policy/rules.py, `SetRules`).

Who made a flow is asked of `classify` once, when its first packet comes. What that knows of a program may be
half of it: then control is asked to look (`OriginUnknown`), the flow's newest packet is kept meanwhile, and
`PATIENCE` later the flow goes by what is known. Timer: that. Bounded: flows that wait, and programs described.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from sojourn.model import AssociationId, Flow, Origin
from sojourn.paft import FlowKey
from sojourn.policy.rules import DEFAULT, Rule
from sojourn.policy.subject import NamesOf, compile_rules, speaks_of_owner
from sojourn.upmt.commands import Placed

PATIENCE: Final = 0.3
"""Seconds that a new flow waits for its program to be looked at; control answers in milliseconds."""
MOST_WAITING: Final = 1024
MOST_DESCRIBED: Final = 4096

Classify = Callable[[FlowKey], Origin | None]
"""Tells who made a flow, None where that is not known. An `Origin` without executable needs a look."""


def nobody(_key: FlowKey) -> Origin | None:
    """Know of no flow who made it."""
    return None


def is_whole(origin: Origin) -> bool:
    """Say whether what rules ask about a program is known."""
    return bool(origin.executable)


class RuleBook:
    """The rules of one association in order, and where each one's flows go."""

    def __init__(self, names: NamesOf | None = None) -> None:
        """`names`: DNS names by address, as far as they are known; it may grow meanwhile."""
        self.placed: tuple[Placed, ...] = ()
        self._names = names
        self._rules: tuple[Rule, ...] = ()
        self._places: dict[str, Placed] = {}
        self._label_of = compile_rules((), names)
        self.asks = False
        """Whether any rule speaks of programs."""

    def set(self, placed: tuple[Placed, ...]) -> bool:
        """Take over new rules; say whether flows may have other labels now (else only places have changed)."""
        self.placed = placed
        self._places = {each.rule.label: each for each in reversed(placed)}
        rules = tuple(each.rule for each in placed)
        if rules == self._rules:
            return False
        self._rules = rules
        self.asks = any(speaks_of_owner(rule.subject) for rule in rules)
        self._label_of = compile_rules(rules, self._names)
        return True

    def label(self, flow: Flow, origin: Origin | None) -> str:
        """Return the label of the first rule that covers a flow."""
        return self._label_of(flow, origin) if self._rules else DEFAULT

    def place(self, label: str) -> Placed | None:
        """Return where flows with a label go; None: they follow the default."""
        return self._places.get(label)


class Look:
    """Flows that wait until somebody has looked at their program."""

    __slots__ = ("keys", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self.keys: list[FlowKey] = []


class Looks:
    """New flows whose program is being looked at, and programs that were."""

    def __init__(self) -> None:
        self._described: OrderedDict[int, Origin] = OrderedDict()
        self._looks: dict[int, Look] = {}
        """By owner, the oldest first."""
        self._kept: dict[FlowKey, tuple[AssociationId, Origin, bytes]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def known(self, origin: Origin) -> Origin:
        """Return what has been found out about a program, `origin` itself where nothing was."""
        return self._described.get(origin.owner, origin)

    def keep(self, key: FlowKey, packet: bytes) -> bool:
        """Keep the newest packet of a flow that waits; say whether it is one."""
        held = self._kept.get(key)
        if held is not None:
            self._kept[key] = (held[0], held[1], packet)
        return held is not None

    def wait(self, key: FlowKey, association: AssociationId, origin: Origin, packet: bytes, now: float) -> bool | None:
        """Let a new flow wait; say whether its program is one to ask about. None: no room, or it was looked at."""
        if origin.owner in self._described or len(self._kept) >= MOST_WAITING:
            return None
        look = self._looks.get(origin.owner)
        is_new = look is None
        if look is None:
            look = self._looks[origin.owner] = Look(now + PATIENCE)
        look.keys.append(key)
        self._kept[key] = (association, origin, packet)
        return is_new

    def ask(self, key: FlowKey, origin: Origin, now: float) -> bool:
        """Note a flow that goes on while its program is looked at; say whether it is one to ask about."""
        if origin.owner in self._described:
            return False
        look = self._looks.get(origin.owner)
        is_new = look is None
        if look is None:
            if len(self._looks) >= MOST_WAITING:
                return False
            look = self._looks[origin.owner] = Look(now + PATIENCE)
        if len(look.keys) < MOST_WAITING:
            look.keys.append(key)
        return is_new

    def described(self, origin: Origin) -> list[FlowKey]:
        """Take in what a look has found; return the flows that waited for it."""
        self._described[origin.owner] = origin
        self._described.move_to_end(origin.owner)
        if len(self._described) > MOST_DESCRIBED:
            self._described.popitem(last=False)
        look = self._looks.pop(origin.owner, None)
        return look.keys if look is not None else []

    def deadline(self) -> float | None:
        """Return when the first of them has waited long enough."""
        return next((look.until for look in self._looks.values()), None)

    def overdue(self, now: float) -> list[FlowKey]:
        """Return the flows that have waited long enough."""
        keys: list[FlowKey] = []
        while self._looks:
            owner, look = next(iter(self._looks.items()))
            if look.until > now:
                break
            del self._looks[owner]
            keys += look.keys
        return keys

    def take(self, key: FlowKey) -> tuple[AssociationId, Origin, bytes] | None:
        """Return whose flow it is, who made it as far as is known, and its newest packet; it waits no longer."""
        held = self._kept.pop(key, None)
        return None if held is None else (held[0], self.known(held[1]), held[2])
