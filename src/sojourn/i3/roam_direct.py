"""A ROAM proxy's direct paths: which peers have an agent (direct.py), where this host is, and what is sealed and sent.

Checks and packets leave by the sockets that rendezvous nodes are spoken to with, so that a NAT maps them alike. What
comes there from no node is taken if it is sealed under a session of a peer that this host allows a direct path, and
read as what came by a node is, but for identifiers, which it needs none of.
"""

from collections.abc import Callable
from typing import Final

from sojourn.errors import RemoteProtocolError
from sojourn.i3 import direct_message
from sojourn.i3.client import Transmit
from sojourn.i3.direct import Agent
from sojourn.i3.direct_message import Answer, Carried, Check, Offer, SizeProbe
from sojourn.i3.direct_orders import Say, SendSealed, SendTo
from sojourn.i3.direct_pairs import Place
from sojourn.i3.handshake import ACCEPT, HELLO, SEALED, Session
from sojourn.i3.home import HomeIdentity
from sojourn.i3.identifier import Identifier
from sojourn.i3.peer import END_AFTER, Peer
from sojourn.i3.roam_commands import Command, PeerTold
from sojourn.i3.roam_paths import network_of
from sojourn.i3.roam_sessions import RoamSessions, Settings
from sojourn.model import Endpoint, TunnelId
from sojourn.packet.ip import complete_checksum
from sojourn.packet.seal import OVERHEAD_BYTES, Hint

# Ours.
REFUSED_EVERY: Final = 5.0
"""Who wants a direct path and may not have one is told so at most so often."""


class RoamDirect(RoamSessions):
    """What a proxy does beside sending by way of nodes."""

    def __init__(
        self, identity: HomeIdentity, settings: Settings, random: Callable[[int], bytes], wall_offset: float
    ) -> None:
        self._locals: dict[str, Endpoint] = {}
        """Addresses of the sockets, by path."""
        self._place: Place | None = None
        self._news: set[str] = set()
        """Peers that have new keys, or may be allowed something else, until the next tick."""
        super().__init__(identity, settings, random, wall_offset)

    def opened(
        self, peer: Peer, session: Session, plaintext: bytes, now: float, identifier: Identifier | None
    ) -> list[Command]:
        """Do with a packet what is done with one that came by a node; RemoteProtocolError."""
        raise NotImplementedError

    def configure(self, settings: Settings) -> None:
        """Take over which peers there are, and which may have a direct path."""
        super().configure(settings)
        self._news.update(peer.home for peer in self.by_home.values())
        for _, agent in self._agents():
            agent.mtu.device_mtu = settings.device_mtu

    # Who has an agent, and where we are.

    def local(self, network: str, endpoint: Endpoint | None) -> None:
        """Note the address of a network's socket."""
        path = self._path_of.get(network)
        if path is not None and endpoint is not None:
            self._locals[path] = endpoint

    def use(self, network: str, now: float) -> list[Command]:
        """Move to a network that is open."""
        return super().use(network, now) + self.follow(now)

    def close_path(self, network: str, now: float) -> list[Command]:
        """Lose a network, at once, and the direct paths over it."""
        path = self._path_of.get(network, "")
        commands = super().close_path(network, now)
        self._locals.pop(path, None)
        if self._place is not None and self._place.path == path:
            self._place = None
        for peer, agent in self._agents():
            agent.path_gone(path, now)
            commands += self._carry_out(peer, now)
        return commands

    def _agents(self) -> list[tuple[Peer, Agent]]:
        return [(peer, peer.agent) for peer in self.by_home.values() if peer.agent is not None]

    def _agent_of(self, peer: Peer, now: float) -> Agent | None:
        """Return a peer's agent; it is made when there are keys first, and ends when it is not allowed any more."""
        if peer.agent is None and peer.direct and peer.keys is not None:
            controlling = self.identity.keys.exchange < peer.keys.exchange
            mtu = self.settings.device_mtu
            peer.agent = Agent(self._random, now, controlling=controlling, device_mtu=mtu)
            if self._place is not None:
                peer.agent.move(self._place, now)
        return peer.agent

    def follow(self, now: float) -> list[Command]:
        """Tell the agents where we are now, if that is elsewhere."""
        path = self.path
        local, seen = self._locals.get(path or ""), self.seen.get(path or "")
        if path is None or local is None or seen is None:
            return []
        place = Place(path, local, seen)
        if place == self._place:
            return []
        self._place = place
        commands: list[Command] = []
        for peer, agent in self._agents():
            agent.move(place, now)
            commands += self._carry_out(peer, now)
        return commands

    def _begin(self, peer: Peer, session: Session) -> list[Command]:
        self._news.add(peer.home)
        return super()._begin(peer, session)

    # What is sent.

    def carry(self, peer: Peer, datagram: bytes, now: float, target: Identifier | None = None) -> list[Command]:
        """Send what was sealed for a peer: directly where that works, else by way of the node."""
        pair = peer.agent.use(datagram, now) if peer.agent is not None else None
        if pair is None:
            return super().carry(peer, datagram, now, target)
        return [Transmit(network_of(pair.path), pair.remote, datagram)]

    def carry_greeting(self, peer: Peer, message: bytes, now: float) -> list[Command]:
        """Send a greeting to a peer whose direct path works, by turns with the node: there may be none any more."""
        pair = peer.agent.selected if peer.agent is not None else None
        session = peer.usable(now)
        if pair is None or session is None or (message[0] == HELLO and peer.tries % 2 == 0):
            return []
        return [Transmit(network_of(pair.path), pair.remote, session.sealer.seal(bytes(Carried(message))))]

    def _carry_out(self, peer: Peer, now: float) -> list[Command]:
        """Do what a peer's agent wants."""
        agent, session = peer.agent, peer.usable(now)
        if agent is None:
            return []
        orders, agent.out = agent.out, []
        commands: list[Command] = []
        for order in orders:
            match order:
                case Say(plaintext) if session is not None:
                    commands += self.transmit(peer.identifier or peer.public, session.sealer.seal(plaintext), now)
                case SendTo(path, remote, plaintext, whole) if session is not None and path in self.paths:
                    commands.append(Transmit(network_of(path), remote, session.sealer.seal(plaintext), whole))
                case SendSealed(datagram) if self.path is not None:
                    commands += self.transmit(peer.identifier or peer.public, datagram, now)
                case Say() | SendTo() | SendSealed():
                    self.refused["no-session"] += session is None
                case _:
                    commands.append(PeerTold(peer.home, self._told(agent)))
        return commands

    def _told(self, agent: Agent) -> str:
        if agent.selected is None:
            return f"is reached by way of a rendezvous node: {agent.why}"
        return f"is reached directly over {network_of(agent.selected.path)}"

    # What comes.

    def received(self, network: str, datagram: bytes, source: Endpoint, now: float) -> list[Command]:
        """Take in a datagram that came over a network; a node's messages begin below 0x20, a peer's from 0x80."""
        if source in self.client.nodes or not datagram or not datagram[0] & SEALED:
            return super().received(network, datagram, source, now) + self.follow(now)
        try:
            return self._came_directly(network, datagram, source, now)
        except RemoteProtocolError as error:
            self.refused[error.reason] += 1
            return []

    def _came_directly(self, network: str, datagram: bytes, source: Endpoint, now: float) -> list[Command]:
        path = self._path_of.get(network)
        peer, session = self.session_of(datagram)
        if path is None or peer.agent is None:
            raise RemoteProtocolError("from no node, and from no peer that may", reason="not-direct")
        if now - session.began > END_AFTER:
            raise RemoteProtocolError("keys that are too old", reason="old-keys")
        try:
            opened = session.opener.open(datagram)
        except RemoteProtocolError as error:
            peer.duplicates += error.reason == "replayed"
            raise
        peer.agent.heard(path, source, now)
        return self._read(peer, session, _finished(opened.plaintext, opened.hint), path, source, now)

    # What another has sealed and opened for us (datapath/core_peers.py).

    def opened_elsewhere(
        self, network: str, index: TunnelId, opened: tuple[bytes, Hint], source: Endpoint, now: float
    ) -> list[Command]:
        """Take in what was opened already: plaintext and hint."""
        path = self._path_of.get(network)
        peer, session = self._by_index.get(index, (None, None))
        if path is None or peer is None or session is None or peer.agent is None:
            self.refused["not-direct"] += 1
            return []
        peer.agent.heard(path, source, now)
        try:
            return self._read(peer, session, _finished(*opened), path, source, now)
        except RemoteProtocolError as error:
            self.refused[error.reason] += 1
            return []

    def done_elsewhere(self, index: TunnelId, came: float, left: float, counts: tuple[int, int, int, int]) -> None:
        """Note packets of a peer that we did not see: when the last one came and left (0: none).

        `counts`: packets and bytes that came, packets and bytes that left.
        """
        peer, session = self._by_index.get(index, (None, None))
        if peer is None or session is None or peer.agent is None:
            return
        peer.packets_in += counts[0]
        peer.bytes_in += max(counts[1] - counts[0] * OVERHEAD_BYTES, 0)
        peer.packets_out += counts[2]
        peer.bytes_out += max(counts[3] - counts[2] * OVERHEAD_BYTES, 0)
        if came:
            self.heard(peer, data=True, now=came)
        if left:
            peer.wanted_at, peer.answer_at = left, None
            if peer.unanswered_since is None and left > came:
                peer.unanswered_since = left
        peer.agent.used_elsewhere(came, left)

    def _read(
        self, peer: Peer, session: Session, plaintext: bytes, path: str, source: Endpoint, now: float
    ) -> list[Command]:
        if plaintext[0] >> 4 != direct_message.NIBBLE:
            return self.opened(peer, session, plaintext, now, None)
        told = self.confirm(peer, session, now)
        self.heard(peer, data=False, now=now)
        agent, message = peer.agent, direct_message.parse(plaintext)
        assert agent is not None
        match message:
            case Check():
                agent.checked(message, path, source, now)
            case SizeProbe():
                agent.probed(message, path, source, now)
            case Answer():
                agent.answered(message, path, source, now)
            case Carried(greeting) if greeting[:1] == bytes((HELLO,)):
                return told + self.hello(greeting, now, known=True)
            case Carried(greeting) if greeting[:1] == bytes((ACCEPT,)):
                return told + self.accepted(greeting, now)
            case _:
                raise RemoteProtocolError("what goes by way of nodes only", reason="plaintext")
        return told + self._carry_out(peer, now)

    def told_by_node(self, peer: Peer, plaintext: bytes, now: float) -> list[Command]:
        """Take in what a peer said about direct paths by way of a node; RemoteProtocolError."""
        message = direct_message.parse(plaintext)
        if not isinstance(message, Offer):
            raise RemoteProtocolError("what goes from address to address only", reason="plaintext")
        agent = self._agent_of(peer, now)
        if agent is None:
            return self._not_here(peer, message, now)
        agent.offered(message, now)
        return self._carry_out(peer, now)

    def _not_here(self, peer: Peer, offer: Offer, now: float) -> list[Command]:
        """Tell a peer that wants a direct path that it is not allowed here."""
        self.refused["not-direct"] += 1
        session = peer.usable(now)
        if not offer.wants or session is None or now - peer.refused_at < REFUSED_EVERY:
            return []
        peer.refused_at = now
        return self._say_no(peer, session, offer.number, now)

    def _say_no(self, peer: Peer, session: Session, had: int, now: float) -> list[Command]:
        no = Offer(False, int.from_bytes(self._random(4)) << 32 | 1, had)
        return self.transmit(peer.identifier or peer.public, session.sealer.seal(bytes(no)), now)

    # Time.

    def forgive(self) -> None:
        """Count missing answers from now on only: we did not run."""
        for _, agent in self._agents():
            if agent.selected is not None:
                agent.selected.outstanding.clear()

    def session_deadline(self) -> float | None:
        """When `session_tick` wants to be called next."""
        if self._news:
            return 0.0
        times = [agent.deadline() for _, agent in self._agents()]
        times.append(super().session_deadline())
        return min((at for at in times if at is not None), default=None)

    def session_tick(self, now: float) -> list[Command]:
        """Do what is due, of agents too; one whose keys have ended, or that is not allowed any more, ends."""
        commands = super().session_tick(now) + self.follow(now)
        news, self._news = self._news, set()
        for peer in [peer for peer in self.by_home.values() if peer.home in news and peer.usable(now) is not None]:
            met = self._agent_of(peer, now)
            if met is not None:
                met.wake(now)
        for peer, agent in self._agents():
            session = peer.usable(now)
            if not peer.direct:
                peer.agent = None
                commands += self._say_no(peer, session, 0, now) if session is not None else []
            elif session is None:
                agent.end()
            else:
                due = agent.deadline()
                if due is not None and due <= now:
                    agent.tick(now)
                if agent.selected is not None and peer.renew(session, now):
                    commands += self.greet(peer, now)
                commands += self._carry_out(peer, now)
        return commands


def _finished(plaintext: bytes, hint: Hint) -> bytes:
    """Return a packet with the checksum that its sender has left to us; RemoteProtocolError."""
    if not hint & Hint.PARTIAL:
        return plaintext
    packet = bytearray(plaintext)
    complete_checksum(packet)
    return bytes(packet)
