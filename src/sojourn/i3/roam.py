"""The ROAM proxy of a host: packets between home addresses, over i3, while both ends may move (ROAM §5.2).

    ip_receive   a packet for a peer: sealed, and sent to the private identifier that the translation table has for its
                 home address, else to H(home address). If the peer is owed our private identifier, it goes with it
    i3_receive   a packet that a trigger of ours led here: with ID the translation table learns where its sender is
                 sent to from now on; with DATA the packet goes to its application. If it came to our public identifier,
                 or to our previous private one, its sender lacks our private one: it is owed, for 200 ms, then alone

Each peer gets a private identifier of its own, so that none can listen to another's. Peers see identifiers, and nodes
see identifiers: where a host is, its peers are never told. A move is roam_paths.py's, keys are roam_sessions.py's.
"""

from typing import Final

from sojourn.errors import RemoteProtocolError
from sojourn.i3 import commands as i3
from sojourn.i3 import direct_message, handshake, proxy_header
from sojourn.i3.client import Wanted
from sojourn.i3.flow_triggers import MOST_OWN, NO_FLOW, FlowPorts, OwnTrigger, ports_of
from sojourn.i3.handshake import Session
from sojourn.i3.identifier import KEY_BYTES, PREFIX_BYTES, Identifier, private
from sojourn.i3.packet import Right
from sojourn.i3.peer import END_AFTER, Peer
from sojourn.i3.proxy_header import FLOW_BYTES, PIGGYBACK_BYTES, ProxyHeader
from sojourn.i3.roam_commands import Command, Deliver, PeerTold, SendAgain
from sojourn.i3.roam_direct import RoamDirect

# Ours.
PREVIOUS_FOR: Final = 30.0
"""Seconds for which a previous private identifier is kept once the new one is in use."""
AGAIN_EVERY: Final = 0.1
"""A peer may ask so often for what was sent last; sooner it waits."""
ASK_WAIT: Final = 0.1
ASKS: Final = 4
"""After a move it is asked so often, at intervals that double, until something is heard of it."""
TALKED_WITHIN: Final = 60.0
"""Who was heard so lately is told when we have moved."""


class RoamProxy(RoamDirect):
    """A machine, but for its names: what happened is a method's, and commands come back."""

    # A host's own packets.

    def ip_receive(self, packet: bytes, destination: bytes, now: float, *, own_trigger: bool = False) -> list[Command]:
        """Take a packet for a peer; `destination`: its packed home address. RemoteProtocolError: nobody's.

        `own_trigger`: its flow gets a private identifier of its own, if there is room for one more.
        """
        peer = self.by_home.get(destination)
        if peer is None:
            raise RemoteProtocolError("nobody's home address", reason="no-peer")
        peer.wanted_at = now
        given = self._own_trigger(peer, packet, now) if own_trigger else []
        return given + self.to_peer(peer, packet, now)

    def to_peer(self, peer: Peer, packet: bytes, now: float) -> list[Command]:
        """Seal a packet and send it; without keys, or while there is no network, it waits."""
        session = peer.usable(now)
        if session is None or self.path is None:
            peer.held.append(packet)
            return self.greet(peer, now) if peer.greet_at is None else []
        renewal = self.greet(peer, now) if peer.renew(session, now) else []
        peer.packets_out += 1
        peer.bytes_out += len(packet)
        flow = peer.flows.flow_of(packet)
        own = peer.flows.own.get(flow) if flow is not None else None
        if own is not None and own.owed is not None and self._may_take_along(own.wanted, packet, FLOW_BYTES):
            packet, own.owed = bytes(ProxyHeader(own.wanted.identifier, packet=packet, flow=flow)), None
        elif peer.owed is not None and peer.own is not None and self._may_take_along(peer.own, packet):
            packet, peer.owed = bytes(ProxyHeader(peer.own.identifier, packet=packet)), None
        peer.answer_at = None
        if peer.unanswered_since is None:
            peer.unanswered_since = now
        if session.sealer.exhausted():
            session.sealer.step()
        return self.carry(peer, session.sealer.seal(packet), now, peer.flows.target(flow)) + renewal

    def _may_take_along(self, wanted: Wanted, packet: bytes, more: int = 0) -> bool:
        fits = len(packet) + PIGGYBACK_BYTES + more <= self.settings.mtu
        return fits and bool(self.client.stands(wanted.identifier))

    # What comes.

    def arrived(self, came: i3.Arrived, now: float) -> list[Command]:
        """Take in what a trigger of ours led here; what is refused is counted."""
        try:
            return self.i3_receive(came, now)
        except RemoteProtocolError as error:
            self.refused[error.reason] += 1
            return []

    def i3_receive(self, came: i3.Arrived, now: float) -> list[Command]:
        """Do what ROAM's i3_receive does; RemoteProtocolError."""
        payload = came.payload
        kind = payload[0] if payload else 0
        if kind & handshake.SEALED:
            return self._sealed(came, now)
        match kind:
            case handshake.HELLO:
                return self.hello(payload, now, known=came.stack[0] != self.public)
            case handshake.ACCEPT:
                return self.accepted(payload, now)
            case handshake.WHO:
                return self.asked_who(payload, now)
            case handshake.KEYS:
                return self.told_keys(payload, now)
        raise RemoteProtocolError("nothing that peers send", reason="kind")

    def _sealed(self, came: i3.Arrived, now: float) -> list[Command]:
        peer, session = self.session_of(came.payload)
        if now - session.began > END_AFTER:
            raise RemoteProtocolError("keys that are too old", reason="old-keys")
        try:
            opened = session.opener.open(came.payload)
        except RemoteProtocolError as error:
            if error.reason != "replayed" or self.soft is None:
                raise
            peer.duplicates += 1
            self.soft.came(came.path, duplicate=True)
            return self.look_at_soft(now)
        told = self.look_at_soft(now) if self._counted(came.path) else []
        return told + self.opened(peer, session, opened.plaintext, now, came.stack[0])

    def opened(
        self, peer: Peer, session: Session, plaintext: bytes, now: float, identifier: Identifier | None
    ) -> list[Command]:
        """Do what a packet says that a peer has sealed. `identifier`: by which it came; None: directly.

        RemoteProtocolError.
        """
        told = self.confirm(peer, session, now)
        if identifier is not None and plaintext[0] >> 4 == direct_message.NIBBLE:
            self.heard(peer, data=False, now=now)
            return told + self.told_by_node(peer, plaintext, now)
        header = proxy_header.parse(plaintext)
        self.heard(peer, data=bool(header.packet), now=now)
        peer.ask_at = None
        if header.identifier is not None:
            if header.home not in (None, peer.home):
                raise RemoteProtocolError("an identifier for somebody else", reason="inner-source")
            if header.flow is not None:
                peer.flows.told(header.flow.reversed(), header.identifier)
            else:
                peer.identifier = header.identifier
        told += self._look_where(peer, identifier, header.packet, now) if identifier is not None else []
        if header.again and peer.again_due is None:
            peer.again_due = max(now, peer.again_at + AGAIN_EVERY)
            told += self._send_again(peer, now)
        if header.packet:
            told.append(self._deliver(peer, header.packet))
        return told

    def _counted(self, path: str) -> bool:
        if self.soft is None:
            return False
        self.soft.came(path, duplicate=False)
        return True

    def _deliver(self, peer: Peer, packet: bytes) -> Deliver:
        """Let in only what the peer itself sends to this host itself."""
        own, theirs = proxy_header.pack_home(self.home), proxy_header.pack_home(peer.home)
        if packet[0] >> 4 != 6 or packet[8:24] != theirs or packet[24:40] != own:
            raise RemoteProtocolError("not from this peer's home address to ours", reason="inner-source")
        peer.packets_in += 1
        peer.bytes_in += len(packet)
        return Deliver(peer.home, packet)

    # Private identifiers.

    def _look_where(self, peer: Peer, identifier: Identifier, packet: bytes, now: float) -> list[Command]:
        """Owe a peer our private identifier, if it has sent to another one."""
        if peer.flows.own:
            own = peer.flows.own.get(ports_of(packet, came=True) or NO_FLOW)
            if own is not None and own.wanted.identifier == identifier:
                return []
            if own is not None and own.owed is None:
                own.owed = now + self.settings.piggyback
            if peer.flows.has(identifier):
                return []
        if peer.own is not None and identifier == peer.own.identifier:
            if peer.previous is not None and not peer.previous_until:
                peer.previous_until = now + PREVIOUS_FOR
            return []
        if peer.owed is not None:
            return []
        peer.owed = now + self.settings.piggyback
        return self._choose(peer, now) if peer.own is None else []

    def _choose(self, peer: Peer, now: float) -> list[Command]:
        peer.own = self._made()
        return self.insert(peer.own, now)

    def _made(self) -> Wanted:
        """Return a private identifier that nobody has had."""
        secret = self._random(KEY_BYTES)
        prefix = self._random(PREFIX_BYTES)
        return Wanted(private(secret, prefix), Right.KEY, secret)

    def _own_trigger(self, peer: Peer, packet: bytes, now: float) -> list[Command]:
        """Give a flow its own private identifier, unless it has one."""
        flow, own = ports_of(packet), peer.flows.own
        if flow is None or flow in own or len(own) >= MOST_OWN:
            return []
        own[flow] = OwnTrigger(self._made(), now + self.settings.piggyback)
        return self.insert(own[flow].wanted, now)

    def flow_ended(self, destination: bytes, flow: FlowPorts, now: float) -> list[Command]:
        """Take out the trigger of a flow that has ended; `destination`: its peer's packed home address."""
        peer = self.by_home.get(destination)
        wanted = peer.flows.ended(flow) if peer is not None else None
        return self.remove_everywhere(wanted, now) if wanted is not None else []

    def choose_anew(self, peer: Peer, now: float) -> list[Command]:
        """Take another private identifier; the previous one is honoured, and whoever uses it is told the new one."""
        commands: list[Command] = []
        if peer.previous is not None:
            commands += self.remove_everywhere(peer.previous, now)
        peer.previous, peer.previous_until = peer.own, 0.0
        return commands + self._choose(peer, now)

    def _pay(self, peer: Peer, now: float) -> list[Command]:
        """Send our private identifier alone, once packets to it arrive here."""
        if peer.own is None or not self.client.stands(peer.own.identifier):
            peer.owed = now + self.settings.piggyback
            return []
        peer.owed = None
        return self.say(peer, bytes(ProxyHeader(peer.own.identifier, self.home)), now)

    def _pay_flows(self, peer: Peer, now: float) -> list[Command]:
        """Send those of single flows alone."""
        commands: list[Command] = []
        for flow, own in peer.flows.own.items():
            if own.owed is None or own.owed > now:
                continue
            if not self.client.stands(own.wanted.identifier) or peer.usable(now) is None:
                own.owed = now + self.settings.piggyback
                continue
            own.owed = None
            commands += self.say(peer, bytes(ProxyHeader(own.wanted.identifier, self.home, flow=flow)), now)
        return commands

    def absent(self, identifier: Identifier, now: float) -> list[Command]:
        """Fall back to H(home address) where a private identifier leads nowhere any more."""
        for peer in self.by_home.values():
            if peer.flows.absent(identifier):
                continue
            if peer.identifier == identifier:
                peer.identifier = None
            elif (
                peer.public == identifier
                and peer.greet_at is not None
                and not peer.usable(now)
                and peer.problem != "not there"
            ):
                peer.problem = "not there"
                return [PeerTold(peer.home, "not there: no rendezvous node knows where it is")]
        return []

    # Moves.

    def moved(self, now: float) -> list[Command]:
        """Ask for what may have been lost on the way, and send again what we had sent."""
        commands: list[Command] = []
        for peer in self.by_home.values():
            session = peer.usable(now)
            if session is not None:
                commands += self.send_held(peer, now)
            if session is not None and peer.heard is not None and now - peer.heard < TALKED_WITHIN:
                peer.moves += 1
                peer.asks = ASKS
                commands += self._ask(peer, now)
            elif peer.held:
                peer.tries = 0
                commands += self.greet(peer, now)
        return commands

    def _ask(self, peer: Peer, now: float) -> list[Command]:
        """Ask a peer for what it has sent lately, and send ours again. Where both move, the first one is not heard."""
        peer.asks -= 1
        peer.ask_at = now + ASK_WAIT * 2 ** (ASKS - 1 - peer.asks) if peer.asks > 0 else None
        return [*self.say(peer, bytes(ProxyHeader(again=True)), now), SendAgain(peer.home)]

    def _send_again(self, peer: Peer, now: float) -> list[Command]:
        if peer.again_due is None or peer.again_due > now:
            return []
        peer.again_at, peer.again_due = now, None
        return [SendAgain(peer.home), *self.say(peer, proxy_header.EMPTY, now)]

    # Time.

    def deadline(self) -> float | None:
        """When `tick` wants to be called next."""
        times = [at for at in (self.path_deadline(), self.session_deadline()) if at is not None]
        for peer in self.by_home.values():
            times += [at for at in (peer.owed, peer.ask_at, peer.again_due) if at is not None]
            times += [own.owed for own in peer.flows.own.values() if own.owed is not None]
            times += [peer.previous_until] if peer.previous is not None and peer.previous_until else []
        return min(times, default=None)

    def tick(self, now: float) -> list[Command]:
        """Do what is due."""
        commands = self.path_tick(now) + self.session_tick(now)
        for peer in list(self.by_home.values()):
            if peer.owed is not None and peer.owed <= now:
                commands += self._pay(peer, now)
            commands += self._pay_flows(peer, now)
            if peer.ask_at is not None and peer.ask_at <= now:
                commands += self._ask(peer, now)
            commands += self._send_again(peer, now)
            if peer.previous is not None and peer.previous_until and peer.previous_until <= now:
                commands += self.remove_everywhere(peer.previous, now)
                peer.previous, peer.previous_until = None, 0.0
        return commands
