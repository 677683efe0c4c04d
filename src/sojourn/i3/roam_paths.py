"""A ROAM proxy's networks ("paths"): which one is used, and how the proxy moves from one to another.

    hard   the network in use has gone or is silent: send over the new one at once, insert all triggers there, and when
           they stand remove those of the old one, by way of the new
    soft   both work: insert over the new one while the old one still serves; when all stand, send over the new one,
           and remove the old one's by the stop rule (soft.py)

A network that goes and comes again is another path each time (`NAME`, newline, number): the triggers of its old address
are not those of its new one. Only here; everybody else says the network's name.

Timers: the probes of each path, `GIVE_UP` of a soft handover, the stop rule, and the client's.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from sojourn.errors import RemoteProtocolError
from sojourn.i3 import commands as i3
from sojourn.i3.client import RendezvousClient, Transmit, Wanted
from sojourn.i3.identifier import Identifier
from sojourn.i3.packet import CHALLENGE, Challenge, parse
from sojourn.i3.probe import PROBE_NUMBER, Prober
from sojourn.i3.roam_commands import (
    Command,
    Moved,
    MoveFailed,
    PathBlocked,
    PathSilent,
    PathWorks,
)
from sojourn.i3.sampling import Sampler
from sojourn.i3.soft import SoftHandover
from sojourn.model import Endpoint

# Ours.
GIVE_UP: Final = 5.0
"""Seconds in which the triggers of a soft handover have to stand."""
BLOCKED_AFTER: Final = 3.0


class RoamPaths:
    """The half of a proxy that knows networks; roam.py has the other."""

    def __init__(self, client: RendezvousClient, random: Callable[[int], bytes]) -> None:
        self.client = client
        self.sampler = Sampler(client)
        self.refused: Counter[str] = Counter()
        self.path: str | None = None
        """What is sent over."""
        self.paths: dict[str, Prober] = {}
        self._path_of: dict[str, str] = {}
        """By network."""
        self._opens = 0
        self.goal: str | None = None
        """Where a soft handover goes, until the triggers stand there."""
        self.soft: SoftHandover | None = None
        self._random = random
        self._left: list[str] = []
        """Paths whose triggers are to be removed when those of the new one stand."""
        self._waiting: set[Identifier] = set()
        """What does not stand yet over the path that we are moving to."""
        self._moving: tuple[float, str | None] | None = None
        """Since when, and from where."""
        self._opened: dict[str, float] = {}
        self.seen: dict[str, Endpoint] = {}
        """Paths' outer addresses, as the node sees them."""

    # What another file knows.

    def wanted(self) -> Iterator[Wanted]:
        """Return all triggers that this host wants."""
        raise NotImplementedError

    def arrived(self, came: i3.Arrived, now: float) -> list[Command]:
        """Take in a packet that triggers of ours led to us."""
        raise NotImplementedError

    def moved(self, now: float) -> list[Command]:
        """Return what is to be said when a hard move is over, or a path is there again."""
        raise NotImplementedError

    def absent(self, identifier: Identifier, now: float) -> list[Command]:
        """Take note that nobody has a trigger for an identifier that we sent to."""
        raise NotImplementedError

    # Orders.

    @property
    def network(self) -> str | None:
        """The network that is sent over."""
        return network_of(self.path) if self.path is not None else None

    def prober(self, network: str | None) -> Prober | None:
        """Return what is known of a network."""
        return self.paths.get(self._path_of.get(network or "", ""))

    def open_path(self, network: str, now: float) -> list[Command]:
        """Have a network; it is tested at once. One that has another address now is opened anew, after `close_path`."""
        if network in self._path_of:
            return []
        self._opens += 1
        path = self._path_of[network] = f"{network}\n{self._opens}"
        self.paths[path] = Prober(int.from_bytes(self._random(6)) << 8, now)
        self._opened[path] = now
        return self._probe(path, self.paths[path], now)

    def close_path(self, network: str, now: float) -> list[Command]:
        """Lose a network, at once."""
        path = self._path_of.pop(network, "")
        if self.paths.pop(path, None) is None:
            return []
        self.client.lost(path)
        self._opened.pop(path, None)
        self.seen.pop(path, None)
        if self.goal == path:
            self._end_move()
        soft, self.soft = self.soft, None
        self._left.append(path)
        if soft is not None and path == soft.old:
            return self._remove_left(now)
        if soft is not None and path == soft.new:
            self.path = soft.old  # its triggers stand
            return self._remove_left(now)
        if soft is not None:
            self.soft = soft
        if self.path == path:
            self.path = None
            self._end_move()
        elif self.path is not None and self._moving is None:
            return self._remove_left(now)
        return []

    def use(self, network: str, now: float) -> list[Command]:
        """Move to a network that is open."""
        path = self._path_of.get(network, "")
        if path not in self.paths or path == self.goal or (path == self.path and self.goal is None):
            return []
        commands = self._cancel(now)
        if path == self.path:
            return commands
        before = self.path
        self._moving = (now, before or (self._left[-1] if self._left else None))
        if before is not None and self.paths[before].works and not self.paths[before].silent:
            self.goal = path
        else:
            if before is not None:
                self._left.append(before)
            self.path = path
        if path in self._left:
            self._left.remove(path)
        wanted = list(self.wanted())
        standing = {each.identifier for each in wanted if path in self.client.stands(each.identifier)}
        self._waiting = {each.identifier for each in wanted} - standing
        for each in wanted:
            if each.identifier not in standing:
                commands += self.from_client(self.client.insert(each, path, now), now)
        return commands + self._perhaps_arrived(now)

    def _cancel(self, now: float) -> list[Command]:
        """Give up what was under way; the path in use stays."""
        commands: list[Command] = []
        soft, self.soft = self.soft, None
        if soft is not None:
            commands += self._remove(soft.old, now)
        if self.goal is not None:
            commands += self._remove(self.goal, now)
        self._end_move()
        return commands

    def _end_move(self) -> None:
        self.goal, self._moving = None, None
        self._waiting.clear()

    # Triggers.

    def insert(self, wanted: Wanted, now: float) -> list[Command]:
        """Let one more identifier lead to us."""
        commands: list[Command] = []
        for path in {self.path, self.goal} - {None}:
            assert path is not None
            commands += self.from_client(self.client.insert(wanted, path, now), now)
        return commands

    def insert_again(self, now: float) -> list[Command]:
        """Refresh all triggers at once: our address, as the node sees it, may have become another one."""
        commands: list[Command] = []
        for each in list(self.wanted()) if self.path is not None else []:
            assert self.path is not None
            commands += self.from_client(self.client.insert(each, self.path, now), now)
        return commands

    def remove_everywhere(self, wanted: Wanted, now: float) -> list[Command]:
        """Take one out again."""
        commands: list[Command] = []
        for path in self.client.paths_of(wanted.identifier):
            via = path if path in self.paths else self.path
            commands += self.from_client(self.client.remove(wanted, path, now, via), now)
        return commands

    def _remove(self, path: str, now: float) -> list[Command]:
        """Take out all triggers of a path."""
        via = path if path in self.paths and not self.paths[path].silent else self.path
        commands: list[Command] = []
        for each in list(self.wanted()):
            commands += self.from_client(self.client.remove(each, path, now, via), now)
        return commands

    def _remove_left(self, now: float) -> list[Command]:
        commands: list[Command] = []
        left, self._left = self._left, []
        for path in left:
            if path != self.path:
                commands += self._remove(path, now)
        return commands

    def _stands(self, identifier: Identifier, path: str, now: float) -> list[Command]:
        if path != (self.goal or self.path):
            return []
        self._waiting.discard(identifier)
        return self._perhaps_arrived(now)

    def _perhaps_arrived(self, now: float) -> list[Command]:
        if self._waiting or self._moving is None:
            return []
        began, came_from = self._moving
        goal = self.goal
        self._end_move()
        if goal is not None:
            assert self.path is not None
            self.soft = SoftHandover(self.path, goal, now)
            self.path = goal
            return [Moved(network_of(goal), _named(came_from), now - began, True)]
        assert self.path is not None
        told: list[Command] = [Moved(network_of(self.path), _named(came_from), now - began, False)]
        return told + self._remove_left(now) + self.moved(now)

    # Datagrams.

    def transmit(self, identifier: Identifier, payload: bytes, now: float) -> list[Command]:
        """Send to an identifier over the path in use; without one it is lost."""
        path = self.path
        if path is None:
            self.refused["no-path"] += 1
            return []
        prober = self.paths.get(path)
        if prober is not None:
            prober.send(now)
        sent = self.client.send((identifier,), payload, path, now)
        return [_out(each) for each in sent if isinstance(each, Transmit)]

    def received(self, network: str, datagram: bytes, source: Endpoint, now: float) -> list[Command]:
        """Take in a datagram that came over a network."""
        path = self._path_of.get(network, "")
        prober = self.paths.get(path)
        if prober is None or source not in self.client.nodes:
            self.refused["no-node"] += 1
            return []
        told: list[Command] = []
        if source == self.client.node:
            if datagram[:1] == _CHALLENGE:
                challenge = _challenge(datagram)
                if challenge is not None and challenge.number & PROBE_NUMBER:
                    return self._probed(path, prober, challenge, now)
            if prober.silent:
                told.append(PathWorks(network, prober.rtt.srtt or 0.0, True))
            prober.hear(now)
        return told + self.from_client(self.client.received(path, datagram, source, now), now)

    def _probed(self, path: str, prober: Prober, challenge: Challenge, now: float) -> list[Command]:
        worked, silent = prober.works, prober.silent
        if not prober.answered(challenge.number, now):
            return []
        self.client.nonce(path, self.client.node, challenge.nonce)
        self._opened.pop(path, None)
        return [PathWorks(network_of(path), prober.rtt.srtt or 0.0, worked)] if silent or not worked else []

    def from_client(self, commands: list[i3.Command], now: float) -> list[Command]:
        """Do what the rendezvous client says."""
        out: list[Command] = []
        for command in commands:
            match command:
                case Transmit():
                    if command.path in self.paths:
                        out.append(_out(command))
                case i3.Arrived():
                    out += self.arrived(command, now)
                case i3.TriggerStands(identifier, path, seen):
                    self.seen[path] = seen
                    out += self._stands(identifier, path, now)
                case i3.TriggerRefused(_, path, status):
                    self.refused[f"trigger-{status.name.lower()}"] += 1
                    out.append(
                        PathBlocked(network_of(path), f"the rendezvous node refuses a trigger ({status.name.lower()})")
                    )
                case i3.NotPresent(identifier):
                    out += self.absent(identifier, now)
                case i3.NodeSilent():
                    for prober in self.paths.values():
                        prober.restart(now)
        return out

    # Time.

    def path_deadline(self) -> float | None:
        """When `path_tick` wants to be called next."""
        times = [prober.due for prober in self.paths.values()]
        times += [opened + BLOCKED_AFTER for opened in self._opened.values()]
        if self.soft is not None:
            times.append(self.soft.due)
        if self.goal is not None and self._moving is not None:
            times.append(self._moving[0] + GIVE_UP)
        times += [due for due in (self.client.deadline(), self.sampler.deadline()) if due is not None]
        return min(times, default=None)

    def path_tick(self, now: float) -> list[Command]:
        """Do what is due."""
        commands = self.from_client(self.client.tick(now), now) + self._sample(now)
        for path, prober in list(self.paths.items()):
            if prober.judge(now):
                commands.append(PathSilent(network_of(path), now - prober.heard))
            if prober.due <= now:
                commands += self._probe(path, prober, now)
        for path, opened in list(self._opened.items()):
            if now >= opened + BLOCKED_AFTER:
                del self._opened[path]
                commands.append(PathBlocked(network_of(path), "no rendezvous node answers"))
        if self.goal is not None and self._moving is not None and now >= self._moving[0] + GIVE_UP:
            commands.append(MoveFailed(network_of(self.goal)))
            commands += self._cancel(now)
        return commands + self.look_at_soft(now)

    def _sample(self, now: float) -> list[Command]:
        """Look for a nearer node, if it is time; a path is measured anew where its node has changed."""
        self.sampler.use(self.path, now)
        node, told = self.client.node, self.sampler.tick(now)
        commands = self.from_client(told, now)
        for path, prober in self.paths.items() if node != self.client.node else ():
            prober.other_node()
            commands += self._probe(path, prober, now)
        return commands

    def look_at_soft(self, now: float) -> list[Command]:
        """End the soft handover, if it is time."""
        soft = self.soft
        loser = soft.loser(now) if soft is not None else None
        if soft is None or loser is None:
            return []
        self.soft = None
        if loser == soft.old:
            return self._remove(loser, now)
        self.path = soft.old
        return [MoveFailed(network_of(loser)), *self._remove(loser, now)]

    def _probe(self, path: str, prober: Prober, now: float) -> list[Command]:
        return [Transmit(network_of(path), self.client.node, prober.ask(now))]


_CHALLENGE: Final = bytes((CHALLENGE,))


def network_of(path: str) -> str:
    """Return the network of a path."""
    return path.partition("\n")[0]


def _named(path: str | None) -> str | None:
    return None if path is None else network_of(path)


def _out(sent: Transmit) -> Transmit:
    return Transmit(network_of(sent.path), sent.node, sent.data)


def _challenge(datagram: bytes) -> Challenge | None:
    try:
        message = parse(datagram)
    except RemoteProtocolError:
        return None
    return message if isinstance(message, Challenge) else None
