"""How a ROAM proxy meets its peers: greetings, sessions, and which hosts it speaks to at all.

A Hello goes to a peer's public identifier, its Accept to the sender's; data follows under the keys of both. Where two
Hellos cross, that of the lower public key is the one that counts. A Hello that is not new is answered by one of our own
where there are no keys: a host whose clock was set back is met all the same, and a replay makes nobody meet. Keys are
renewed every 120 s. A home address says by itself which keys are right; of a peer that is known by address alone they
are asked for (`Who`).

What anybody can make this host do is bounded: greetings have shares (greetings.py), of `MAX_PEERS` unknown peers the
one that was silent for longest is forgotten.
"""

import ipaddress
from collections.abc import Callable, Iterator
from typing import Final

from msgspec import Struct

from sojourn.errors import RemoteProtocolError
from sojourn.i3 import handshake, proxy_header
from sojourn.i3.client import RendezvousClient, Wanted, public_trigger
from sojourn.i3.greetings import Greetings
from sojourn.i3.handshake import Greeting, Session
from sojourn.i3.home import HomeIdentity, HomeKeys
from sojourn.i3.identifier import Identifier, public
from sojourn.i3.peer import DEAF_AFTER, FIRST_AGAIN, GIVE_UP_AFTER, KEEP_ALIVE, LONGEST_AGAIN, Peer
from sojourn.i3.roam_commands import Command, PeerTold
from sojourn.i3.roam_paths import RoamPaths
from sojourn.model import Endpoint, TunnelId
from sojourn.packet.path_mtu import MIN_INNER_MTU

# Ours.
MAX_PEERS: Final = 256
"""Peers that are not configured."""
ASK_KEYS, ASK_KEYS_LONGEST = 1.0, 600.0
"""A peer that is known by address alone is asked for its keys so often, doubling; it may be away."""
CROSSED_TRIES: Final = 3
"""Hellos of ours that go before a peer's. If it answers none it does not take them: its own has to do."""
_INDEX_BYTES: Final = 3


class PeerKnown(Struct, frozen=True):
    """A peer as the configuration names it."""

    name: str
    home: str
    signing: bytes = b""
    """Its public keys, where they are known (32 bytes each); their address is `home`."""
    exchange: bytes = b""
    direct: bool = False
    """It may learn where we are, and packets may go there without a node (direct.py)."""


class Settings(Struct, frozen=True):
    """What the configuration says of the proxy."""

    nodes: tuple[Endpoint, ...]
    """The nearest first."""
    peers: tuple[PeerKnown, ...] = ()
    anyone: bool = False
    """Speak to hosts that are not configured, too: their addresses show their keys."""
    piggyback: float = 0.2
    """Seconds for which a private identifier waits for a packet that takes it along."""
    mtu: int = MIN_INNER_MTU
    """The largest inner packet by way of a node."""
    device_mtu: int = MIN_INNER_MTU
    """The largest inner packet that the TUN brings: what a direct path is to carry."""


class RoamSessions(RoamPaths):
    """Peers and their keys."""

    def __init__(
        self, identity: HomeIdentity, settings: Settings, random: Callable[[int], bytes], wall_offset: float
    ) -> None:
        """`wall_offset`: what added to `now` gives seconds of the wall clock."""
        super().__init__(RendezvousClient(settings.nodes, random, identity), random)
        self.identity, self.settings = identity, settings
        self.home = identity.address
        self.public = public(self.home)
        self.by_home: dict[bytes, Peer] = {}
        self._wall_offset = wall_offset
        self._trigger = public_trigger(identity)
        self._by_index: dict[TunnelId, tuple[Peer, Session | None]] = {}
        """Ours, of sessions and of greetings (None)."""
        self.on_session: Callable[[Session], None] = lambda _session: None
        """Called with each new session, before anything is sealed or opened under it."""
        self.on_session_gone: Callable[[TunnelId], None] = lambda _index: None
        self._dropped: list[Wanted] = []
        """Triggers of peers that were forgotten, until `session_tick` takes them out."""
        self._greetings = Greetings(identity)
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Take over which peers there are; those that stay go on as they are. Nodes stay what they were."""
        self.settings = settings
        known = {_packed(peer.home): peer for peer in settings.peers}
        for home, peer in list(self.by_home.items()):
            if peer.configured and home not in known:
                self._forget(peer)
        for home, told in known.items():
            keys = HomeKeys(told.signing, told.exchange) if told.signing else None
            peer = self.by_home.setdefault(home, Peer(told.name, told.home, keys, configured=True))
            peer.name, peer.configured, peer.keys = told.name, True, peer.keys or keys
            peer.direct = told.direct
            self._learned(peer, peer.keys)

    def wanted(self) -> Iterator[Wanted]:
        """Return the public trigger and all private ones."""
        yield self._trigger
        for peer in self.by_home.values():
            if peer.own is not None:
                yield peer.own
            if peer.previous is not None:
                yield peer.previous
            yield from peer.flows.wanted()

    def peer_at(self, home: str) -> Peer | None:
        """Return the peer of a home address; one that is not configured is made if that is allowed."""
        packed = _packed(home)
        peer = self.by_home.get(packed)
        if peer is None and self.settings.anyone and home != self.home:
            peer = self.by_home[packed] = Peer("", home, None, configured=False)
            others = [each for each in self.by_home.values() if not each.configured]
            if len(others) > MAX_PEERS:
                self._forget(min(others[:-1], key=lambda each: max(each.heard or 0.0, each.wanted_at)))
        return peer

    def _learned(self, peer: Peer, keys: HomeKeys | None) -> None:
        peer.keys = keys
        if not peer.configured:
            return
        if keys is not None:
            self._greetings.know(keys)
            peer.keys_at = None
        elif peer.keys_at is None:
            peer.keys_at = 0.0

    def _forget(self, peer: Peer) -> None:
        self.by_home.pop(_packed(peer.home), None)
        if peer.keys is not None:
            self._greetings.forget(peer.keys)
        self._dropped += [each for each in (peer.own, peer.previous, *peer.flows.wanted()) if each is not None]
        for index, session in [(index, session) for index, (whose, session) in self._by_index.items() if whose is peer]:
            del self._by_index[index]
            if session is not None:
                self.on_session_gone(index)

    # Greeting.

    def greet(self, peer: Peer, now: float) -> list[Command]:
        """Ask a peer for new keys, or whoever has its address for his."""
        if self.path is None:
            peer.greet_at = now + FIRST_AGAIN
            return []
        peer.greet_at = now + min(FIRST_AGAIN * 2**peer.tries, LONGEST_AGAIN)
        peer.tries += 1
        if peer.keys is None:
            return self.transmit(peer.public, handshake.who(self.public), now)
        if peer.greeting is not None:
            self._by_index.pop(peer.greeting.index, None)
        peer.greeting = self._greeting(peer.keys, int((now + self._wall_offset) * 1e9))
        self._by_index[peer.greeting.index] = (peer, None)
        # By turns, so that neither a flood of strangers' greetings nor an identifier that leads nowhere keeps keys old.
        private = peer.identifier if peer.tries % 2 and peer.usable(now) is not None else None
        directly = self.carry_greeting(peer, peer.greeting.message, now)
        return directly or self.transmit(private or peer.public, peer.greeting.message, now)

    def _greeting(self, keys: HomeKeys, wall_ns: int) -> Greeting:
        while True:
            made = Greeting(self.identity, keys, None, self._random(32), wall_ns)
            if made.index and made.index not in self._by_index:
                return made

    def hello(self, message: bytes, now: float, *, known: bool = False) -> list[Command]:
        """Answer a peer's Hello; RemoteProtocolError. `known`: it came to an identifier that only peers know."""
        self._greetings.hello(message, now, private=known)
        hello = handshake.read_hello(message, self.identity, self._random(32))
        peer = self.peer_at(hello.keys.address)
        if peer is None:
            raise RemoteProtocolError("a host that is no peer", reason="no-peer")
        if hello.wall_ns <= peer.newest_hello:
            if peer.usable(now) is not None or peer.greet_at is not None:
                raise RemoteProtocolError("a Hello that is not new", reason="replayed")
            self.refused["replayed"] += 1  # or its clock was set back: our own Hello shows whether it is there
            peer.identifier = None
            return self.greet(peer, now)
        ours_first = self.identity.keys.exchange < hello.keys.exchange and peer.tries <= CROSSED_TRIES
        if peer.greeting is not None and ours_first:
            raise RemoteProtocolError("our own Hello goes before it", reason="crossed")
        peer.newest_hello = hello.wall_ns
        self._learned(peer, hello.keys)
        accept, session = hello.accept(self._index(), now)
        self._end_greeting(peer)
        if peer.next is not None:
            self._end_session(peer.next)
        peer.next = session
        self._by_index[session.index] = (peer, session)
        self.on_session(session)
        return self.carry_greeting(peer, accept, now) or self.transmit(peer.public, accept, now)

    def accepted(self, message: bytes, now: float) -> list[Command]:
        """Take in the Accept of a Hello of ours; RemoteProtocolError."""
        peer, session = self._by_index.get(handshake.accept_index(message), (None, None))
        if peer is None or session is not None or peer.greeting is None:
            raise RemoteProtocolError("an Accept that nobody waits for", reason="no-session")
        made = peer.greeting.accepted(message, now)
        self._by_index[made.index] = (peer, made)
        self.on_session(made)
        peer.greeting = None
        self._end_greeting(peer)
        told = self._begin(peer, made)
        peer.heard, peer.unanswered_since = now, None
        return told + (self.send_held(peer, now) if peer.held else self.say(peer, proxy_header.EMPTY, now))

    def asked_who(self, message: bytes, now: float) -> list[Command]:
        """Tell our keys to whoever has our home address."""
        self._greetings.question(now)
        return self.transmit(handshake.read_who(message), handshake.keys_of(self.identity.keys), now)

    def told_keys(self, message: bytes, now: float) -> list[Command]:
        """Believe keys that make the home address of a peer whose keys we asked for."""
        keys = handshake.read_keys(message)
        peer = self.by_home.get(_packed(keys.address))
        if peer is None or peer.keys is not None or (peer.greet_at is None and not peer.key_asks):
            raise RemoteProtocolError("keys that nobody asked for", reason="no-peer")
        self._learned(peer, keys)
        if peer.greet_at is None:
            return []
        peer.tries = 0
        return self.greet(peer, now)

    def _ask_for_keys(self, peer: Peer, now: float) -> list[Command]:
        """Ask whose the address of a peer is before anything is to be sent: its greetings go before strangers' then."""
        peer.keys_at = now + min(ASK_KEYS * 2**peer.key_asks, ASK_KEYS_LONGEST)
        peer.key_asks = min(peer.key_asks + 1, 16)
        return self.transmit(peer.public, handshake.who(self.public), now) if peer.greet_at is None else []

    def _end_greeting(self, peer: Peer) -> None:
        if peer.greeting is not None:
            self._by_index.pop(peer.greeting.index, None)
        peer.greeting, peer.greet_at, peer.tries = None, None, 0

    def _begin(self, peer: Peer, session: Session) -> list[Command]:
        """Send under new keys from now on; the first ones are news."""
        for gone in (peer.before, peer.next):
            if gone is not None and gone is not session:
                self._end_session(gone)
        peer.before, peer.session, peer.next = peer.session, session, None
        session.used = True
        return [PeerTold(peer.home, "met")] if peer.heard is None else []

    def sessions_now(self) -> list[TunnelId]:
        """Return the indices of all sessions."""
        return [index for index, (_, session) in self._by_index.items() if session is not None]

    def _end_session(self, session: Session) -> None:
        self._by_index.pop(session.index, None)
        self.on_session_gone(session.index)

    def send_held(self, peer: Peer, now: float) -> list[Command]:
        """Send what waited for keys or for a network."""
        held = list(peer.held)
        peer.held.clear()
        return [order for packet in held for order in self.to_peer(peer, packet, now)]

    def session_of(self, datagram: bytes) -> tuple[Peer, Session]:
        """Return under which session a sealed packet claims to be; RemoteProtocolError."""
        peer, session = self._by_index.get(TunnelId(int.from_bytes(datagram[1:4])), (None, None))
        if peer is None or session is None:
            raise RemoteProtocolError("no such session", reason="no-session")
        return peer, session

    def confirm(self, peer: Peer, session: Session, now: float) -> list[Command]:
        """Take note that something was opened under a session: one that was accepted is used from now on."""
        if session is not peer.next:
            return []
        return self._begin(peer, session) + self.send_held(peer, now)

    def to_peer(self, peer: Peer, packet: bytes, now: float) -> list[Command]:
        """Send an inner packet to a peer."""
        raise NotImplementedError

    def carry(self, peer: Peer, datagram: bytes, now: float, target: Identifier | None = None) -> list[Command]:
        """Send what was sealed for a peer; `target`: by an identifier that the peer wants this flow sent to."""
        return self.transmit(target or peer.identifier or peer.public, datagram, now)

    def carry_greeting(self, peer: Peer, message: bytes, now: float) -> list[Command]:
        """Send a greeting without a node, where there is a way."""
        return []

    def say(self, peer: Peer, plaintext: bytes, now: float) -> list[Command]:
        """Seal something that is no data, and send it."""
        session = peer.usable(now)
        if session is None or self.path is None:
            return []
        peer.answer_at = None
        return self.carry(peer, session.sealer.seal(plaintext), now)

    def _index(self) -> TunnelId:
        while True:
            index = TunnelId(int.from_bytes(self._random(_INDEX_BYTES)))
            if index and index not in self._by_index:
                return index

    # Time.

    def session_deadline(self) -> float | None:
        """When `session_tick` wants to be called next."""
        times: list[float] = [0.0] if self._dropped else []
        for peer in self.by_home.values():
            keys_at = peer.keys_at if self.path is not None else None
            times += [at for at in (peer.greet_at, peer.answer_at, keys_at) if at is not None]
            if peer.unanswered_since is not None and peer.greet_at is None:
                times.append(peer.unanswered_since + DEAF_AFTER)
        return min(times, default=None)

    def session_tick(self, now: float) -> list[Command]:
        """Greet again, say that we are there, notice who is deaf."""
        dropped, self._dropped = self._dropped, []
        commands = [order for each in dropped for order in self.remove_everywhere(each, now)]
        for peer in list(self.by_home.values()):
            deaf = peer.unanswered_since is not None and peer.unanswered_since + DEAF_AFTER <= now
            if deaf and peer.greet_at is None:
                peer.identifier, peer.unanswered_since = None, None
                peer.flows.lost()
                commands += self.insert_again(now) + self.greet(peer, now)
            elif peer.greet_at is not None and peer.greet_at <= now:
                commands += self._greet_again(peer, now)
            if peer.keys_at is not None and peer.keys_at <= now and self.path is not None:
                commands += self._ask_for_keys(peer, now)
            if peer.answer_at is not None and peer.answer_at <= now:
                peer.answer_at = None
                commands += self.say(peer, proxy_header.EMPTY, now)
        return commands

    def _greet_again(self, peer: Peer, now: float) -> list[Command]:
        if now - peer.wanted_at > GIVE_UP_AFTER:
            self._end_greeting(peer)
            peer.held.clear()
            peer.unanswered_since = None
            return []
        told: list[Command] = []
        if peer.tries == 4 and not peer.usable(now):
            peer.problem = "does not answer"
            told.append(PeerTold(peer.home, "does not answer"))
        return told + self.greet(peer, now)

    def heard(self, peer: Peer, *, data: bool, now: float) -> None:
        """Note that something of a peer was opened."""
        peer.heard, peer.unanswered_since, peer.problem = now, None, ""
        if data and peer.answer_at is None:
            peer.answer_at = now + KEEP_ALIVE


def _packed(home: str) -> bytes:
    return ipaddress.ip_address(home).packed
