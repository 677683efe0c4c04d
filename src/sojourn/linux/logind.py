"""Suspend as logind announces it: a moment before, to write down what must not be lost, and a word after.

logind waits for our inhibitor (kind "delay", at most InhibitDelayMaxSec, 5 s by default) to be closed.
"""

import os
from collections.abc import Callable

from dbus_fast import Message

from sojourn.linux.bus import Bus, BusError

SERVICE, PATH, MANAGER = "org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager"
RULE = f"type='signal',sender='{SERVICE}',interface='{MANAGER}',member='PrepareForSleep'"


class SleepNotice:
    """Calls `on_sleep(True)` before the machine sleeps and `on_sleep(False)` when it has woken up."""

    def __init__(self, on_sleep: Callable[[bool], None]) -> None:
        self._on_sleep = on_sleep
        self._inhibitor: int | None = None
        self._logind = ""
        """The connection that logind is: anybody may send us a signal with its interface."""

    def is_one(self, message: Message) -> bool:
        """Say whether a signal is logind's announcement."""
        its = (self._logind, MANAGER, "PrepareForSleep")
        return (message.sender, message.interface, message.member) == its

    async def hold(self, bus: Bus) -> None:
        """Ask for the moment before the next sleep. Raises BusError; without it there is the word after it only."""
        owner = await bus.owner(SERVICE)
        if owner != self._logind:  # it was started anew, and knows nothing of what its predecessor gave
            self.release()
            self._logind = owner
        if self._inhibitor is not None:
            return
        wanted = ["sleep", "Sojourn", "writes down what its networks carried", "delay"]
        answer = await bus.call(SERVICE, PATH, MANAGER, "Inhibit", "ssss", wanted)
        if answer.signature != "h" or not answer.unix_fds:
            raise BusError("logind gave no inhibitor")
        self._inhibitor = answer.unix_fds[0]

    def announced(self, message: Message) -> bool:
        """Take in the announcement; return whether the machine goes to sleep now."""
        before = message.signature == "b" and bool(message.body[0])
        try:
            self._on_sleep(before)
        finally:
            if before:
                self.release()
        return before

    def release(self) -> None:
        """Let logind go on."""
        inhibitor, self._inhibitor = self._inhibitor, None
        if inhibitor is not None:
            os.close(inhibitor)
