"""What a Python process that must not stall does about garbage and signals.

Timer: SIGALRM once a second, which reaches the process's loop as a byte on a socket like any signal.
"""

import gc
import signal
import socket
import time
from typing import Final

TICK: Final = 1.0
IDLE_SHARE: Final = 0.05
"""Of the processor's time; below it garbage may be collected."""
GARBAGE_OBJECTS: Final = 500_000
"""New objects at which garbage is collected whatever goes on."""
IDLE_OBJECTS: Final = 10_000
"""New objects from which collecting is worth while when nothing goes on."""


class GarbageCollector:
    """Collects when nothing else is to do. The program itself is frozen: only what it made since is looked at."""

    def __init__(self) -> None:
        gc.collect()
        gc.freeze()
        gc.disable()
        self._used = time.process_time()

    def tick(self) -> None:
        """Collect if the process was idle since the last tick, or has made too much."""
        used = time.process_time()
        idle = used - self._used < IDLE_SHARE * TICK
        made = gc.get_count()[0]
        if made > GARBAGE_OBJECTS or (idle and made > IDLE_OBJECTS):
            gc.collect()
        self._used = time.process_time()


def catch_signals(wakeup: socket.socket) -> None:
    """Turn signals, the tick's among them, into bytes on a socket that the engine watches."""
    wakeup.setblocking(False)
    signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, lambda _number, _frame: None)
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, TICK, TICK)
