"""How much each network carried in this month, counted from what the data path reports, over restarts and crashes.

The data path's counters only grow while it lives; what is added is how much they grew since the last look. The
last look is part of the memory, so that a control that adopts a running data path counts on where its predecessor
stopped. Counters of another data path (`source`), or of a tunnel that was closed, begin at zero.
"""

import calendar
from collections.abc import Mapping
from datetime import date

from msgspec import Struct
from msgspec.structs import replace

from sojourn.packet.path_mtu import OUTER_UDP_IPV4, OUTER_UDP_IPV6
from sojourn.upmt.events import TunnelMeasured

MAX_NETWORKS = 64
"""Networks that are remembered; the one that was counted longest ago is forgotten first."""


class Month(Struct, frozen=True):
    """What one network carried since a day."""

    begins: date
    used: int = 0
    """Bytes of outer packets, both ways."""


class Look(Struct, frozen=True):
    """A tunnel's counters at the last look: bytes of outer packets, and packets, both ways."""

    network: str
    used: int
    packets: int


class UsageState(Struct, frozen=True):
    """What must survive (host.usage)."""

    months: dict[str, Month] = {}
    """By network; the one that was counted last stands last."""
    source: int = 0
    """The data path that the looks are of (its process)."""
    looks: dict[int, Look] = {}
    """By tunnel."""


class Usage:
    """The counts. `today` is the local date: months are people's."""

    def __init__(self, state: UsageState, cap_days: Mapping[str, int]) -> None:
        """`cap_days`: the day on which a network's month begins, where it is not the first."""
        self.state = state
        self.changed = False
        """Something was counted since `remembered`."""
        self._days = cap_days

    def source(self, process: int, *, adopted: bool) -> None:
        """Note whose counters come now. `adopted`: that process ran before this control did."""
        if process != self.state.source or not adopted:
            self.state = replace(self.state, source=process, looks={})

    def closed(self, network: str) -> None:
        """Note that a network's tunnel was closed: its next one counts from zero."""
        looks = {tunnel: look for tunnel, look in self.state.looks.items() if look.network != network}
        self.state = replace(self.state, looks=looks)

    def count(self, network: str, ipv6: bool, measured: TunnelMeasured, today: date) -> int:
        """Add what a tunnel carried since the last look; return how much that is."""
        packets = measured.packets_in + measured.packets_out
        overhead = OUTER_UDP_IPV6 if ipv6 else OUTER_UDP_IPV4
        now = Look(network, measured.bytes_in + measured.bytes_out + packets * overhead, packets)
        last = self.state.looks.get(measured.tunnel)
        known = last is not None and last.network == network and last.packets <= packets and last.used <= now.used
        grown = now.used - last.used if known and last is not None else now.used
        month = self._month(network, today)
        if grown == 0 and month == self.state.months.get(network):
            return 0
        months = {name: kept for name, kept in self.state.months.items() if name != network}
        months[network] = replace(month, used=month.used + grown)
        while len(months) > MAX_NETWORKS:
            del months[next(iter(months))]
        self.state = replace(self.state, months=months, looks={**self.state.looks, measured.tunnel: now})
        self.changed = True
        return grown

    def used(self, today: date) -> dict[str, int]:
        """Return the bytes of the month that `today` is in, by network."""
        return {name: self._month(name, today).used for name in self.state.months}

    def remembered(self) -> UsageState:
        """Return what is to be stored."""
        self.changed = False
        return self.state

    def _month(self, network: str, today: date) -> Month:
        begins = month_of(today, self._days.get(network, 1))
        month = self.state.months.get(network)
        # One that begins later was written under a clock that was ahead, or another cap_day: it counts on.
        return month if month is not None and month.begins >= begins else Month(begins)


def month_of(today: date, day: int) -> date:
    """Return when the month began that `today` is in, if months begin on `day` (or their last, where that is less)."""
    begins = _day_of(today.year, today.month, day)
    if begins <= today:
        return begins
    return _day_of(today.year - (today.month == 1), (today.month - 2) % 12 + 1, day)


def _day_of(year: int, month: int, day: int) -> date:
    return date(year, month, min(day, calendar.monthrange(year, month)[1]))
