"""The clock."""

import time

from sojourn.linux.clock import now


def test_it_goes_on_and_never_back() -> None:
    first = now()
    assert first >= time.clock_gettime(time.CLOCK_MONOTONIC) - 0.001
    assert now() >= first
