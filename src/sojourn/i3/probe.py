"""Whether a path reaches a node, and how far away it is, without leaving anything there.

A probe is an Insert without a nonce: a node answers that by a Challenge and nothing else, and the nonce that this
brings makes the next real request one round trip shorter. Of each path and node a `Prober`:

    testing   asked again after 0.05 s, doubling to 1 s
    works     asked every 15 s, and while data goes out and nothing comes back, every `ASK_AGAIN`
    silent    `MISSING` probes unanswered, the first of them for max(0.2 s, srtt + 4 rttvar): asked every 0.5 s
"""

from typing import Final

from sojourn.i3.identifier import Identifier
from sojourn.i3.packet import INSERT, Request, Right
from sojourn.i3.round_trip import RoundTrip

# Ours.
KEEP_ALIVE: Final = 15.0
FIRST_WAIT: Final = 0.05
LONGEST_WAIT: Final = 1.0
ASK_AGAIN: Final = 0.06
QUIET: Final = 0.1
"""Data goes out, and nothing has come from the node for so long: ask."""
MISSING: Final = 4
SILENT_AFTER: Final = 0.2
SILENT_SPACING: Final = 0.5
PROBE_NUMBER: Final = 1 << 63
"""This bit of a request's number is set in probes only."""
_FOR_NOBODY: Final = Identifier(bytes(32))


class Prober:
    """One path to one node. All times are `now` of the caller."""

    __slots__ = (
        "_asked", "_due", "_number", "_outstanding", "_wait", "heard", "rtt", "silent", "used", "works",
    )  # fmt: skip

    def __init__(self, number: int, now: float) -> None:
        """Begin with a test. `number`: random, 48 bits at least: answers must not be guessable."""
        self.works = self.silent = False
        self.rtt = RoundTrip()
        self.heard = now
        self.used = float("-inf")
        """When data was first sent that nothing was heard after."""
        self._number = number | PROBE_NUMBER
        self._asked: dict[int, float] = {}
        """Probes under way, by number."""
        self._outstanding: list[float] = []
        """When those were sent that nothing has been heard since: the first one, and the newest."""
        self._wait = FIRST_WAIT
        self._due = now

    @property
    def due(self) -> float:
        """When `ask` is wanted next."""
        if self.works and not self.silent and self.used > self.heard:
            asked = self._outstanding[-1] if self._outstanding else self.used
            return asked + ASK_AGAIN if asked > self.used else self.used + QUIET
        return self._due

    def ask(self, now: float) -> bytes:
        """Return a probe to be sent now."""
        self._number = PROBE_NUMBER | (self._number + 1) % PROBE_NUMBER
        self._asked[self._number] = now
        if len(self._asked) > 16:
            del self._asked[next(iter(self._asked))]
        self._outstanding.append(now)
        del self._outstanding[1:-15]
        if not self.works:
            self._due, self._wait = now + self._wait, min(self._wait * 2, LONGEST_WAIT)
        else:
            self._due = now + (SILENT_SPACING if self.silent else KEEP_ALIVE)
        return bytes(Request(INSERT, Right.KEY, self._number, _FOR_NOBODY, bytes(16)))

    def answered(self, number: int, now: float) -> bool:
        """Take in a Challenge; say whether it answers a probe."""
        sent = self._asked.pop(number, None)
        if sent is None:
            return False
        self.rtt.sample(now - sent)
        if not self.works:
            self._due = now + KEEP_ALIVE
        self.works = True
        self.hear(now)
        return True

    def hear(self, now: float) -> None:
        """Note that something came from the node."""
        self.heard = now
        self._outstanding.clear()
        if self.works:
            self.silent = False

    def send(self, now: float) -> None:
        """Note that data was sent."""
        if self.used <= self.heard:
            self.used = now

    def judge(self, now: float) -> bool:
        """Say whether the path has fallen silent just now."""
        missing = self._outstanding
        patience = max(SILENT_AFTER, self.rtt.late_after())
        if not self.works or self.silent or len(missing) < MISSING or now - missing[0] < patience:
            return False
        self.silent = True
        self._due = now
        return True

    def forgive(self, now: float) -> None:
        """Count from now on only: we did not run."""
        self._outstanding.clear()
        self.heard = max(self.heard, now - QUIET)

    def other_node(self) -> None:
        """Measure it anew: another node is meant from now on, which is known to answer."""
        self.rtt = RoundTrip()
        self._asked.clear()
        self._outstanding.clear()

    def restart(self, now: float) -> None:
        """Test it anew."""
        self.works = self.silent = False
        self._wait, self._due = FIRST_WAIT, now
        self._outstanding.clear()
