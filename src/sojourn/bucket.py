"""A token bucket: how much of something may be done in a time, and how much of it at once."""

from collections import OrderedDict
from typing import Generic, TypeVar

Who = TypeVar("Who")


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


class Buckets(Generic[Who]):
    """A bucket for each of `most` at once; whoever was silent for longest is forgotten first."""

    def __init__(self, rate: float, burst: float, most: int) -> None:
        self._rate, self._burst, self._most = rate, burst, most
        self._of: OrderedDict[Who, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._of)

    def take(self, who: Who, now: float) -> bool:
        """Say whether `who` may once more now, and count it."""
        bucket = self._of.get(who)
        if bucket is None:
            bucket = self._of[who] = Bucket(self._rate, self._burst)
            if len(self._of) > self._most:
                self._of.popitem(last=False)
        self._of.move_to_end(who)
        return bucket.take(now)
