"""The shape of every protocol machine here: events in, commands out.

A machine owns no socket, no clock and no randomness. Whoever drives it hands in what
happened and what time it is, carries out the commands it gets back, and calls `tick`
when the deadline has come. `now` is seconds of CLOCK_BOOTTIME, which goes on during suspend.
"""

from typing import Protocol, TypeVar

EventT = TypeVar("EventT", contravariant=True)
CommandT = TypeVar("CommandT")


class Machine(Protocol[EventT, CommandT]):
    """What a driver needs to know of a machine."""

    def handle(self, event: EventT, now: float) -> list[CommandT]:
        """Take in one fact and return the orders that follow from it, in order."""
        ...

    def deadline(self) -> float | None:
        """When `tick` wants to be called next, or None while nothing is pending."""
        ...

    def tick(self, now: float) -> list[CommandT]:
        """Do what is due at `now`. Calling it early, late or twice is harmless."""
        ...
