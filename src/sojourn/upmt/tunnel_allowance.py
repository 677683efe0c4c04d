"""How many probes a tunnel may send, whatever its parts want: a bucket that time fills, faster while answers come.

Each part asks for good reasons of its own (silence, measurement, path MTU), and the less is answered, the more of
them have one. What many tunnels then ask together can be more than an anchor answers, and nothing would end that.
"""

from sojourn.upmt.constants import PROBES_AT_ONCE, PROBES_DEAF_AFTER, PROBES_PER_SECOND, PROBES_PER_SECOND_DEAF


class Allowance:
    """Of one tunnel, at one end."""

    def __init__(self) -> None:
        self._left = float(PROBES_AT_ONCE)
        self._at = float("-inf")
        self._answered_at = float("-inf")

    def ready_at(self, now: float) -> float:
        """Return when the next probes may go: `now` or later."""
        self._fill(now)
        return now if self._left >= 1.0 else now + (1.0 - self._left) / self._rate(now)

    def spend(self, now: float) -> None:
        """Note a probe. Those of one round go together: the last of them may go into debt."""
        self._fill(now)
        self._left -= 1.0

    def answered(self, now: float) -> None:
        """Note an answer."""
        self._fill(now)
        self._answered_at = now

    def _rate(self, now: float) -> float:
        return PROBES_PER_SECOND if now - self._answered_at < PROBES_DEAF_AFTER else PROBES_PER_SECOND_DEAF

    def _fill(self, now: float) -> None:
        if now > self._at:
            self._left = min(self._left + (now - self._at) * self._rate(now), PROBES_AT_ONCE)
            self._at = now
