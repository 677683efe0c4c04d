"""The networks of a mobile host, and which of its sixteen tunnel slots each has (DESIGN §3.2).

A network keeps its slot for good, so that its tunnel's epochs go on where they were.
"""

from collections.abc import Mapping, Set

from sojourn.model import Network, TunnelId
from sojourn.upmt.commands import OpenTunnel
from sojourn.upmt.lease import SLOTS


class HostNetwork:
    """One access network with its tunnel."""

    __slots__ = ("network", "order", "reopen_at", "slot", "state", "tunnel")

    def __init__(self, network: Network, slot: int) -> None:
        self.network = network
        self.slot = slot
        self.tunnel: TunnelId | None = None
        """Its tunnel, once there is a lease."""
        self.order: OpenTunnel | None = None
        """What opened that tunnel."""
        self.state = "down"
        """testing, works, silent, blocked, failed; down while there is no lease."""
        self.reopen_at: float | None = None


class Slots:
    """Slots by network name."""

    def __init__(self, known: Mapping[str, int]) -> None:
        self.by_name: dict[str, int] = {}
        for name, slot in known.items():
            if 0 <= slot < SLOTS and slot not in self.by_name.values():
                self.by_name[name] = slot

    def take(self, name: str, in_use: Set[int]) -> bool:
        """Give `name` a slot and say whether that is news: a free one, else that of a network not here now.

        With all sixteen in use at once the last one is shared, and its former network loses its tunnel.
        """
        if name in self.by_name:
            return False
        known = set(self.by_name.values())
        unknown = [slot for slot in range(SLOTS) if slot not in known]
        idle = [slot for slot in range(SLOTS) if slot not in in_use]
        slot = next(iter(unknown or idle), SLOTS - 1)
        self.by_name = {other: at for other, at in self.by_name.items() if at != slot} | {name: slot}
        return True
