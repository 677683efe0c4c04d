"""What tunnels did in the core without Python, taken over: when, in which order, and who has counted what.

Timers: tunnels that moved data, every CATCH_UP_EVERY while they do, at an anchor ANCHOR_CATCH_UP_EVERY; those that only
answered probes, QUIET_EVERY.
"""

from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from sojourn.datapath.core_activity import Activity, Told, in_order, replay
from sojourn.datapath.core_peers import CorePeers
from sojourn.datapath.forwarder import Forwarder
from sojourn.model import TunnelId
from sojourn.upmt.tunnel import Tunnel

if TYPE_CHECKING:
    from sojourn.datapath._core import Core

CATCH_UP_EVERY: Final = 0.025
"""Under QUIET (upmt/constants.py), so that no question is asked late."""
ANCHOR_CATCH_UP_EVERY: Final = 0.1
"""An anchor asks after seconds of silence (AWAY_ASK_AFTER, upmt/constants.py)."""
CATCH_UP_SHARE: Final = 20
"""Taking over takes at most one part in so many of the time."""
QUIET_EVERY: Final = 1.0
"""How late we may hear of probes that the core has answered, as long as nothing is to be judged by them."""
QUIET_AT_ONCE: Final = 256
_NEVER: Final = float("inf")
_WHEN: Final = itemgetter(1)


class Books:
    """Packets of each tunnel, counted at both places."""

    def __init__(self, core: "Core", forwarder: Forwarder, peers: CorePeers, clock: Callable[[], float]) -> None:
        self.core, self._forwarder, self._peers, self._clock = core, forwarder, peers, clock
        self.catch_up_at = self.quiet_at = _NEVER

    def deadline(self) -> float:
        """When `look` is wanted next."""
        return min(self.catch_up_at, self.quiet_at)

    def look(self, now: float) -> None:
        """Take over what it is time for."""
        # While data moves, no sooner: where there are thousands of tunnels, one or another wakes us all the time.
        if now >= self.catch_up_at or self.catch_up_at == _NEVER:
            self.catch_up(now)
        if now >= self.quiet_at:
            self.take_quiet(now, QUIET_AT_ONCE)
        elif self.quiet_at == _NEVER:
            self.quiet_at = now + QUIET_EVERY  # the first probe that is answered wakes us

    def catch_up(self, now: float) -> None:
        """Take over what tunnels did with data, in the order in which it happened."""
        activity = self.core.poll(True)
        if not activity:
            activity = self.core.poll(False)  # from now on we are woken by the next packet
        every = ANCHOR_CATCH_UP_EVERY if self._forwarder.is_anchor else CATCH_UP_EVERY
        self._take(activity, now, 2 * every)
        self.catch_up_at = _NEVER
        if activity:
            self._forwarder.run_due(now)
            self.catch_up_at = now + max(every, CATCH_UP_SHARE * (self._clock() - now))

    def take_quiet(self, now: float, most: int = 1 << 20) -> None:
        """Take over on which tunnels nothing but probes was answered."""
        activity = self.core.quiet(most)
        tunnels, associations = self._forwarder.tunnels, self._forwarder.associations
        for number, at, reported, packets_in, bytes_in, packets_out, bytes_out, *opened in sorted(activity, key=_WHEN):
            tunnel = tunnels.get(TunnelId(number))
            if tunnel is None:
                continue
            epoch, counter = opened
            tunnel.answered_elsewhere(at, reported, (packets_in, bytes_in), (packets_out, bytes_out), (epoch, counter))
            association = associations.get(tunnel.association)
            if association is not None and self._forwarder.is_anchor:
                association.last_heard = tunnel.id
        self.quiet_at = now if len(activity) == most else _NEVER

    def counted_since(self, tunnel: Tunnel, before: int) -> int:
        """Take over what a tunnel did up to now, and return how many packets of that came after a control frame.

        A frame says, or asks, how many came before it: with what is yet to be taken over, or came while it waited for
        its turn, a busy machine would look like a path that loses packets.
        """
        activity = self.core.activity(tunnel.id)
        if activity is not None:
            self._replay(tunnel, Activity(*activity))
        return max(self.core.taken(tunnel.id)[0] - before, 0)

    def tell(self, tunnel: Tunnel, epoch: int, counter: int) -> None:
        """Tell the core what we have counted, so that it can answer probes; `epoch`, `counter`: the last we had."""
        if tunnel.fast:
            came, went = self.core.taken(tunnel.id)
            counts = tunnel.packets_in - came, tunnel.packets_out - went
            self.core.set_books(tunnel.id, epoch, counter, *counts)

    def _take(self, activity: Iterable[Told], now: float, within: float = 0.0) -> None:
        """Take it over, and spare busy tunnels the turns within so many seconds: these would only find that it was."""
        for one in in_order(activity):
            tunnel = self._forwarder.tunnels.get(TunnelId(one.tunnel))
            if tunnel is None:
                self._peers.did(one)
                continue
            self._replay(tunnel, one)
            if tunnel.armed < now + within:
                tunnel.settle(now)

    def _replay(self, tunnel: Tunnel, activity: Activity) -> None:
        replay(tunnel, activity)
        association = self._forwarder.associations.get(tunnel.association)
        if (activity.last_in or activity.frame_at) and association is not None and self._forwarder.is_anchor:
            association.last_heard = tunnel.id
