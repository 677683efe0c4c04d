"""How many probes a tunnel may send, whatever its parts want: a bucket that time fills, faster while answers come.

Each part asks for good reasons of its own (silence, measurement, path MTU), and the less is answered, the more of
them have one. What many tunnels then ask together can be more than an anchor answers, and nothing would end that.
"""

from sojourn.bucket import Bucket
from sojourn.upmt.constants import PROBES_AT_ONCE, PROBES_DEAF_AFTER, PROBES_PER_SECOND, PROBES_PER_SECOND_DEAF


class Allowance(Bucket):
    """Of one tunnel, at one end."""

    __slots__ = ("_answered_at",)

    def __init__(self) -> None:
        super().__init__(PROBES_PER_SECOND_DEAF, PROBES_AT_ONCE)
        self._answered_at = float("-inf")

    def ready_at(self, now: float) -> float:
        """Return when the next probes may go: `now` or later."""
        self.fill(now)
        return now if self.left >= 1.0 else now + (1.0 - self.left) / self.rate

    def spend(self, now: float) -> None:
        """Note a probe. Those of one round go together: the last of them may go into debt."""
        self.fill(now)
        self.left -= 1.0

    def answered(self, now: float) -> None:
        """Note an answer."""
        self.fill(now)
        self._answered_at = now

    def fill(self, now: float) -> None:
        """Reckon what is left now, at the rate that holds now."""
        answers = now - self._answered_at < PROBES_DEAF_AFTER
        self.rate = PROBES_PER_SECOND if answers else PROBES_PER_SECOND_DEAF
        super().fill(now)
