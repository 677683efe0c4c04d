"""Fair shares: how much one sender may ask of a node, and how many triggers it may keep there.

A *neighbourhood* is what one sender can choose addresses from: an IPv4 address, or an IPv6 /64. Each has a token bucket
for packets and one for requests, filled at the node's rates; buckets of who is silent are full again and forgotten.

Of the room for triggers, one neighbourhood may have an eighth of what is *free* (dynamic thresholds, Choudhury and
Hahne 1998): alone it gets far, in a crowd all get the same, and somebody who is new always finds a little.
"""

from collections import OrderedDict
from typing import Final

from msgspec import Struct

# Ours.
MOST_SENDERS: Final = 65536
SHARE_OF_FREE: Final = 8
ALWAYS: Final = 8
"""Triggers that a neighbourhood may have while there is any room."""
_SIX_GROUPS: Final = 4


class Rates(Struct, frozen=True):
    """What one neighbourhood may send, a second; as much again may come at once."""

    packets: float = 20000.0
    requests: float = 500.0


class Sender:
    """One neighbourhood: its two buckets and the number of its triggers."""

    __slots__ = ("at", "packets", "requests", "triggers")

    def __init__(self, rates: Rates, now: float) -> None:
        self.at = now
        self.packets = 2 * rates.packets
        self.requests = 2 * rates.requests
        self.triggers = 0


class Shares:
    """All neighbourhoods that were heard lately. Bounded: who was silent for longest is forgotten first."""

    def __init__(self, rates: Rates, most_triggers: int) -> None:
        self.rates = rates
        self.most_triggers = most_triggers
        self._senders: OrderedDict[str, Sender] = OrderedDict()
        self._owners: dict[str, Sender] = {}
        """Those that have triggers: never forgotten before these are."""
        self.triggers = 0
        self.fellows: frozenset[str] = frozenset()
        """Neighbourhoods of nodes with the same triggers. What they relay was counted where it came in."""

    def __len__(self) -> int:
        return len(self._senders)

    def packet(self, host: str, now: float) -> bool:
        """Count a packet of this sender's; say whether it may pass."""
        sender = self._senders.get(host)  # an IPv4 address is its own key, and most packets come in bursts
        if sender is None or now > sender.at:
            sender = self._at(host, now)
        sender.packets -= 1.0
        if sender.packets < 0.0:
            sender.packets = 0.0
            return neighbourhood(host) in self.fellows
        return True

    def spend(self, host: str, packets: int) -> None:
        """Count a packet that has just passed as so many more: it was that much work."""
        sender = self._senders.get(neighbourhood(host))
        if sender is not None:
            sender.packets = max(sender.packets - packets, 0.0)

    def request(self, host: str, now: float) -> bool:
        """Count a request of this sender's; say whether it is looked at."""
        sender = self._at(host, now)
        sender.requests -= 1.0
        if sender.requests < 0.0:
            sender.requests = 0.0
            return False
        return True

    def room(self, host: str) -> bool:
        """Say whether this sender may have one more trigger."""
        free = self.most_triggers - self.triggers
        owner = self._owners.get(neighbourhood(host))
        return free > 0 and (owner is None or owner.triggers < max(ALWAYS, free // SHARE_OF_FREE))

    def took(self, host: str, now: float) -> None:
        """Count a trigger that was made."""
        key = neighbourhood(host)
        owner = self._owners.get(key)
        if owner is None:
            owner = self._owners[key] = self._at(host, now)
        owner.triggers += 1
        self.triggers += 1

    def gave(self, host: str) -> None:
        """Count a trigger that has gone."""
        key = neighbourhood(host)
        owner = self._owners[key]
        owner.triggers -= 1
        self.triggers -= 1
        if not owner.triggers:
            del self._owners[key]

    def _at(self, host: str, now: float) -> Sender:
        key = host if ":" not in host else neighbourhood(host)
        sender = self._senders.get(key)
        if sender is None:
            sender = self._senders[key] = self._owners.get(key) or Sender(self.rates, now)
            if len(self._senders) > MOST_SENDERS:
                self._senders.popitem(last=False)
        past = now - sender.at
        if past > 0.0:
            sender.at = now
            rates = self.rates
            sender.packets = min(sender.packets + past * rates.packets, 2 * rates.packets)
            sender.requests = min(sender.requests + past * rates.requests, 2 * rates.requests)
            self._senders.move_to_end(key)
        return sender


def neighbourhood(host: str) -> str:
    """Return what an address shares with all that its owner could send from."""
    if ":" not in host:
        return host
    front, gap, back = host.partition("::")
    before, after = (part.split(":") if part else [] for part in (front, back))
    groups = [*before, *["0"] * (8 - len(before) - len(after)), *after] if gap else before
    return ":".join(groups[:_SIX_GROUPS])
