"""Is a node there, and how far is it: asked while packets flow, so that a dead one is found within a second.

A node that sends us packets is hardly ever probed: only every `PROVED` seconds, because packets can be forged and the
number of an echo cannot. For each path and node:

    heard of      probed BUSY (0.25 s) after it was last heard, while packets go there or come from there; IDLE (5 s)
                  while it only keeps triggers of ours; else not at all
    asked         again after twice the round trip (0.1 to 0.5 s), and from the second time on the next nodes, too
    silent        `TRIES` unanswered, and another node has answered meanwhile by the same path, and this one by no
                  other: `Silent` says which. With no other answer it is the path that is dead, and nothing is said
"""

from collections.abc import Callable, Sequence
from math import inf
from typing import Final

from msgspec import Struct

from sojourn.i3.packet import ALONE, Echo, Probe
from sojourn.model import Endpoint

# Ours.
BUSY: Final = 0.25
IDLE: Final = 5.0
ACTIVE: Final = 3.0
"""Seconds after the last packet for which a node is still in use."""
PROVED: Final = 3.0
"""Seconds after an echo for which packets alone show that a node is there."""
TRIES: Final = 3
SPARES: Final = 2
"""Other nodes that are asked when one is late."""
SHORTEST, LONGEST, UNKNOWN = 0.1, 0.5, 0.2
"""Seconds to wait for an echo; UNKNOWN where none has ever come."""
AVOIDED: Final = 30.0
"""Seconds for which nobody's word leads to a node that was silent."""
_NUMBER_BYTES: Final = 8
_MAX_ASKED: Final = 8


class Silent(Struct, frozen=True):
    """A node does not answer by this path, and another one does."""

    path: str
    node: Endpoint
    instead: Endpoint


class _Beat:
    """What is known of one node by one path."""

    __slots__ = (
        "asked", "due", "first", "group", "heard", "last", "newest", "proved", "round_trip", "silent", "tries", "used",
    )  # fmt: skip

    def __init__(self) -> None:
        self.heard = self.proved = self.used = self.last = self.silent = -inf
        self.first = inf
        """When the oldest probe that is unanswered was sent."""
        self.due = inf
        self.tries = 0
        self.asked: dict[int, float] = {}
        self.round_trip: float | None = None
        self.newest: float | None = None
        """The round trip of the newest echo alone."""
        self.group = ALONE


class Pulse:
    """All nodes of one client. `kept`: says whether triggers of ours stand at a node by a path."""

    def __init__(self, random: Callable[[int], bytes], kept: Callable[[str, Endpoint], bool]) -> None:
        self._random, self._kept = random, kept
        self._beats: dict[tuple[str, Endpoint], _Beat] = {}
        self._due = inf

    def use(self, path: str, node: Endpoint, now: float) -> None:
        """Note that a packet goes to a node, or came from it."""
        beat = self._beats.get((path, node))
        if beat is None:
            beat = self._beats[path, node] = _Beat()
        beat.used = now
        if beat.due > now + BUSY and not beat.tries:
            beat.due = now + BUSY
            self._due = min(self._due, beat.due)

    def heard(self, path: str, node: Endpoint, now: float) -> None:
        """Note that anything came from a node, or in its name."""
        beat = self._beats.get((path, node))
        if beat is not None:
            beat.heard = now
            if beat.tries and now - beat.proved < PROVED:
                self._there(beat, now)

    def echoed(self, path: str, node: Endpoint, echo: Echo, now: float) -> None:
        """Take in an answer to a probe; any other is nothing."""
        beat = self._beats.get((path, node))
        sent = beat.asked.pop(echo.number, None) if beat is not None else None
        if beat is not None and sent is not None:
            took, known = now - sent, beat.round_trip
            beat.round_trip = took if known is None else 0.75 * known + 0.25 * took
            beat.newest, beat.group = took, echo.group
            beat.silent = -inf
            beat.heard = beat.proved = now
            if beat.tries:
                self._there(beat, now)

    def measure(self, path: str, nodes: Sequence[Endpoint], now: float) -> list[tuple[str, Endpoint, bytes]]:
        """Return probes to send now, one a node: (path, node, datagram)."""
        return [self._ask(path, node, self._beats.setdefault((path, node), _Beat()), now) for node in nodes]

    def newest(self, path: str, node: Endpoint, since: float) -> float | None:
        """Return the time that the newest probe took, None if no echo has come since."""
        beat = self._beats.get((path, node))
        return beat.newest if beat is not None and beat.proved >= since else None

    def group(self, node: Endpoint) -> bytes:
        """Return the group that a node says it is of, `ALONE` if it hasn't or shares its triggers with none."""
        return next((beat.group for (_, of), beat in self._beats.items() if of == node and beat.group != ALONE), ALONE)

    def avoided(self, node: Endpoint, now: float) -> bool:
        """Say whether a node was found silent lately, and not heard since."""
        return any(now - beat.silent < AVOIDED for (_, of), beat in self._beats.items() if of == node)

    def deadline(self) -> float | None:
        """When `tick` wants to be called next."""
        return self._due if self._due < inf else None

    def tick(self, nodes: Sequence[Endpoint], now: float) -> tuple[list[tuple[str, Endpoint, bytes]], list[Silent]]:
        """Return probes to send, and which nodes have turned out to be silent. `nodes`: all, the best first."""
        probes: list[tuple[str, Endpoint, bytes]] = []
        silent: list[Silent] = []
        for (path, node), beat in list(self._beats.items()):
            if beat.due <= now:
                verdict = self._due_now(path, node, beat, nodes, now, probes)
                if verdict is not None:
                    silent.append(verdict)
        self._due = min((beat.due for beat in self._beats.values()), default=inf)
        return probes, silent

    def _due_now(
        self, path: str, node: Endpoint, beat: _Beat, nodes: Sequence[Endpoint], now: float,
        probes: list[tuple[str, Endpoint, bytes]],
    ) -> Silent | None:  # fmt: skip
        every = BUSY if now - beat.used < ACTIVE else IDLE
        if node not in nodes or (every == IDLE and not self._kept(path, node)):
            beat.due, beat.tries, beat.first = inf, 0, inf
            return None
        if not beat.tries and (due := max(min(beat.heard, beat.proved + PROVED), beat.last) + every) > now:
            beat.due = due
            return None
        if beat.tries >= TRIES and (instead := self._instead(path, node, beat, nodes)) is not None:
            beat.due, beat.tries, beat.first, beat.silent = inf, 0, inf, now
            return Silent(path, node, instead)
        probes.append(self._ask(path, node, beat, now))
        beat.tries += 1
        beat.first = min(beat.first, now)
        beat.due = now + (_wait(beat) if beat.tries <= TRIES else max(every, LONGEST))
        if beat.tries > 1:
            spares = [spare for spare in nodes if spare != node][:SPARES]
            probes += self.measure(path, spares, now)
        return None

    def _there(self, beat: _Beat, now: float) -> None:
        beat.tries, beat.first, beat.due = 0, inf, now + BUSY
        self._due = min(self._due, beat.due)

    def _ask(self, path: str, node: Endpoint, beat: _Beat, now: float) -> tuple[str, Endpoint, bytes]:
        number = int.from_bytes(self._random(_NUMBER_BYTES)[:_NUMBER_BYTES])
        beat.asked[number] = beat.last = now
        while len(beat.asked) > _MAX_ASKED:
            del beat.asked[next(iter(beat.asked))]
        return path, node, bytes(Probe(number))

    def _instead(self, path: str, node: Endpoint, beat: _Beat, nodes: Sequence[Endpoint]) -> Endpoint | None:
        """Return who has answered while `node` did not: of those that share its triggers the nearest, or the first."""
        elsewhere = (other for (by, of), other in self._beats.items() if of == node and by != path)
        if any(min(other.heard, other.proved + PROVED) >= beat.first for other in elsewhere):
            return None
        there = [
            one for one in nodes
            if one != node and (known := self._beats.get((path, one))) is not None and known.proved >= beat.first
        ]  # fmt: skip
        alike = [one for one in there if beat.group != ALONE and self._beats[path, one].group == beat.group]
        return (
            min(alike, key=lambda one: self._beats[path, one].round_trip or inf) if alike else next(iter(there), None)
        )


def _wait(beat: _Beat) -> float:
    return UNKNOWN if beat.round_trip is None else min(max(2 * beat.round_trip, SHORTEST), LONGEST)
