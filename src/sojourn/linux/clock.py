"""The clocks: seconds of CLOCK_BOOTTIME, which goes on while the machine sleeps; and what the wall clock shows."""

import time

from sojourn.policy.spans import LocalTime


def now() -> float:
    """Return seconds of CLOCK_BOOTTIME."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def local_time(_at: float) -> LocalTime:
    """Return what the wall clock shows now; a decision is always about now."""
    shown = time.localtime()
    return LocalTime(shown.tm_wday, shown.tm_hour * 3600 + shown.tm_min * 60 + shown.tm_sec)
