"""A machine's deadline as something that a fake net waits for."""

from collections.abc import Callable

from tests.harness.fakenet import FakeNet


class Timer:
    """A machine's deadline as something that the net waits for."""

    def __init__(self, net: FakeNet, deadline: Callable[[], float | None], tick: Callable[[], None]) -> None:
        self._net = net
        self._deadline = deadline
        self._tick = tick
        self._armed: float | None = None

    def arm(self) -> None:
        """Look at the deadline again. A tick that turns out to be early is harmless."""
        due = self._deadline()
        if due is None or (self._armed is not None and self._armed <= due):
            return
        self._armed = at = max(due, self._net.now + 0.001)
        self._net.at(at, lambda: self._ring(at))

    def _ring(self, at: float) -> None:
        if at == self._armed:
            self._armed = None
            self._tick()
            self.arm()
