"""When to start a data path again, and with what: a pure decision, because a start may be what kills it."""

from typing import Final

QUICK_DEATH: Final = 5.0
"""A process that lives shorter died of its start."""
DEATHS_WITH_ROWS: Final = 3
"""After so many quick deaths in a row the flows are left out of the replay: they may be the cause."""
FIRST_PAUSE: Final = 0.1
MAX_PAUSE: Final = 5.0


class Restarts:
    """Counts deaths. The first one costs no pause, those that follow quickly cost a doubling one."""

    def __init__(self) -> None:
        self.count = 0
        self.died_at = 0.0
        self._began_at = 0.0
        self._quick_deaths = 0

    def began(self, now: float) -> None:
        """Note a start."""
        self._began_at = now

    def died(self, now: float) -> float:
        """Note a death and return the seconds to wait before the next start."""
        self.count += 1
        self.died_at = now
        self._quick_deaths = self._quick_deaths + 1 if now - self._began_at < QUICK_DEATH else 0
        if self._quick_deaths <= 1:
            return 0.0
        return float(min(FIRST_PAUSE * 2 ** (self._quick_deaths - 2), MAX_PAUSE))

    def with_rows(self) -> bool:
        """Say whether the next process shall get the flows, too."""
        return self._quick_deaths < DEATHS_WITH_ROWS
