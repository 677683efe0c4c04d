"""Everything that a data path does, one packet at a time: the engine's slow path, and all of the in-memory fake.

A packet from the TUN finds its row, its row's tunnel, and goes out in it; a datagram from the outer
network is opened, its inner addresses are checked, and it goes to the TUN. What is refused is counted
by reason and changes nothing. The state is in registry.py, what control orders in orders.py, and how a packet leaves
in its tunnels, or is refused, in sending.py.
"""

from sojourn.datapath.expiry import note_tcp_flags
from sojourn.datapath.peering import Peering
from sojourn.datapath.registry import DUE_A_PACKET, Association, Io
from sojourn.errors import RemoteProtocolError
from sojourn.model import TCP, UDP, Endpoint, TunnelId
from sojourn.packet import frame as frames
from sojourn.packet import sequence
from sojourn.packet.ip import (
    IpView,
    complete_checksum,
    decapsulated_ecn,
    ecn_of,
    flow_key,
    flow_of,
    parse,
    set_ecn,
)
from sojourn.packet.partial import finished
from sojourn.packet.seal import OVERHEAD_BYTES, Hint, Opened
from sojourn.paft import LEARN_HOLD, FlowKey, Row
from sojourn.upmt.events import FlowMoved, InnerReceived, StrangerReceived
from sojourn.upmt.peer_commands import HOME
from sojourn.upmt.tunnel import Tunnel

__all__ = ["Association", "Forwarder", "Io"]


class Forwarder(Peering):
    """Rows, tunnels and associations of one data path, and what is done with each packet."""

    # From the TUN.

    def from_inner(self, packet: bytes, now: float) -> None:
        """Take one IP packet from the TUN: whole, at most the TUN's MTU, with full checksums."""
        try:
            view = parse(packet)
            key = flow_key(packet, inbound=self.is_anchor)
        except RemoteProtocolError as error:
            self.refused[error.reason] += 1
            return
        association = self.by_vipa.get(view.destination if self.is_anchor else view.source)
        if association is None:
            self.refused["no-vipa" if self.is_anchor else "inner-source"] += 1
            return
        if association.id == HOME:
            self._to_peer(key, association, packet, view, now)
            return
        row = self.paft.rows.get(key)
        if row is None:
            row = self._begun_here(key, association, packet, now)
            if row is None:
                return
        elif not (row.packets_out or self.is_anchor) and (row.origin is None or not row.origin.exact):
            self.answered(key, row, association, now)
        self._use(row, packet, view, now)
        row.packets_out += 1
        row.bytes_out += len(packet)
        if row.blocked:
            self.refuse(packet, now)
        else:
            self.send_packet(key, row, packet, now, view)
        self.run_due(now, DUE_A_PACKET)

    def _to_peer(self, key: FlowKey, association: Association, packet: bytes, view: IpView, now: float) -> None:
        try:
            self.to_peer(key, association, packet, view, now)
        except RemoteProtocolError as error:
            self.refused[error.reason] += 1
        self.run_due(now, DUE_A_PACKET)

    def _begun_here(self, key: FlowKey, association: Association, packet: bytes, now: float) -> Row | None:
        """Return the first row of a flow whose first packet came from the TUN; None: it has to wait."""
        if self.is_anchor:
            return self.new_row(key, association, self.place_for(association), now)
        if self.looks.keep(key, packet):
            return None
        origin, waits = self.origin_of(key, association, packet, now)
        return None if waits else self.labelled_row(key, association, origin, now)

    # From the outer network.

    def from_outer(
        self, datagram: bytes, source: Endpoint, now: float, tunnel: TunnelId | None = None, ecn: int = 0
    ) -> None:
        """Take one UDP payload; `tunnel` = whose socket it came on (host only), `ecn` = its outer ECN field."""
        try:
            if datagram and datagram[0] & 0x80:
                self._from_sealed(datagram, source, now, tunnel, ecn)
            else:
                self._from_plain(datagram, source, now, tunnel, ecn)
        except RemoteProtocolError as error:
            self.refused[error.reason] += 1
        self.run_due(now, DUE_A_PACKET)

    def _from_sealed(self, datagram: bytes, source: Endpoint, now: float, on: TunnelId | None, ecn: int) -> None:
        if len(datagram) < OVERHEAD_BYTES + 1:
            raise RemoteProtocolError("shorter than a sealed packet", reason="short")
        index = TunnelId(int.from_bytes(datagram[1:4]))
        if on is not None and index != on:
            raise RemoteProtocolError("a datagram of another tunnel", reason="wrong-tunnel")
        tunnel = self.tunnels.get(index) or self.slot(index, now)
        if tunnel is None or not tunnel.sealed or tunnel.opener is None:
            raise RemoteProtocolError("no such tunnel", reason="no-tunnel")
        opened = tunnel.opener.open(datagram)
        size = len(datagram)
        if opened.stale:
            self.carry_out(tunnel, tunnel.on_stale(source, size, now), now)
        else:
            self.note_secret(tunnel, opened, now)
        if source != tunnel.outer or tunnel.credit is not None:
            self.carry_out(tunnel, tunnel.on_source(source, opened, size, now), now)
        if opened.highest:
            self.associations[tunnel.association].last_heard = index
        self._opened(tunnel, opened.plaintext, source, opened, size, now, ecn)

    def _from_plain(self, datagram: bytes, source: Endpoint, now: float, on: TunnelId | None, ecn: int) -> None:
        tunnel = self.tunnels.get(on) if on is not None else self.plain_by_source.get(source)
        if tunnel is None or tunnel.sealed or tunnel.outer != source or not datagram:
            self._from_stranger(datagram, source, now)
            return
        self.associations[tunnel.association].last_heard = tunnel.id
        packets = finished(datagram, tunnel.inner_mtu) if datagram[0] >> 4 in (4, 6) else [datagram]
        for packet in packets:
            self._opened(tunnel, packet, source, None, len(packet), now, ecn)

    def _from_stranger(self, packet: bytes, source: Endpoint, now: float) -> None:
        """Hand a signal from an address without a tunnel to control, which has to make sure whose it is."""
        if not self.is_anchor or self.setup is None or not self.setup.plain or not packet:
            raise RemoteProtocolError("a plain datagram from no plain tunnel's address", reason="no-tunnel")
        view = parse(packet)
        if view.total_bytes != len(packet) or not self._is_signal(packet, view):
            raise RemoteProtocolError("more than a signal from no plain tunnel's address", reason="no-tunnel")
        association = self.by_vipa.get(view.source)
        if association is None:
            raise RemoteProtocolError("a signal from nobody's address", reason="inner-vipa")
        if not self.strangers.admit(source, now):
            raise RemoteProtocolError("too many signals from no plain tunnel's address", reason="rate")
        self.io.keep_way_back(source)
        self.emit(StrangerReceived(association.id, packet, source))

    def _opened(
        self,
        tunnel: Tunnel,
        plaintext: bytes,
        source: Endpoint,
        opened: Opened | None,
        size: int,
        now: float,
        ecn: int,
    ) -> None:
        kind = plaintext[0] >> 4
        if kind == 0:
            try:
                frame = frames.parse(plaintext)
            except RemoteProtocolError:
                tunnel.heard(now, 1, size)
                raise
            self.carry_out(tunnel, tunnel.on_frame(frame, source, opened, size, now), now)
            return
        tunnel.heard(now, 1, size)
        number = None
        if kind == sequence.NIBBLE:
            number, plaintext = sequence.take(plaintext)
        elif kind not in (4, 6):
            raise RemoteProtocolError(f"a plaintext of kind {kind}", reason="plaintext")
        if opened is not None and opened.hint & Hint.PARTIAL:
            whole = bytearray(plaintext)
            complete_checksum(whole)
            plaintext = bytes(whole)
        may_learn = opened is not None and not opened.stale and number is None
        self._inner(tunnel, plaintext, source, may_learn, number, now, ecn)

    def _inner(
        self, tunnel: Tunnel, packet: bytes, source: Endpoint, may_learn: bool, number: int | None, now: float, ecn: int
    ) -> None:
        """Take one inner packet of a tunnel; `number`: the one that a copied packet has."""
        view = parse(packet)
        if view.total_bytes != len(packet):
            raise RemoteProtocolError("bytes after the inner packet", reason="length")
        association = self.associations[tunnel.association]
        if (view.source if self.is_anchor else view.destination) not in association.vipas:
            if self.is_anchor and not tunnel.sealed and self._is_signal(packet, view):
                self._from_stranger(packet, source, now)  # a NAT may have given the address to another host
                return
            raise RemoteProtocolError("not this mobile host's address", reason="inner-vipa")
        if self._is_signal(packet, view):
            self.emit(InnerReceived(association.id, tunnel.id, packet, source))
            return
        key = flow_key(packet, inbound=not self.is_anchor)
        row = self.paft.rows.get(key)
        if row is None:
            row = self._begun_there(key, association, tunnel, now)
        elif self.is_anchor and may_learn and row.tunnel != tunnel.id:
            self._learn(key, row, tunnel, now)
        if row.blocked:
            raise RemoteProtocolError("a flow that a rule blocks", reason="blocked")
        if number is not None and not self._is_first(row, number, now):
            self.totals["duplicates-dropped"] += 1
            return
        self._deliver(tunnel, row, packet, view, now, ecn)

    def _begun_there(self, key: FlowKey, association: Association, tunnel: Tunnel, now: float) -> Row:
        """Return the first row of a flow whose first packet came in a tunnel."""
        if not self.is_anchor:
            # It is answered where such flows go now: the packet may have left before the anchor knew.
            origin = self.classify(key)
            origin = self.looks.known(origin) if origin is not None else None
            return self.labelled_row(key, association, origin, now, tunnel.id)
        why = self.guard.refuses(key) if self.guard is not None else None
        if why is not None:
            raise RemoteProtocolError("a destination that is refused", reason=why)
        if not self.may_begin(association, now):
            raise RemoteProtocolError("more new flows than one host may begin", reason="flow-rate")
        return self.new_row(key, association, tunnel.id, now)

    def _is_first(self, row: Row, number: int, now: float) -> bool:
        """Say whether a copied packet is the first one of its number."""
        if row.window is None:
            row.window = sequence.SequenceWindow()
        return row.window.accept(number, now)

    def _deliver(self, tunnel: Tunnel, row: Row, packet: bytes, view: IpView, now: float, ecn: int) -> None:
        self._use(row, packet, view, now)
        row.packets_in += 1
        row.bytes_in += len(packet)
        inner = ecn_of(packet)
        outgoing = decapsulated_ecn(inner, ecn)
        if outgoing is None:
            self.totals["congestion-drops"] += 1
            return
        packet = self.clamped(packet, view, self.room(row, tunnel))
        if outgoing != inner:
            changed = bytearray(packet)
            set_ecn(changed, outgoing)
            packet = bytes(changed)
        self.io.write_inner(packet)

    def _learn(self, key: FlowKey, row: Row, tunnel: Tunnel, now: float) -> None:
        left = self.tunnels.get(row.left) if row.left is not None else None
        hold = max(LEARN_HOLD, 2 * left.rtt.guess()) if left is not None else LEARN_HOLD
        if self.paft.learn(row, tunnel.id, now, hold):
            self.emit(FlowMoved(row.association, flow_of(key), tunnel.id))
            self.resend(key, row, now)

    def _is_signal(self, packet: bytes, view: IpView) -> bool:
        """Say whether a packet is between a Vipa and the anchor's signalling port: it goes to control."""
        if view.protocol != UDP or view.is_fragment or self.setup is None or view.total_bytes < view.header_bytes + 8:
            return False
        anchors, at = (view.destination, 2) if self.is_anchor else (view.source, 0)
        port = int.from_bytes(packet[view.header_bytes + at : view.header_bytes + at + 2])
        return port == self.setup.signal_port and anchors in self.inner_addresses

    def _use(self, row: Row, packet: bytes, view: IpView, now: float) -> None:
        row.last_used = now
        if view.protocol == TCP and view.has_transport and view.total_bytes >= view.header_bytes + 14:
            note_tcp_flags(row, packet[view.header_bytes + 13], now)
