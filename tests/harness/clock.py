"""A clock that only its test moves."""


class Clock:
    """Seconds of CLOCK_BOOTTIME, as the test wants them."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
