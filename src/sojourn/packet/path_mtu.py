"""Path MTU discovery of one path and direction by padded probes (RFC 8899; ICMP is not needed).

    idle --start--> ceiling --answer--> done          the usual path: one probe
                    ceiling --3 lost--> candidates --3 rounds--> done
    done --3 confirmations lost while smaller packets pass--> candidates       a black hole (RFC 8899 §4.3)
    done --600 s, data flows--> ceiling                                      the path may have grown

Sizes here are those of the outer packet, IP header included. While a search is on, packets go
without DF: nothing is lost meanwhile. A path that carries less than 1280 inner bytes stays so. Anchor tunnels
(upmt/tunnel.py) and direct paths to peers (i3/direct_mtu.py) search alike.
"""

from enum import Enum, auto
from typing import Final

# The protocol's (DESIGN §3.2, docs/wire.md).
OUTER_UDP_IPV4: Final = 28
OUTER_UDP_IPV6: Final = 48
BASE_DATAGRAM: Final = 1200
"""UDP payload that nearly any path carries (RFC 9000 §14): challenges and first packets are padded to it."""
MIN_INNER_MTU: Final = 1280
"""What IPv6 needs (RFC 8200 §5): the TUN's MTU is never less."""

# Ours (RFC 8899 §5.1 has the roles of these).
MTU_PROBES: Final = 3
MTU_TIMEOUT_AT_LEAST: Final = 0.1
MTU_CONFIRM_EVERY: Final = 5.0
MTU_RAISE_AFTER: Final = 600.0
MTU_DEAF_SPACING: Final = 300.0
"""A search that gets no answer whatever asks at least so seldom in the end."""
MTU_CANDIDATES: Final = (9000, 4352, 1500, 1492, 1480, 1472, 1460, 1440, 1420, 1400, 1380, 1360, 1340)
"""Outer packet sizes that real paths have; asked about all at once when the largest did not pass."""

_NEVER = float("inf")


class Phase(Enum):
    """How far the search is."""

    IDLE = auto()
    CEILING = auto()
    CANDIDATES = auto()
    DONE = auto()


class MtuSearch:
    """The largest outer packet that is known to pass, and the search for a larger one."""

    def __init__(self, inner_mtu: int, outer_overhead: int, sealing: int) -> None:
        """`inner_mtu` is the TUN's: more need not pass. `outer_overhead`: IP and UDP; `sealing`: header and tag."""
        self.inner_max = inner_mtu
        self.phase = Phase.IDLE
        self.confirmed = 0
        self.due = _NEVER
        self._overhead = outer_overhead
        self._all = outer_overhead + sealing
        self._tries = 0
        self._round_at = 0.0
        self._asked: tuple[int, ...] = ()
        self._deaf = 0
        self._raise_at = _NEVER

    @property
    def ceiling(self) -> int:
        """The outer size of the largest packet that the TUN can bring."""
        return self.inner_max + self._all

    @property
    def floor(self) -> int:
        """The outer size of an inner packet of 1280 bytes: nothing smaller is of interest."""
        return min(MIN_INNER_MTU + self._all, self.ceiling)

    def searching(self) -> bool:
        """Say whether the result is still open."""
        return self.phase is not Phase.DONE

    def inner_mtu(self) -> int:
        """Return the largest inner packet to let through now."""
        if self.searching():
            return self.inner_max
        return max(self.confirmed, self.floor) - self._all

    def shown(self) -> int:
        """Return the largest inner packet that was seen to pass, 1280 at least: for who can't rely on fragments."""
        return min(max(self.confirmed, self.floor), self.ceiling) - self._all

    def may_fragment(self) -> bool:
        """Say whether packets have to go without DF."""
        return self.searching() or self.confirmed < self.floor

    def start(self, now: float) -> None:
        """Begin a search: the path is new, and carries small packets."""
        self.confirmed = 0
        self._enter(Phase.CEILING, now)

    def stop(self) -> None:
        """Forget the path."""
        self.phase, self.due, self.confirmed = Phase.IDLE, _NEVER, 0

    def resume(self, now: float) -> None:
        """Go on with confirmations, which rest while no data flows."""
        if self.phase is Phase.DONE and self.due == _NEVER:
            self.due = now + MTU_CONFIRM_EVERY

    def passed(self, datagram: int, now: float) -> None:
        """Take in that a probe of `datagram` bytes of UDP payload was answered."""
        size = datagram + self._overhead
        if self.phase is Phase.IDLE:
            return
        if size >= self.confirmed:
            self.confirmed = size
            if self.phase is Phase.DONE:
                self._tries, self.due = 0, now + MTU_CONFIRM_EVERY
        if self.phase is not Phase.DONE and size >= self.ceiling:
            self._finish(now)

    def tick(self, now: float, timeout: float, last_heard: float, active: bool) -> list[int]:
        """Return the probes to send now, as bytes of UDP payload (0: an ordinary one, to see that the path lives)."""
        if now < self.due:
            return []
        if self._tries and last_heard <= self._round_at:
            # Nothing passes at all: that says nothing about sizes. Ask ever more rarely.
            self._deaf += 1
            return self._ask(now, min(timeout * 2**self._deaf, MTU_DEAF_SPACING), self._asked)
        self._deaf = 0
        if self.phase is Phase.DONE:
            return self._confirm(now, timeout, active)
        if self.phase is Phase.CEILING and self._tries >= MTU_PROBES:
            self._enter(Phase.CANDIDATES, now)
        if self.phase is Phase.CANDIDATES and self._tries >= MTU_PROBES:
            self._finish(now)
            return []
        self._tries += 1
        sizes = (self.ceiling,) if self.phase is Phase.CEILING else self._candidates()
        if not sizes:
            self._finish(now)
            return []
        return self._ask(now, timeout, sizes)

    def _confirm(self, now: float, timeout: float, active: bool) -> list[int]:
        if now >= self._raise_at:
            self._enter(Phase.CEILING, now)
            return self.tick(now, timeout, now, active)
        if not active or self.confirmed < self.floor or self.confirmed <= BASE_DATAGRAM:
            self._tries = 0
            self.due = _NEVER
            return []
        if self._tries >= MTU_PROBES:
            self.confirmed = 0
            self._enter(Phase.CANDIDATES, now)
            return self.tick(now, timeout, now, active)
        self._tries += 1
        return self._ask(now, timeout, (self.confirmed,))

    def _ask(self, now: float, timeout: float, sizes: tuple[int, ...]) -> list[int]:
        self._round_at, self._asked = now, sizes
        self.due = now + timeout
        return [size - self._overhead for size in sizes] + [0]

    def _candidates(self) -> tuple[int, ...]:
        low = max(self.confirmed + 1, self.floor)
        sizes = {size for size in MTU_CANDIDATES if low <= size < self.ceiling}
        if self.confirmed < self.floor:
            sizes.add(self.floor)
        return tuple(sorted(sizes))

    def _enter(self, phase: Phase, now: float) -> None:
        self.phase, self._tries, self._deaf, self.due = phase, 0, 0, now

    def _finish(self, now: float) -> None:
        self.phase, self._tries = Phase.DONE, 0
        self._raise_at = now + MTU_RAISE_AFTER if self.confirmed < self.ceiling else _NEVER
        self.due = now + MTU_CONFIRM_EVERY
