"""The anchor's records, and which of their leases ends next: known at once, however many hosts there are."""

import heapq
from collections.abc import Mapping

from sojourn.upmt.records import Subscriber

_SLACK = 64


class Subscribers(dict[str, Subscriber]):
    """Records by user. Every change goes through `[user] = record`, or `pop`."""

    def __init__(self, records: Mapping[str, Subscriber]) -> None:
        super().__init__(records)
        self._ends: list[tuple[float, str]] = []
        self._sort()

    def __setitem__(self, user: str, record: Subscriber) -> None:
        before = self.get(user)
        super().__setitem__(user, record)
        end = record.lease_until
        if end is not None and (before is None or before.lease_until != end):
            heapq.heappush(self._ends, (end, user))
            if len(self._ends) > 2 * len(self) + _SLACK:
                self._sort()

    def next_end(self) -> float | None:
        """Return the Unix time at which the next lease ends, or ended."""
        while self._ends:
            end, user = self._ends[0]
            record = self.get(user)
            if record is not None and record.lease_until == end:
                return end
            heapq.heappop(self._ends)  # renewed, or gone
        return None

    def ended(self, unix: float) -> list[Subscriber]:
        """Return those whose leases have ended by a Unix time, the earliest first. They stay until they change."""
        found: list[Subscriber] = []
        while (end := self.next_end()) is not None and end <= unix:
            _, user = heapq.heappop(self._ends)
            if self[user] not in found[-1:]:
                found.append(self[user])
        for record in found:
            heapq.heappush(self._ends, (record.lease_until or 0.0, record.user))
        return found

    def _sort(self) -> None:
        self._ends = [(record.lease_until, user) for user, record in self.items() if record.lease_until is not None]
        heapq.heapify(self._ends)
