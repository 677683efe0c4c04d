"""What is measured of a path: round trip, jitter, loss either way, and which probes are out."""

from collections import deque
from math import ceil, log

from msgspec import Struct

from sojourn.upmt.constants import (
    FALSE_ALARM,
    INITIAL_RTT,
    LOSS_WINDOW,
    OUTSTANDING_MAX,
    PROBE_MEMORY,
    RTT_ALPHA,
    RTT_BETA,
    WITNESSES_MAX,
)


class Rtt:
    """Round-trip estimator of RFC 6298 §2, without its one-second floor: nothing is re-sent by it."""

    def __init__(self) -> None:
        self.srtt: float | None = None
        self.rttvar: float | None = None
        self._taken_at = 0.0

    def sample(self, rtt: float, now: float) -> None:
        """Take in one measurement.

        Probes go in clusters, whose delays are alike: of each round trip one sample is enough
        (RFC 7323 appendix G), but one that shows the estimate to be too low always counts.
        """
        if self.srtt is None or self.rttvar is None:
            self.srtt, self.rttvar, self._taken_at = rtt, rtt / 2, now
            return
        if now - self._taken_at < min(self.srtt, 0.1) and rtt < self.late_after():
            return
        self.rttvar += RTT_BETA * (abs(self.srtt - rtt) - self.rttvar)
        self.srtt += RTT_ALPHA * (rtt - self.srtt)
        self._taken_at = now

    def guess(self) -> float:
        """Return the round trip to reckon with."""
        return INITIAL_RTT if self.srtt is None else self.srtt

    def late_after(self) -> float:
        """Return how old a question is when its answer is overdue: srtt + 4 rttvar."""
        if self.srtt is None or self.rttvar is None:
            return 2 * INITIAL_RTT
        return self.srtt + 4 * self.rttvar


class Jitter:
    """Interarrival jitter of RFC 3550 §6.4.1, from the times that answers carry."""

    def __init__(self) -> None:
        self.value: float | None = None
        self._transit: float | None = None

    def sample(self, transit: float) -> None:
        """Take in receive time minus send time; the clocks need not agree."""
        if self._transit is not None:
            apart = abs(transit - self._transit)
            self.value = apart / 16 if self.value is None else self.value + (apart - self.value) / 16
        self._transit = transit


class _Counts(Struct, frozen=True):
    at: float
    answered_us: int
    we_sent: int
    they_received: int
    they_sent: int
    we_received: int


class LossWindow:
    """Loss in both directions over the last seconds, from both ends' packet counts."""

    def __init__(self) -> None:
        self._samples: deque[_Counts] = deque()

    def sample(
        self, now: float, answered_us: int, we_sent: int, they_received: int, they_sent: int, we_received: int
    ) -> None:
        """Take in an answer: `we_sent` when its probe left, `they_*` when they answered, `we_received` now."""
        samples = self._samples
        if samples and now - samples[-1].at > LOSS_WINDOW:
            samples.clear()
        if samples:
            last = samples[-1]
            if answered_us < last.answered_us:
                return  # Answers overtook each other.
            if they_sent < last.they_sent or they_received < last.they_received:
                samples.clear()  # The peer started to count anew.
            elif len(samples) > 1 and last.at - samples[-2].at < LOSS_WINDOW / 40:
                samples.pop()
        samples.append(_Counts(now, answered_us, we_sent, they_received, they_sent, we_received))
        while now - samples[0].at > LOSS_WINDOW and len(samples) > 2:
            samples.popleft()

    def counts(self) -> tuple[int, int, int, int] | None:
        """Return (we sent, they received, they sent, we received) up to the newest answer."""
        if not self._samples:
            return None
        newest = self._samples[-1]
        return newest.we_sent, newest.they_received, newest.they_sent, newest.we_received

    def clear(self) -> None:
        """Forget everything: the counts start anew, or the path is another."""
        self._samples.clear()

    def loss(self) -> tuple[float | None, float | None]:
        """Return (loss of what we send, loss of what they send), None while unknown."""
        if len(self._samples) < 2:
            return None, None
        old, new = self._samples[0], self._samples[-1]
        return (
            _missing(new.we_sent - old.we_sent, new.they_received - old.they_received),
            _missing(new.they_sent - old.they_sent, new.we_received - old.we_received),
        )


def _missing(sent: int, received: int) -> float | None:
    return None if sent <= 0 else min(max(1 - received / sent, 0.0), 1.0)


class Sent:
    """A probe that is out."""

    __slots__ = ("at", "judged", "packets_out", "size", "tainted")

    def __init__(self, at: float, size: int, packets_out: int) -> None:
        self.at = at
        self.size = size
        """UDP payload of a path MTU probe; 0 for an ordinary one."""
        self.packets_out = packets_out
        self.tainted = False
        """The process stood still meanwhile: the round trip says nothing."""
        self.judged = False


class Probes:
    """The probes of one tunnel, by sequence, and how many of them get lost."""

    def __init__(self) -> None:
        self.out: dict[int, Sent] = {}
        self.miss = 0.0
        """Estimated probability that a probe or its answer is lost."""
        self._next = 0

    def new(self, now: float, packets_out: int, size: int = 0) -> int:
        """Note a probe and return its sequence."""
        while self.out:
            oldest = next(iter(self.out))
            if now - self.out[oldest].at < PROBE_MEMORY and len(self.out) < OUTSTANDING_MAX:
                break
            del self.out[oldest]
        self._next = (self._next + 1) & 0xFFFFFFFF
        self.out[self._next] = Sent(now, size, packets_out)
        return self._next

    def answered(self, sequence: int, now: float, late_after: float) -> Sent | None:
        """Return the probe that an answer belongs to, None for an unknown one."""
        sent = self.out.pop(sequence, None)
        if sent is None:
            return None
        if not sent.size:
            if not sent.judged:
                self._learn(0.0)
            for earlier in self.out.values():
                if earlier.at < sent.at and now - earlier.at > late_after and not (earlier.judged or earlier.size):
                    earlier.judged = True
                    self._learn(1.0)
        return sent

    def was_sent(self, sequence: int) -> bool:
        """Say whether a probe had this sequence, also one that is forgotten by now."""
        return 0 < sequence <= self._next

    def waiting(self, since: float) -> int:
        """Return how many ordinary probes that were sent at `since` or later are unanswered."""
        count = 0
        for sent in reversed(self.out.values()):
            if sent.at < since:
                break
            count += not sent.size
        return count

    def forgive(self) -> None:
        """Let what is out say nothing about delay and loss: the process stood still, or the path was dead."""
        for sent in self.out.values():
            sent.tainted = sent.judged = True

    def witnesses(self) -> int:
        """Return how many missing answers it takes to believe that loss alone does not explain them."""
        if self.miss < 0.001:
            return 2
        return min(max(ceil(log(FALSE_ALARM) / log(self.miss)), 2), WITNESSES_MAX)

    def _learn(self, missing: float) -> None:
        self.miss = min(self.miss + (missing - self.miss) / 32, 0.5)
