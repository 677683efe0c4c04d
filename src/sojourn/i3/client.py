"""A host's half of a rendezvous: keeps its triggers standing, over any of its networks, and sends to identifiers.

Each trigger on each *path* (a network of the host, with a socket of its own) is a `Standing`:

    ASKING    sent, and sent again after 0.25 s, doubling to 2 s; `TRIES` without an answer: the next node
    STANDS    asked for again REFRESH (20 s) after the last answer
    REMOVING  as ASKING; after `TRIES` it is left to end by itself

With several nodes a `Pulse` finds a dead one within a second of traffic, and all triggers are asked of the next one at
once; `prefer` does the same for a nearer one. A move is `insert` on the new path and then `remove` of the old one, told
by way of the new (ROAM §5.2). Where packets for an identifier go is cached for as long as the node says and asked for
again every `CACHE_REFRESH` seconds of sending. Only nodes that were configured are ever sent to, whatever a node says.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from sojourn.errors import LocalProtocolError, RemoteProtocolError
from sojourn.i3.challenge import NO_NONCE
from sojourn.i3.commands import Arrived as Arrived
from sojourn.i3.commands import Command as Command
from sojourn.i3.commands import NodeSilent as NodeSilent
from sojourn.i3.commands import NotPresent as NotPresent
from sojourn.i3.commands import Transmit as Transmit
from sojourn.i3.commands import TriggerGone as TriggerGone
from sojourn.i3.commands import TriggerRefused as TriggerRefused
from sojourn.i3.commands import TriggerStands as TriggerStands
from sojourn.i3.home import HomeIdentity
from sojourn.i3.identifier import Identifier, place_of, public
from sojourn.i3.packet import (
    ALONE,
    INSERT,
    REMOVE,
    Answer,
    Challenge,
    Data,
    Echo,
    Location,
    Request,
    Right,
    Status,
    parse,
)
from sojourn.i3.proof import sign
from sojourn.i3.pulse import Pulse, Silent
from sojourn.i3.standing import Cached, Standing, State
from sojourn.i3.standing import Wanted as Wanted
from sojourn.i3.table import REFRESH
from sojourn.model import Endpoint

# The protocol's (i3: six tries, a cache that is refreshed every 10 s).
TRIES: Final = 6
CACHE_REFRESH: Final = 10.0

# Ours.
FIRST_WAIT: Final = 0.25
LONGEST_WAIT: Final = 2.0
MAX_CACHED: Final = 1024
_NUMBER_NOISE_BYTES: Final = 2
_LEFT: Final = "\0"
"""Before the path of a trigger that is being removed because its host changed to another node."""
_FOR_GOOD: Final = (Status.WRONG, Status.LOOP, Status.ELSEWHERE)


class RendezvousClient:
    """Methods take what happened and return commands, as a machine does."""

    def __init__(
        self,
        nodes: Sequence[Endpoint],
        random: Callable[[int], bytes],
        identity: HomeIdentity | None = None,
    ) -> None:
        """`nodes`: the nearest first. `identity`: what SIGNED triggers are signed with."""
        self.nodes = list(nodes)
        self._random = random
        self._identity = identity
        self._standing: dict[tuple[Identifier, tuple[Identifier, ...], str], Standing] = {}
        self._asked: dict[int, Standing] = {}
        """By number of their newest request."""
        self._nonces: dict[tuple[str, Endpoint], bytes] = {}
        self._cache: OrderedDict[bytes, Cached] = OrderedDict()
        self._number = 0
        self._pulse = Pulse(random, self._keeps)
        self._lost: set[str] = set()

    @property
    def node(self) -> Endpoint:
        """The node that holds our triggers."""
        return self.nodes[0]

    # -- triggers

    def insert(self, wanted: Wanted, path: str, now: float) -> list[Command]:
        """Let an identifier lead to us over `path`, until it is removed; on several paths at once if wanted."""
        key = (wanted.identifier, wanted.target, path)
        standing = self._standing.get(key)
        if standing is None:
            standing = self._standing[key] = Standing(wanted, path)
        elif standing.state is State.REMOVING:
            standing.seen = None  # that it stands again is news
        self._lost.discard(path)
        standing.via = path
        standing.ask(State.ASKING)
        return self._ask(standing, now)

    def remove(self, wanted: Wanted, path: str, now: float, via: str | None = None) -> list[Command]:
        """Take a trigger of ours out again; `via`: say so over another path, because this one has gone."""
        standing = self._standing.get((wanted.identifier, wanted.target, path))
        if standing is None:
            return []
        if standing.seen is None and via not in (None, path):
            return self._gone(standing)  # no node is known to have it; zeros would mean the address of `via`
        standing.via = via or path
        standing.ask(State.REMOVING)
        return self._ask(standing, now)

    def lost(self, path: str) -> None:
        """Ask nothing over a path that has gone. Its triggers end by themselves, or are removed over another one."""
        self._lost.add(path)
        for standing in self._standing.values():
            if standing.via == path:
                self._asked.pop(standing.number, None)
                standing.due = None

    def nonce(self, path: str, node: Endpoint, nonce: bytes) -> None:
        """Take over a nonce that was got otherwise: the next request needs no challenge."""
        self._nonces[path, node] = nonce

    def paths_of(self, identifier: Identifier) -> list[str]:
        """Return the paths over which packets to an identifier come, or are asked to come."""
        known = self._standing.values()
        return [one.path for one in known if one.wanted.identifier == identifier and one.state is not State.REMOVING]

    def stands(self, identifier: Identifier) -> list[str]:
        """Return the paths over which packets to an identifier come."""
        known = self._standing.values()
        return [one.path for one in known if one.wanted.identifier == identifier and one.state is State.STANDS]

    # -- packets

    def send(self, stack: tuple[Identifier, ...], payload: bytes, path: str, now: float) -> list[Command]:
        """Send a payload to the first identifier of a stack."""
        place = place_of(stack[0])
        cached = self._cache.get(place)
        if cached is None or cached.until <= now:
            cached = self._cache[place] = Cached(self.node, now + CACHE_REFRESH, float("-inf"))
            if len(self._cache) > MAX_CACHED:
                self._cache.popitem(last=False)
        self._cache.move_to_end(place)
        self._use(path, cached.node, now)
        nonce = None
        if now - cached.asked >= CACHE_REFRESH:
            nonce = self._nonces.get((path, cached.node), NO_NONCE)
            if nonce != NO_NONCE:  # else the answer is a challenge, and the next packet asks again
                cached.asked = now
        return [Transmit(path, cached.node, bytes(Data(stack, payload, nonce=nonce)))]

    def received(self, path: str, datagram: bytes, source: Endpoint, now: float) -> list[Command]:
        """Take in a datagram that came over a path. What is no node's, or makes no sense, is dropped."""
        if source not in self.nodes:
            return []
        self._pulse.heard(path, source, now)
        try:
            message = parse(datagram)
        except RemoteProtocolError:
            return []
        match message:
            case Data():
                self._use(path, source, now)
                return [Arrived(path, message.stack, message.payload)]
            case Challenge():
                return self._challenged(message, path, source, now)
            case Answer():
                return self._answered(message, path, source, now)
            case Location():
                return self._located(message, path, source, now)
            case Echo():
                self._pulse.echoed(path, source, message, now)
                return []
            case _:
                return []

    # -- time

    def deadline(self) -> float | None:
        """When `tick` wants to be called next."""
        dues = [one.due for one in self._standing.values() if one.due is not None]
        pulse = self._pulse.deadline()
        return min(dues if pulse is None else [pulse, *dues], default=None)

    def tick(self, now: float) -> list[Command]:
        """Refresh, ask again, and give up what is not answered."""
        commands: list[Command] = []
        for standing in list(self._standing.values()):
            if standing.due is None or standing.due > now:
                continue
            if standing.state is State.STANDS:
                standing.ask(State.ASKING)
            if standing.tries < TRIES:
                commands += self._ask(standing, now)
            elif standing.state is State.REMOVING:
                commands += self._gone(standing)
            else:
                commands += self._next_node(now)
        probes, silent = self._pulse.tick(self.nodes, now)
        commands += [Transmit(*probe) for probe in probes]
        for one in silent:
            commands += self._silent(one, now)
        return commands

    # -- which node

    def measure(self, path: str, now: float, nodes: Sequence[Endpoint] | None = None) -> list[Command]:
        """Ask nodes how far they are (all, unless some are named); `round_trip` knows once they have answered."""
        asked = [node for node in (self.nodes if nodes is None else nodes) if node in self.nodes]
        return [Transmit(*probe) for probe in self._pulse.measure(path, asked, now)]

    def round_trip(self, path: str, node: Endpoint, since: float, now: float) -> float | None:
        """Return how far a node is by its newest echo; None: none has come since, or it is silent."""
        return None if self._pulse.avoided(node, now) else self._pulse.newest(path, node, since)

    def measured(self, path: str, since: float, now: float) -> dict[Endpoint, float]:
        """Return how far the nodes are that share their triggers with ours, ours included, by their newest echo."""
        group = self._pulse.group(self.node)
        alike = [
            node for node in self.nodes
            if node == self.node or (group != ALONE and self._pulse.group(node) == group)
        ]  # fmt: skip
        known = {node: self.round_trip(path, node, since, now) for node in alike}
        return {node: took for node, took in known.items() if took is not None}

    def prefer(self, node: Endpoint, now: float) -> list[Command]:
        """Keep our triggers at this node from now on. One that shares them with ours loses nothing by it.

        LocalProtocolError if the node isn't one of ours.
        """
        if node not in self.nodes:
            raise LocalProtocolError(f"{node} is none of the nodes that this client was given")
        return self._change(node, now) if node != self.node else []

    # -- inside

    def _keeps(self, path: str, node: Endpoint) -> bool:
        return node == self.node and any(one.via == path for one in self._standing.values())

    def _use(self, path: str, node: Endpoint, now: float) -> None:
        if len(self.nodes) > 1:
            self._pulse.use(path, node, now)

    def _ask(self, standing: Standing, now: float, nonce: bytes | None = None) -> list[Command]:
        self._asked.pop(standing.number, None)
        noise = int.from_bytes(self._random(_NUMBER_NOISE_BYTES))
        self._number = max(int(now * 1000) << 8 * _NUMBER_NOISE_BYTES | noise, self._number + 1 + noise)
        standing.number = self._number
        self._asked[standing.number] = standing
        standing.due = now + min(FIRST_WAIT * 2**standing.tries, LONGEST_WAIT)
        standing.tries += 1
        if standing.seen is None or standing.tries > 1:  # a first refresh alone is no reason to be quick
            self._use(standing.via, self.node, now)
        return [Transmit(standing.via, self.node, bytes(self._request(standing, nonce)))]

    def _request(self, standing: Standing, nonce: bytes | None) -> Request:
        wanted, removing = standing.wanted, standing.state is State.REMOVING
        request = Request(
            REMOVE if removing else INSERT,
            wanted.right,
            standing.number,
            wanted.identifier,
            wanted.evidence,
            nonce or self._nonces.get((standing.via, self.node), NO_NONCE),
            wanted.target,
            standing.seen if removing and not wanted.target else None,
        )
        if wanted.right is not Right.SIGNED:
            return request
        assert self._identity is not None, "a SIGNED trigger needs an identity"
        return sign(request, self._identity, self.node)

    def _challenged(self, challenge: Challenge, path: str, source: Endpoint, now: float) -> list[Command]:
        standing = self._asked.get(challenge.number)
        if standing is None:
            cached = next((one for one in self._cache.values() if one.node == source), None)
            if challenge.number == 0 and cached is not None:  # a packet's: the next one asks with this
                self._nonces[path, source] = challenge.nonce
            return []
        if standing.via != path or source != self.node:
            return []
        self._nonces[path, source] = challenge.nonce
        return self._ask(standing, now) if standing.tries < TRIES else []

    def _answered(self, answer: Answer, path: str, source: Endpoint, now: float) -> list[Command]:
        standing = self._asked.get(answer.number)
        if standing is None or standing.via != path or source != self.node:
            return []
        del self._asked[answer.number]
        self._nonces[path, source] = answer.nonce
        wanted = standing.wanted
        if standing.state is State.REMOVING:
            return self._gone(standing)
        if answer.status is not Status.INSERTED:
            standing.due = now + (LONGEST_WAIT if answer.status is Status.LATER else REFRESH)
            standing.tries = 0
            if answer.status in _FOR_GOOD:
                del self._standing[wanted.identifier, wanted.target, standing.path]
            return [TriggerRefused(wanted.identifier, standing.path, answer.status)]
        new, left = standing.seen != answer.seen, standing.left
        standing.state, standing.seen, standing.due = State.STANDS, answer.seen, now + REFRESH
        told: list[Command] = [TriggerStands(wanted.identifier, standing.path, answer.seen)] if new else []
        standing.left = None
        shared = self._pulse.group(self.node) != ALONE
        return told + self._leave(standing, left, now) if shared and left not in (None, answer.seen) else told

    def _leave(self, standing: Standing, left: Endpoint | None, now: float) -> list[Command]:
        """Take out the trigger that an earlier node has for us, at another address of ours than this one's."""
        wanted, path = standing.wanted, _LEFT + standing.path
        before = self._standing.get((wanted.identifier, wanted.target, path))
        if before is not None:
            self._asked.pop(before.number, None)
        old = self._standing[wanted.identifier, wanted.target, path] = Standing(wanted, path)
        old.via, old.seen, old.quiet = standing.via, left, True
        old.ask(State.REMOVING)
        return self._ask(old, now)

    def _gone(self, standing: Standing) -> list[Command]:
        self._asked.pop(standing.number, None)
        wanted = standing.wanted
        del self._standing[wanted.identifier, wanted.target, standing.path]
        return [] if standing.quiet else [TriggerGone(wanted.identifier, standing.path)]

    def _located(self, location: Location, path: str, source: Endpoint, now: float) -> list[Command]:
        cached = self._cache.get(place_of(location.identifier))
        if cached is None or cached.node != source or now - cached.asked > CACHE_REFRESH:
            return []  # not asked for
        self._nonces[path, source] = location.nonce
        cached.until = now + location.life
        if location.node in self.nodes and not self._pulse.avoided(location.node, now):
            cached.node = location.node
        return [] if location.found else [NotPresent(location.identifier)]

    def _next_node(self, now: float) -> list[Command]:
        if len(self.nodes) == 1:
            return [NodeSilent(self.node), *self._again(now)]
        return self._silent(Silent("", self.node, self.nodes[1]), now)

    def _silent(self, silent: Silent, now: float) -> list[Command]:
        """Send nothing more to a node; if it has our triggers, ask another one for them."""
        self._cache = OrderedDict((place, one) for place, one in self._cache.items() if one.node != silent.node)
        if silent.node != self.node:
            return []
        commands = self._change(silent.instead, now)
        self.nodes.remove(silent.node)
        self.nodes.append(silent.node)
        return [NodeSilent(silent.node), *commands]

    def _change(self, node: Endpoint, now: float) -> list[Command]:
        """Ask another node for all triggers. One that shares them takes its fellows' nonces."""
        before, group = self.node, self._pulse.group(self.node)
        self.nodes.remove(node)
        self.nodes.insert(0, node)
        for (path, of), nonce in list(self._nonces.items()):
            if of == before and group != ALONE and self._pulse.group(node) == group:
                self._nonces[path, node] = nonce
        self._cache = OrderedDict((place, one) for place, one in self._cache.items() if one.node != before)
        return self._again(now)

    def _again(self, now: float) -> list[Command]:
        commands: list[Command] = []
        for standing in list(self._standing.values()):
            if standing.state is not State.REMOVING and standing.via not in self._lost:
                standing.left, standing.seen = standing.seen or standing.left, None
                standing.ask(State.ASKING)
                commands += self._ask(standing, now)
        return commands


def public_trigger(identity: HomeIdentity) -> Wanted:
    """Return the trigger under which the owner of these keys is found by his home address."""
    return Wanted(public(identity.address), Right.SIGNED)
