"""Which of its sixteen tunnel slots each network of a host has (DESIGN §3.2).

A network keeps its slot for good, so that its tunnel's epochs go on where they were.
"""

from collections.abc import Mapping, Set

from sojourn.upmt.lease import SLOTS


class Slots:
    """Slots by network name."""

    def __init__(self, known: Mapping[str, int]) -> None:
        self.by_name = {name: slot for name, slot in known.items() if 0 <= slot < SLOTS}

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
