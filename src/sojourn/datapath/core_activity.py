"""What the core tells: what comes up, what a tunnel did without Python, and how its machine is made to know it."""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

Notice = tuple[int, int, int, int, int, bool, int, int, int, int, float, bytes, int, int, bytes, bytes]
"""kind, tunnel, epoch or value, counter, hint, highest, packets that the core had delivered before, ECN,
descriptor, bytes of the datagram, when,
source address (packed, empty = none), port, scope, way back, data."""


Counts = tuple[int, int]
"""Packets, and bytes of UDP payload."""

Told = tuple[int, float, float, float, float, float, int, int, int, int, float, int]
"""An `Activity` as the core gives it."""

HEARD, ANSWERED, SENT = range(3)
"""In this order where they bear the same time: what came, and what went out because of it."""


class Activity(NamedTuple):
    """Since the last one: times (seconds, 0 = never), packets, and bytes of UDP payload."""

    tunnel: int
    first_in: float
    last_in: float
    first_out: float
    out_after_in: float
    """The first one out after the last one in: the one that an answer is expected to."""
    last_out: float
    packets_in: int
    bytes_in: int
    packets_out: int
    bytes_out: int
    frame_at: float = 0.0
    """When the core answered the last probe; packets and bytes include those."""
    reported: int = 0
    """The newest of our epochs that such a probe has said its sender to have opened, 0 for none."""


class Books(Protocol):
    """What of a tunnel is told."""

    def heard(self, now: float, packets: int, size: int) -> None:
        """Note packets that came."""
        ...

    def sent(self, now: float, packets: int, size: int) -> None:
        """Note packets that went out."""
        ...

    def answered_elsewhere(self, now: float, reported: int, incoming: Counts, outgoing: Counts) -> None:
        """Note probes that came, and their answers."""
        ...


def in_order(activities: Iterable[Told]) -> list[Activity]:
    """Return what the core tells, whoever was heard last at the end."""
    return [Activity(*each) for each in sorted(activities, key=_last_heard)]


def _last_heard(told: Told) -> float:
    return max(told[2], told[10])


def replay(tunnel: Books, did: Activity) -> None:
    """Tell a tunnel what it did, in the order in which it happened, each packet once."""
    incoming, outgoing = (did.packets_in, did.bytes_in), (did.packets_out, did.bytes_out)
    if did.frame_at and not (did.first_in or did.first_out):
        tunnel.answered_elsewhere(did.frame_at, did.reported, incoming, outgoing)
        return
    times = {(at, HEARD) for at in (did.first_in, did.last_in) if at}
    times |= {(at, SENT) for at in (did.first_out, did.out_after_in, did.last_out) if at}
    times |= {(at, ANSWERED) for at in (did.frame_at,) if at}
    for at, what in sorted(times):
        if what == ANSWERED:
            tunnel.answered_elsewhere(at, did.reported, incoming, outgoing)
            incoming = outgoing = (0, 0)
        elif what == SENT:
            tunnel.sent(at, *outgoing)
            outgoing = (0, 0)
        else:
            tunnel.heard(at, *incoming)
            incoming = (0, 0)
