"""What a handover costs, measured where packets arrive: the time in which its flows heard nothing.

From the last packet of the flows that moved, on the path that they left, to the first one on the new path. Some of
the flows that were in use are looked at, closely at first and then ever more rarely, so that the figure is right to a
twentieth or to 2 ms; nothing is done in the packet loop. Timer: the next look. Bounded: the newest orders.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from sojourn.model import TunnelId
from sojourn.paft import Row
from sojourn.upmt.events import GapMeasured
from sojourn.upmt.tunnel import Tunnel

SAMPLE: Final = 32
"""Flows of an order that are looked at."""
IN_USE: Final = 2.0
"""Seconds since its last packet for which a flow counts as in use."""
PATIENCE: Final = 10.0
CLOSEST: Final = 0.002
PART: Final = 0.05
MOST: Final = 8

_NEVER = float("inf")


class Gap:
    """One order's flows, until one of them is heard on its new path."""

    def __init__(self, number: int, rows: Iterable[Row], last: float, now: float) -> None:
        self.number = number
        self.began = now
        self.last = last
        """When they were heard last."""
        self.due = now + CLOSEST
        self.seen = [(row, row.packets_in) for row in rows]

    def look(self, tunnels: Mapping[TunnelId, Tunnel], now: float) -> GapMeasured | None:
        """Return the gap, if it has ended."""
        self.due = now + max(CLOSEST, (now - self.began) * PART)
        came = [(row, row.packets_in - before) for row, before in self.seen if row.packets_in > before]
        packets = sum(count for _, count in came)
        for row, _ in came:
            tunnel = tunnels.get(row.tunnel) if row.tunnel is not None else None
            if tunnel is not None and tunnel.live.data_in_at > self.began:
                return GapMeasured(self.number, max(tunnel.live.data_in_at - self.last, 0.0), packets)
        if came:  # late, on the old path
            self.last = now
            self.seen = [(row, row.packets_in) for row, _ in self.seen]
        return GapMeasured(self.number, None) if now >= self.began + PATIENCE else None


class Gaps:
    """All orders whose effect is not known yet."""

    def __init__(self, tunnels: Mapping[TunnelId, Tunnel]) -> None:
        self._tunnels = tunnels
        self._open: list[Gap] = []

    def begin(self, number: int, moved: Iterable[Row], now: float) -> list[GapMeasured]:
        """Watch the rows that an order has moved; return the answer at once where none was in use."""
        rows, any_moved, last = [], False, float("-inf")
        for row in moved:
            any_moved = True
            if now - row.last_used > IN_USE:
                continue
            left = self._tunnels.get(row.left) if row.left is not None else None
            if left is None or row.tunnel is None or not row.packets_in:
                continue
            rows.append(row)
            last = max(last, left.live.data_in_at)
            if len(rows) == SAMPLE:
                break
        if rows and now - last < PATIENCE:
            self._open.append(Gap(number, rows, last, now))
            dropped = self._open[:-MOST]
            self._open = self._open[-MOST:]
            return [GapMeasured(gap.number, None) for gap in dropped]
        return [GapMeasured(number, None)] if any_moved else []

    def deadline(self) -> float:
        """Return when to look next."""
        return min((gap.due for gap in self._open), default=_NEVER)

    def tick(self, now: float) -> list[GapMeasured]:
        """Look at what is due."""
        out = []
        for gap in [gap for gap in self._open if gap.due <= now]:
            found = gap.look(self._tunnels, now)
            if found is not None:
                out.append(found)
                self._open.remove(gap)
        return out
