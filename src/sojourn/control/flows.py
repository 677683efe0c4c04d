"""The flows that control knows: who made each, which rule covers it, and which network carries it.

The data path's table is what counts, and `sojourn flows` shows that. This book is for what control has to decide by
itself: which flows stayed behind on a network, which ones an order for an application means, how many were moved.
Bounded like the table (paft.py); a flow beyond that is simply not counted.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase

from sojourn.model import Flow, Origin
from sojourn.paft import MAX_ROWS_PER_ASSOCIATION


class KnownFlow:
    """One flow."""

    __slots__ = ("label", "network", "origin")

    def __init__(self, network: str | None, label: str, origin: Origin | None) -> None:
        self.network = network
        self.label = label
        self.origin = origin


class FlowBook:
    """All flows, by what they are."""

    def __init__(self, most: int = MAX_ROWS_PER_ASSOCIATION) -> None:
        self._flows: dict[Flow, KnownFlow] = {}
        self._labels: Counter[str] = Counter()
        self._most = most

    def __len__(self) -> int:
        return len(self._flows)

    def get(self, flow: Flow) -> KnownFlow | None:
        """Return what is known of a flow."""
        return self._flows.get(flow)

    def seen(self, flow: Flow, network: str | None, label: str = "", origin: Origin | None = None) -> None:
        """Note a flow, or what is news of it."""
        known = self._flows.get(flow)
        if known is not None:
            self._labels[known.label] -= 1
        elif len(self._flows) >= self._most:
            return
        self._flows[flow] = KnownFlow(network, label, origin)
        self._labels[label] += 1

    def ended(self, flow: Flow) -> None:
        """Forget a flow."""
        known = self._flows.pop(flow, None)
        if known is not None:
            self._labels[known.label] -= 1

    def clear(self) -> None:
        """Forget all: the table is told anew."""
        self._flows.clear()
        self._labels.clear()

    def count(self, label: str) -> int:
        """Return how many flows a rule covers."""
        return self._labels[label]

    def relabel(self, label_of: Callable[[Flow, Origin | None], str]) -> set[str]:
        """Look at each flow again: the rules have changed. Return the labels that have got flows by that."""
        self._labels.clear()
        gained = set()
        for flow, known in self._flows.items():
            label = label_of(flow, known.origin)
            if label != known.label:
                gained.add(label)
                known.label = label
            self._labels[label] += 1
        return gained

    def made_by(self, application: str, names: Callable[[Origin], Iterable[str]]) -> list[KnownFlow]:
        """Return the flows of programs that people call so (a glob pattern); `names` tells what one is called."""
        known: dict[Origin, bool] = {}
        found = []
        for flow in self._flows.values():
            origin = flow.origin
            if origin is None:
                continue
            mine = known.get(origin)
            if mine is None:
                mine = known[origin] = any(fnmatchcase(name, application) for name in names(origin) if name)
            if mine:
                found.append(flow)
        return found

    def remotes(self) -> set[str]:
        """Return the addresses that flows lead to."""
        return {flow.remote.address for flow in self._flows}

    # -- where they are

    def on(self, label: str, network: str) -> tuple[Flow, ...]:
        """Return the flows of a rule that a network carries."""
        return tuple(flow for flow, known in self._with(label) if known.network == network)

    def moved(self, network: str | None, label: str | None = None) -> int:
        """Note that all flows of a rule (None: all flows) go over a network; return how many that moved."""
        count = 0
        for _, known in self._with(label):
            count += known.network != network
            known.network = network
        return count

    def moved_exactly(self, flows: Iterable[Flow], network: str | None) -> int:
        """Note the same of some flows."""
        count = 0
        for flow in flows:
            known = self._flows.get(flow)
            if known is not None:
                count += known.network != network
                known.network = network
        return count

    def _with(self, label: str | None) -> Iterator[tuple[Flow, KnownFlow]]:
        if label is not None and not self._labels[label]:
            return iter(())
        return ((flow, known) for flow, known in self._flows.items() if label is None or known.label == label)
