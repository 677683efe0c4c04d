"""A host's half of a rendezvous: keeps its triggers standing, over any of its networks, and sends to identifiers.

Each trigger on each *path* (a network of the host, with a socket of its own) is a `_Standing`:

    ASKING    sent, and sent again after 0.25 s, doubling to 2 s; `TRIES` without an answer: the next node
    STANDS    asked for again REFRESH (20 s) after the last answer
    REMOVING  as ASKING; after `TRIES` it is left to end by itself

A move is `insert` on the new path and then `remove` of the old one, told by way of the new (ROAM §5.2). Where packets
for an identifier go is cached for as long as the node says and asked for again every `CACHE_REFRESH` seconds of
sending. Only nodes that were configured are ever sent to, whatever a node says.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Final

from msgspec import Struct

from sojourn.errors import RemoteProtocolError
from sojourn.i3.challenge import NO_NONCE
from sojourn.i3.home import HomeIdentity
from sojourn.i3.identifier import Identifier, place_of, public
from sojourn.i3.packet import INSERT, REMOVE, Answer, Challenge, Data, Location, Request, Right, Status, parse
from sojourn.i3.proof import sign
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
_FOR_GOOD: Final = (Status.WRONG, Status.LOOP, Status.ELSEWHERE)


class Wanted(Struct, frozen=True):
    """A trigger that a host wants: from an identifier to itself, or to further identifiers."""

    identifier: Identifier
    right: Right
    evidence: bytes = b""
    """The secret of a KEY, the address of a HOME4; a SIGNED one is signed with the client's identity."""
    target: tuple[Identifier, ...] = ()


class Transmit(Struct, frozen=True):
    """Order: send a datagram over a path."""

    path: str
    node: Endpoint
    data: bytes


class TriggerStands(Struct, frozen=True):
    """Packets to this identifier now come over this path. Told once."""

    identifier: Identifier
    path: str
    seen: Endpoint
    """The path's outer address."""


class TriggerRefused(Struct, frozen=True):
    """The node doesn't want this trigger; asked for again after REFRESH where that may help."""

    identifier: Identifier
    path: str
    status: Status


class TriggerGone(Struct, frozen=True):
    """The trigger has been removed, or ends by itself soon."""

    identifier: Identifier
    path: str


class NodeSilent(Struct, frozen=True):
    """A node did not answer; everything is asked of the next one."""

    node: Endpoint


class NotPresent(Struct, frozen=True):
    """Nobody has a trigger for an identifier that we sent to."""

    identifier: Identifier


class Arrived(Struct, frozen=True):
    """A packet for us. The first of the stack is the identifier that led here."""

    path: str
    stack: tuple[Identifier, ...]
    payload: bytes


Command = Transmit | TriggerStands | TriggerRefused | TriggerGone | NodeSilent | NotPresent | Arrived


class State(Enum):
    """What a trigger of ours is doing."""

    ASKING = auto()
    STANDS = auto()
    REMOVING = auto()


class _Standing:
    def __init__(self, wanted: Wanted, path: str) -> None:
        self.wanted, self.path = wanted, path
        self.via = path
        """Where requests for it go out: another path when its own has gone."""
        self.state = State.ASKING
        self.number = 0
        self.tries = 0
        self.due: float | None = None
        self.seen: Endpoint | None = None

    def ask(self, state: State) -> None:
        self.state, self.tries = state, 0


class _Cached(Struct):
    node: Endpoint
    until: float
    asked: float


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
        self._standing: dict[tuple[Identifier, tuple[Identifier, ...], str], _Standing] = {}
        self._asked: dict[int, _Standing] = {}
        """By number of their newest request."""
        self._nonces: dict[tuple[str, Endpoint], bytes] = {}
        self._cache: OrderedDict[bytes, _Cached] = OrderedDict()
        self._number = 0

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
            standing = self._standing[key] = _Standing(wanted, path)
        standing.via = path
        standing.ask(State.ASKING)
        return self._ask(standing, now)

    def remove(self, wanted: Wanted, path: str, now: float, via: str | None = None) -> list[Command]:
        """Take a trigger of ours out again; `via`: say so over another path, because this one has gone."""
        standing = self._standing.get((wanted.identifier, wanted.target, path))
        if standing is None:
            return []
        standing.via = via or path
        standing.ask(State.REMOVING)
        return self._ask(standing, now)

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
            cached = self._cache[place] = _Cached(self.node, now + CACHE_REFRESH, float("-inf"))
            if len(self._cache) > MAX_CACHED:
                self._cache.popitem(last=False)
        self._cache.move_to_end(place)
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
        try:
            message = parse(datagram)
        except RemoteProtocolError:
            return []
        match message:
            case Data():
                return [Arrived(path, message.stack, message.payload)]
            case Challenge():
                return self._challenged(message, path, source, now)
            case Answer():
                return self._answered(message, path, source, now)
            case Location():
                return self._located(message, path, source, now)
            case _:
                return []

    # -- time

    def deadline(self) -> float | None:
        """When `tick` wants to be called next."""
        return min((one.due for one in self._standing.values() if one.due is not None), default=None)

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
        return commands

    # -- inside

    def _ask(self, standing: _Standing, now: float, nonce: bytes | None = None) -> list[Command]:
        self._asked.pop(standing.number, None)
        noise = int.from_bytes(self._random(_NUMBER_NOISE_BYTES))
        self._number = max(int(now * 1000) << 8 * _NUMBER_NOISE_BYTES | noise, self._number + 1 + noise)
        standing.number = self._number
        self._asked[standing.number] = standing
        standing.due = now + min(FIRST_WAIT * 2**standing.tries, LONGEST_WAIT)
        standing.tries += 1
        return [Transmit(standing.via, self.node, bytes(self._request(standing, nonce)))]

    def _request(self, standing: _Standing, nonce: bytes | None) -> Request:
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
            standing.due = now + REFRESH
            standing.tries = 0
            if answer.status in _FOR_GOOD:
                del self._standing[wanted.identifier, wanted.target, standing.path]
            return [TriggerRefused(wanted.identifier, standing.path, answer.status)]
        new = standing.seen != answer.seen
        standing.state, standing.seen, standing.due = State.STANDS, answer.seen, now + REFRESH
        return [TriggerStands(wanted.identifier, standing.path, answer.seen)] if new else []

    def _gone(self, standing: _Standing) -> list[Command]:
        self._asked.pop(standing.number, None)
        wanted = standing.wanted
        del self._standing[wanted.identifier, wanted.target, standing.path]
        return [TriggerGone(wanted.identifier, standing.path)]

    def _located(self, location: Location, path: str, source: Endpoint, now: float) -> list[Command]:
        cached = self._cache.get(place_of(location.identifier))
        if cached is None or cached.node != source or now - cached.asked > CACHE_REFRESH:
            return []  # not asked for
        self._nonces[path, source] = location.nonce
        cached.until = now + location.life
        if location.node in self.nodes:
            cached.node = location.node
        return [] if location.found else [NotPresent(location.identifier)]

    def _next_node(self, now: float) -> list[Command]:
        silent = self.nodes.pop(0)
        self.nodes.append(silent)
        self._cache.clear()
        commands: list[Command] = [NodeSilent(silent)]
        for standing in list(self._standing.values()):
            if standing.state is not State.REMOVING:
                standing.seen = None
                standing.ask(State.ASKING)
                commands += self._ask(standing, now)
        return commands


def public_trigger(identity: HomeIdentity) -> Wanted:
    """Return the trigger under which the owner of these keys is found by his home address."""
    return Wanted(public(identity.address), Right.SIGNED)
