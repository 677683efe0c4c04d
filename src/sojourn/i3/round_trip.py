"""How long an answer takes: RFC 6298 §2's estimator, without its one-second floor, as nothing is re-sent by it."""

from typing import Final

# Ours.
UNKNOWN: Final = 0.3
"""What is reckoned with before the first answer."""


class RoundTrip:
    """Of one path."""

    __slots__ = ("rttvar", "srtt")

    def __init__(self) -> None:
        self.srtt: float | None = None
        self.rttvar = 0.0

    def sample(self, rtt: float) -> None:
        """Take in one measurement."""
        if self.srtt is None:
            self.srtt, self.rttvar = rtt, rtt / 2
        else:
            self.rttvar += (abs(rtt - self.srtt) - self.rttvar) / 4
            self.srtt += (rtt - self.srtt) / 8

    def late_after(self) -> float:
        """Return how old a question is when its answer is overdue: srtt + 4 rttvar."""
        return (UNKNOWN if self.srtt is None else self.srtt) + 4 * self.rttvar
