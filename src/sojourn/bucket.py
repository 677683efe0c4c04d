"""A token bucket: how much of something may be done in a time, and how much of it at once."""


class Bucket:
    """Fills at `rate` a second up to `burst`; full at first."""

    __slots__ = ("_at", "_burst", "left", "rate")

    def __init__(self, rate: float, burst: float) -> None:
        self.rate = rate
        self.left = burst
        self._burst, self._at = burst, float("-inf")

    def fill(self, now: float) -> None:
        """Reckon what is left now."""
        if now > self._at:
            self.left = min(self.left + (now - self._at) * self.rate, self._burst)
            self._at = now

    def take(self, now: float) -> bool:
        """Say whether one more is allowed now, and count it."""
        self.fill(now)
        if self.left < 1:
            return False
        self.left -= 1
        return True
