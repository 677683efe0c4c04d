"""How much each application carried over each network in each month, counted from the counters of flows.

What is added is how much a flow's counters grew since the last look, and at its end what was left: a look now and then
is enough, and no flow is too short. What was carried between two looks counts for the network that the flow was on at
the first one: who looks at once after a move counts right. (What a flow carried before anybody ever looked at it counts
for the network that it is on then.) After a restart of control, what flows of a data path that went on running had
carried in between is not counted: the first look only tells from where to count on.
"""

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from sojourn.model import Flow

MAX_ROWS: Final = 4096
"""Of all months together: the oldest month's smallest go first."""


class Used(Struct, frozen=True):
    """One sum. Empty application: flows of which nobody knows who made them; empty network: of none."""

    month: str
    application: str
    network: str
    bytes_in: int
    bytes_out: int


class Carried(Struct, frozen=True):
    """A flow's counters now."""

    flow: Flow
    application: str
    network: str
    bytes_in: int
    bytes_out: int


class AppUsage:
    """All sums."""

    def __init__(self, kept: Iterable[Used] = ()) -> None:
        self._sums: dict[tuple[str, str, str], list[int]] = {
            (one.month, one.application, one.network): [one.bytes_in, one.bytes_out] for one in kept
        }
        self._seen: dict[Flow, Carried] = {}
        self._baseline = True
        """The next look tells from where to count."""
        self.changed = False

    def fresh(self) -> None:
        """Note that a data path counts from zero: what it has counted is news."""
        self._baseline = False

    def look(self, flows: Iterable[Carried], month: str) -> None:
        """Take in the counters of all flows."""
        before, self._seen = self._seen, {}
        for one in flows:
            last = before.get(one.flow)
            self._seen[one.flow] = one
            if last is not None:
                self._grown(one, last, month)
            elif not self._baseline:
                self._add(one, month, one.bytes_in, one.bytes_out)
        self._baseline = False

    def ended(self, flow: Flow, bytes_in: int, bytes_out: int, application: str, network: str, month: str) -> None:
        """Take in what a flow had carried in the end; the names are for one that was never looked at."""
        last = self._seen.pop(flow, None)
        if last is None:
            if not self._baseline:
                self._add(Carried(flow, application, network, 0, 0), month, bytes_in, bytes_out)
        elif bytes_in >= last.bytes_in and bytes_out >= last.bytes_out:
            self._add(last, month, bytes_in - last.bytes_in, bytes_out - last.bytes_out)

    def rows(self, months: int | None = None) -> list[Used]:
        """Return the sums of the newest `months`, the newest month first, in it the largest first."""
        known = sorted({month for month, _, _ in self._sums}, reverse=True)[:months]
        rows = [Used(*key, *counted) for key, counted in self._sums.items() if key[0] in known]
        rows.sort(key=lambda one: one.bytes_in + one.bytes_out, reverse=True)
        rows.sort(key=lambda one: one.month, reverse=True)
        return rows

    def remembered(self) -> list[Used]:
        """Return what is to be stored."""
        self.changed = False
        return self.rows()

    def _grown(self, one: Carried, last: Carried, month: str) -> None:
        if one.bytes_in < last.bytes_in or one.bytes_out < last.bytes_out:  # another flow between the same ends
            self._add(one, month, one.bytes_in, one.bytes_out)
        else:
            self._add(last, month, one.bytes_in - last.bytes_in, one.bytes_out - last.bytes_out)

    def _add(self, one: Carried, month: str, bytes_in: int, bytes_out: int) -> None:
        if bytes_in <= 0 and bytes_out <= 0:
            return
        counted = self._sums.setdefault((month, one.application, one.network), [0, 0])
        counted[0] += bytes_in
        counted[1] += bytes_out
        self.changed = True
        if len(self._sums) > MAX_ROWS:
            least = min(self._sums, key=lambda key: (key[0], sum(self._sums[key])))
            del self._sums[least]
