"""When a host looks for a nearer rendezvous node, and when it changes to one (ROAM §5: trigger server sampling).

Where a host is decides which node is near, and so does what becomes of the way there:

    waits     every `EVERY`; `SETTLE` after a move to another network; and when the round trip to the node in use has
              been above `RISE` times the least one, and `RISE_AT_LEAST` above it, for `RISEN_FOR`
    samples   all nodes are asked `ROUNDS` times, `SPACING` apart; then the nearest is taken, if its round trip is less
              than `NEARER` of the one in use, and `NEARER_AT_LEAST` less

It does not flap: the node must be nearer by a margin, a rise is looked at once (what is the least is learned anew after
each sample), and a change forbids the next one for `HOLD`, twice as long each further time within `FORGIVE`. Nodes that
do not share their triggers are never changed between: peers would not find us. Timers: all of these.
"""

from typing import Final

from sojourn.i3.client import RendezvousClient
from sojourn.i3.commands import Command
from sojourn.model import Endpoint

# Ours.
EVERY: Final = 600.0
SETTLE: Final = 2.0
RISE: Final = 1.5
RISE_AT_LEAST: Final = 0.02
RISEN_FOR: Final = 5.0
ROUNDS: Final = 3
SPACING: Final = 0.5
NEARER: Final = 0.75
NEARER_AT_LEAST: Final = 0.005
HOLD: Final = 60.0
HOLD_LONGEST: Final = 1800.0
FORGIVE: Final = 1800.0
LOOK_EVERY: Final = 1.0


class Sampler:
    """One client's. Its commands are the client's own."""

    def __init__(self, client: RendezvousClient) -> None:
        self._client = client
        self.changes = 0
        """How often a nearer node was taken."""
        self._path: str | None = None
        self._due = float("inf")
        """When the next sample begins at the latest."""
        self._look_at = float("inf")
        self._node: Endpoint | None = None
        self._least: float | None = None
        self._risen: float | None = None
        """Since when the round trip is above what it was."""
        self._rounds = 0
        """Of a sample under way, those that are still to come and the one in which answers come."""
        self._round_at = float("inf")
        self._began = 0.0
        self._found: dict[Endpoint, float] = {}
        """The shortest round trip of each node in this sample."""
        self._held_until = self._changed_at = float("-inf")
        self._hold = HOLD

    def deadline(self) -> float | None:
        """When `tick` wants to be called next."""
        due = self._round_at if self._rounds else self._look_at
        return due if due < float("inf") else None

    def use(self, path: str | None, now: float) -> None:
        """Note which path is sent over: from another network another node may be the nearest."""
        if path == self._path:
            return
        self._path, self._rounds, self._round_at = path, 0, float("inf")
        self._learn_anew()
        sampled = path is not None and len(self._client.nodes) > 1
        self._due = now + SETTLE if sampled else float("inf")
        self._look_at = now + LOOK_EVERY if sampled else float("inf")

    def tick(self, now: float) -> list[Command]:
        """Do what is due."""
        path = self._path
        if path is None:
            return []
        if self._rounds:
            return self._sampling(path, now) if self._round_at <= now else []
        if self._look_at > now:
            return []
        self._look_at = now + LOOK_EVERY
        if now < self._due and not self._has_risen(path, now):
            return []
        self._due, self._rounds, self._began = now + EVERY, ROUNDS + 1, now
        self._found.clear()
        return self._sampling(path, now)

    def _sampling(self, path: str, now: float) -> list[Command]:
        """Ask once more; after the last round, decide."""
        for node, took in self._client.measured(path, self._began, now).items():
            self._found[node] = min(took, self._found.get(node, took))
        self._rounds -= 1
        if self._rounds:
            self._round_at = now + SPACING
            return self._client.measure(path, now)
        self._look_at = now + LOOK_EVERY
        self._learn_anew()
        self._least = self._found.get(self._client.node)  # a rise in the midst of it is one
        return self._decide(now)

    def _decide(self, now: float) -> list[Command]:
        node, found = self._client.node, self._found
        if not found or now < self._held_until:
            return []
        nearest = min(found, key=lambda one: (found[one], one != node))
        here = found.get(node)
        if nearest == node or (here is not None and found[nearest] >= min(here * NEARER, here - NEARER_AT_LEAST)):
            return []
        self._hold = min(2 * self._hold, HOLD_LONGEST) if now - self._changed_at < FORGIVE else HOLD
        self._changed_at, self._held_until = now, now + self._hold
        self.changes += 1
        return self._client.prefer(nearest, now)

    def _has_risen(self, path: str, now: float) -> bool:
        """Say whether the way to the node in use has been longer than it was for long enough."""
        node = self._client.node
        if node != self._node:
            self._node = node
            self._learn_anew()
        took = self._client.round_trip(path, node, float("-inf"), now)
        if took is None:
            return False
        self._least = took if self._least is None else min(self._least, took)
        if took <= max(self._least * RISE, self._least + RISE_AT_LEAST):
            self._risen = None
            return False
        self._risen = now if self._risen is None else self._risen
        return now - self._risen >= RISEN_FOR and now >= self._held_until

    def _learn_anew(self) -> None:
        self._least = self._risen = None
