"""The data path's side of peers: flows between home addresses have rows like all others, and go by i3/roam.py.

A row's place is `PEERS`; which peer, its flow's remote address says. Rules label such flows and may block them; where
they go is the network that control names (`UseRendezvous`). What a TCP flow has sent last is kept, and sent again when
this host or the peer has moved: its other end then acknowledges what it has, and nobody waits for a timer.
"""

from collections.abc import Callable

from sojourn.bucket import Buckets
from sojourn.datapath.epochs import EpochStore
from sojourn.datapath.expiry import note_tcp_flags
from sojourn.datapath.peer_core import PeerCore
from sojourn.datapath.peer_report import state_of
from sojourn.datapath.registry import Io
from sojourn.datapath.rows import NEW_FLOWS_PER_SECOND, Association
from sojourn.datapath.sending import Sending
from sojourn.errors import RemoteProtocolError
from sojourn.i3 import roam_commands as roam
from sojourn.i3.client import Transmit
from sojourn.i3.flow_triggers import FlowPorts
from sojourn.i3.home import HomeIdentity
from sojourn.i3.roam import RoamProxy
from sojourn.i3.roam_sessions import PeerKnown, Settings
from sojourn.model import TCP, AssociationId, Endpoint, Origin
from sojourn.packet.ip import IpView, flow_key, flow_of, packed, parse
from sojourn.packet.path_mtu import MIN_INNER_MTU
from sojourn.paft import FlowKey, Row
from sojourn.upmt.commands import Restore, SetRules, Setup
from sojourn.upmt.events import AnyEvent
from sojourn.upmt.peer_commands import (
    HOME,
    PEERS,
    CloseRendezvous,
    OpenRendezvous,
    PeerCommand,
    SetHome,
    UseRendezvous,
)
from sojourn.upmt.peer_events import (
    PeerChanged,
    PeersTold,
    RendezvousBlocked,
    RendezvousMoved,
    RendezvousSilent,
    RendezvousStayed,
    RendezvousWorks,
)

AGAIN_WITHIN = 10.0
"""Flows that were used so lately have their newest packet sent again after a move."""
PEER_FLOWS_BURST = 2048.0
"""Flows that a peer may begin at once, `NEW_FLOWS_PER_SECOND` after that."""
MOST_BUCKETS = 1024


class Peering(Sending):
    """What a forwarder does with peers."""

    def __init__(self, io: Io, emit: Callable[[AnyEvent], None], epochs: EpochStore) -> None:
        super().__init__(io, emit, epochs)
        self.roam: RoamProxy | None = None
        self.peer_core: PeerCore | None = None
        self._home: SetHome | None = None
        self._rendezvous: dict[str, OpenRendezvous] = {}
        self._newest: dict[FlowKey, bytes] = {}
        """Of each TCP flow with a peer, what it sent last."""
        self._ended: list[tuple[bytes, FlowPorts]] = []
        """Flows with peers that have ended since the last packet or tick."""
        self._begun: Buckets[bytes] = Buckets(NEW_FLOWS_PER_SECOND, PEER_FLOWS_BURST, MOST_BUCKETS)
        """How many flows each peer may begin; the one that began none for longest is forgotten first."""

    # Orders.

    def handle_peers(self, command: PeerCommand, now: float) -> None:
        """Carry out an order about peers."""
        match command:
            case SetHome():
                self._set_home(command)
            case OpenRendezvous():
                self._open_rendezvous(command, now)
            case CloseRendezvous(network):
                self._close_rendezvous(network, now)
            case UseRendezvous(network):
                if self.roam is not None:
                    self.do_roam(self.roam.use(network, now), now)

    def _set_home(self, command: SetHome) -> None:
        known = tuple(
            PeerKnown(each.name, each.home, each.signing, each.exchange, each.direct) for each in command.peers
        )
        device_mtu = self.setup.mtu if self.setup is not None else MIN_INNER_MTU
        settings = Settings(
            command.nodes, known, command.anyone, command.piggyback, MIN_INNER_MTU, max(device_mtu, MIN_INNER_MTU)
        )
        same = self._home is not None and (self._home.signing, self._home.exchange, self._home.nodes) == (
            command.signing, command.exchange, command.nodes)  # fmt: skip
        if self.roam is not None and same:
            self.roam.configure(settings)
        else:
            self._leave_home()
            identity = HomeIdentity(command.signing, command.exchange)
            self.roam = RoamProxy(identity, settings, self.io.random, command.wall_offset)
            if self.peer_core is not None:
                self.roam.on_session, self.roam.on_session_gone = self.peer_core.took, self.peer_core.gone
        self._home = command

    def _leave_home(self) -> None:
        """Forget all sessions with their keys, and close the networks' sockets. Triggers end by themselves."""
        if self.peer_core is not None and self.roam is not None:
            for index in self.roam.sessions_now():
                self.peer_core.gone(index)
        for network in list(self._rendezvous):
            self.io.close_rendezvous(network)
        self._rendezvous.clear()
        self.roam = self._home = None

    def _remove(self, number: AssociationId) -> None:
        """Forget an association; the host's own as a peer with all that hangs on it."""
        super()._remove(number)
        if number == HOME:
            self._leave_home()
            self._newest.clear()
            self._ended.clear()

    def _set_up(self, command: Setup) -> None:
        super()._set_up(command)
        if self._home is not None:
            self._set_home(self._home)  # the device may bring larger packets now

    def _room(self, home: bytes) -> int:
        """Return the size of the largest packet that the way to a peer carries now."""
        peer = self.roam.by_home.get(home) if self.roam is not None else None
        return peer.room() if peer is not None else MIN_INNER_MTU

    def _open_rendezvous(self, command: OpenRendezvous, now: float) -> None:
        if self.roam is None:
            return
        if self._rendezvous.get(command.network) == command:
            self._tell_again(command.network, now)
            return
        self._close_rendezvous(command.network, now)
        why = self.io.open_rendezvous(command)
        if why:
            self.emit(RendezvousBlocked(command.network, why))
            return
        self._rendezvous[command.network] = command
        self.do_roam(self.roam.open_path(command.network, now), now)
        self.roam.local(command.network, self.io.rendezvous_local(command.network))

    def _tell_again(self, network: str, now: float) -> None:
        """Say how a network stands: control has been started anew and does not know."""
        prober = self.roam.prober(network) if self.roam is not None else None
        if prober is not None and prober.works:
            silent = RendezvousSilent(network, now - prober.heard)
            self.emit(silent if prober.silent else RendezvousWorks(network, prober.rtt.srtt or 0.0))

    def _close_rendezvous(self, network: str, now: float) -> None:
        if self.roam is not None and self._rendezvous.pop(network, None) is not None:
            self.do_roam(self.roam.close_path(network, now), now)
            self.io.close_rendezvous(network)

    def _restore(self, command: Restore, now: float) -> None:
        """Greet the peers of flows that a data path before this one had: its keys are gone."""
        super()._restore(command, now)
        for home in {row.flow.remote.address for row in command.rows if row.association == HOME}:
            peer = self.roam.peer_at(home) if self.roam is not None else None
            if peer is not None and self.roam is not None and peer.greet_at is None and peer.session is None:
                peer.wanted_at = now
                self.do_roam(self.roam.greet(peer, now), now)

    # Rules.

    def put_by_rule(self, key: FlowKey, row: Row, association: Association, origin: Origin | None, now: float) -> None:
        """Label a row; one of a flow with a peer goes to it, unless its rule lets it wait or refuses it."""
        if association.id != HOME:
            super().put_by_rule(key, row, association, origin, now)
            return
        row.origin, row.label = origin, association.book.label(flow_of(key), origin)
        rule = association.book.place(row.label)
        waits = rule is not None and rule.tunnel is None
        self.paft.place(row, None if waits else PEERS, now, (), rule is not None and rule.block)

    def _set_rules(self, command: SetRules, now: float) -> None:
        """Take over rules. Of flows with peers nobody else has to hear: rows that stand follow at once."""
        if command.association != HOME:
            super()._set_rules(command, now)
            return
        association = self.associations.get(HOME)
        if association is None or not (association.book.set(command.rules) or self.paft.of(HOME)):
            return
        for key, row in list(self.paft.of(HOME).items()):
            before = (row.tunnel, row.blocked, row.label)
            self.put_by_rule(key, row, association, row.origin, now)
            if before != (row.tunnel, row.blocked, row.label):
                self._tell_seen(key, row)
                self.resend(key, row, now)
        if self.peer_core is not None:
            self.peer_core.placed()

    def resend(self, key: FlowKey, row: Row, now: float) -> None:
        """Send what is kept for a flow, if it may go now."""
        if row.association != HOME:
            super().resend(key, row, now)
        elif row.tunnel == PEERS and (packet := self.waiting.take(key, row)) is not None:
            self.totals["resent"] += 1
            self.from_inner(packet, now)

    # Packets.

    def to_peer(self, key: FlowKey, association: Association, packet: bytes, view: IpView, now: float) -> None:
        """Send a packet from the home address."""
        proxy, row = self.roam, self.paft.rows.get(key)
        if proxy is None:
            return
        if row is None:
            if proxy.peer_at(flow_of(key).remote.address) is None:
                raise RemoteProtocolError("nobody's home address", reason="no-peer")
            row = self._begun_with_peer(key, association, packet, now)
            if row is None:
                return
        elif not row.packets_out and (row.origin is None or not row.origin.exact):
            self.answered(key, row, association, now)
        self._note(row, packet, view, now)
        row.packets_out += 1
        row.bytes_out += len(packet)
        if row.blocked:
            self.refuse(packet, now)
            return
        if row.tunnel is None:
            self.waiting.keep(key, row, packet)
            return
        room = self._room(view.destination)
        if len(packet) > room:
            self._answer_too_big(packet, view, room)
            return
        packet = self.clamped(packet, view, room)
        if view.protocol == TCP:
            self._newest[key] = packet
        rule = association.book.place(row.label)
        own = rule is not None and rule.own_trigger
        self._moved(view.destination, now)
        self.do_roam(proxy.ip_receive(packet, view.destination, now, own_trigger=own), now)

    def _begun_with_peer(self, key: FlowKey, association: Association, packet: bytes, now: float) -> Row | None:
        """Return the first row of a flow that this host begins; None: its program is looked at first."""
        if self.looks.keep(key, packet):
            return None
        origin, waits = self.origin_of(key, association, packet, now)
        return None if waits else self.labelled_row(key, association, origin, now)

    def from_rendezvous(self, network: str, datagram: bytes, source: Endpoint, now: float) -> None:
        """Take in a datagram that came by a network's rendezvous socket."""
        if self.roam is not None:
            self.do_roam(self.roam.received(network, datagram, source, now), now)

    def is_node(self, endpoint: Endpoint) -> bool:
        """Say whether something is sent to a node there, and not to an address of a peer, which may be wrong."""
        return self.roam is not None and endpoint in self.roam.client.nodes

    def rendezvous_failed(self, network: str, why: str) -> None:
        """Note that the system refuses to send on a network."""
        self.emit(RendezvousBlocked(network, why))

    def do_roam(self, commands: list[roam.Command], now: float) -> None:
        """Do what the proxy says."""
        for command in commands:
            match command:
                case Transmit():
                    self.io.send_rendezvous(command.path, command.data, command.node, whole=command.whole)
                case roam.Deliver(_, packet):
                    self._from_peer(packet, now)
                case roam.SendAgain(home):
                    self._send_again(packed(home), now)
                case _:
                    self._tell(command)
        if self.peer_core is not None and self.roam is not None:
            self.peer_core.follow(self.roam, now)

    def _moved(self, home: bytes, now: float) -> None:
        peer = self.roam.by_home.get(home) if self.roam is not None else None
        if self.peer_core is not None and peer is not None:
            self.peer_core.moved(home, peer, now)

    def _tell(self, command: roam.Command) -> None:
        match command:
            case roam.PathWorks(path, rtt, again):
                self.emit(RendezvousWorks(path, rtt, again))
            case roam.PathSilent(path, after):
                self.emit(RendezvousSilent(path, after))
            case roam.PathBlocked(path, why):
                self.emit(RendezvousBlocked(path, why))
            case roam.Moved(path, came_from, seconds, soft):
                self.emit(RendezvousMoved(path, came_from, seconds, soft))
            case roam.MoveFailed(path):
                self.emit(RendezvousStayed(path))
            case roam.PeerTold(home, what):
                self.emit(PeerChanged(home, what))

    def _from_peer(self, packet: bytes, now: float) -> None:
        association = self.associations.get(HOME)
        try:
            view = parse(packet)
            key = flow_key(packet, inbound=True)
        except RemoteProtocolError as error:
            self.refused[error.reason] += 1
            return
        if association is None:
            return
        row = self.paft.rows.get(key)
        if row is None:
            if not self._begun.take(view.source, now):
                self.refused["flow-rate"] += 1
                return
            origin = self.classify(key)
            row = self.labelled_row(key, association, self.looks.known(origin) if origin is not None else None, now)
        if row.blocked:
            self.refused["blocked"] += 1
            return
        self._note(row, packet, view, now)
        row.packets_in += 1
        row.bytes_in += len(packet)
        self._moved(view.source, now)
        self.io.write_inner(self.clamped(packet, view, self._room(view.source)))

    def _send_again(self, home: bytes, now: float) -> None:
        if self.roam is None:
            return
        for key, packet in list(self._newest.items()):
            row = self.paft.rows.get(key)
            if row is None or row.closing:
                del self._newest[key]
            elif packet[24:40] == home and now - row.last_used < AGAIN_WITHIN:
                if len(packet) > self._room(home):
                    self._answer_too_big(packet, parse(packet), self._room(home))  # its sender sends it again, cut
                    continue
                self.totals["peer-resent"] += 1
                self.do_roam(self.roam.ip_receive(packet, home, now), now)

    def _note(self, row: Row, packet: bytes, view: IpView, now: float) -> None:
        row.last_used = now
        if view.protocol == TCP and view.has_transport and view.total_bytes >= view.header_bytes + 14:
            note_tcp_flags(row, packet[view.header_bytes + 13], now)

    def end_row(self, key: FlowKey, *, tell: bool = True) -> None:
        """Forget a flow, what it sent last, and its own trigger."""
        self._newest.pop(key, None)
        row = self.paft.get(key)
        if self.roam is not None and row is not None and row.association == HOME:
            flow = flow_of(key)
            ports = FlowPorts(flow.protocol, flow.local.port, flow.remote.port)
            self._ended.append((packed(flow.remote.address), ports))
        super().end_row(key, tell=tell)

    # Time, and reports.

    def deadline(self) -> float | None:
        """When `tick` is wanted next."""
        due = super().deadline()
        mine = self.roam.deadline() if self.roam is not None else None
        mine = 0.0 if self._ended and self.roam is not None else mine
        return due if mine is None else mine if due is None else min(due, mine)

    def tick(self, now: float) -> None:
        """Do what is due."""
        super().tick(now)
        if self.roam is not None:
            ended, self._ended = self._ended, []
            for home, ports in ended:
                self.do_roam(self.roam.flow_ended(home, ports, now), now)
            mine = self.roam.deadline()
            if mine is not None and mine <= now:
                self.do_roam(self.roam.tick(now), now)

    def clock_jumped(self, gap: float, now: float) -> None:
        """Forgive `gap` seconds in which the process did not run."""
        super().clock_jumped(gap, now)
        if self.roam is not None:
            for prober in self.roam.paths.values():
                prober.forgive(now)
            self.roam.forgive()

    def report_peers(self, now: float) -> None:
        """Tell what is known of peers."""
        proxy = self.roam
        if proxy is None:
            return
        prober = proxy.prober(proxy.network)
        node = proxy.client.node
        peers = tuple(state_of(each, now) for each in proxy.by_home.values())
        rtt = prober.rtt.srtt if prober is not None else None
        self.emit(PeersTold(proxy.network, f"{node.address} port {node.port}", rtt, peers, dict(proxy.refused)))
