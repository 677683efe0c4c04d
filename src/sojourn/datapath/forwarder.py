"""Everything that a data path does, one packet at a time: the engine's slow path, and all of the in-memory fake.

A packet from the TUN finds its row, its row's tunnel, and goes out in it; a datagram from the outer
network is opened, its inner addresses are checked, and it goes to the TUN. What is refused is counted
by reason and changes nothing. The state is in registry.py, what control orders in orders.py.
"""

from sojourn.datapath.expiry import note_tcp_flags
from sojourn.datapath.orders import Orders
from sojourn.datapath.registry import Association, Io
from sojourn.errors import RemoteProtocolError
from sojourn.model import TCP, UDP, Endpoint, TunnelId
from sojourn.packet import frame as frames
from sojourn.packet.ip import (
    IpView,
    clamp_mss,
    complete_checksum,
    decapsulated_ecn,
    ecn_of,
    flow_key,
    flow_of,
    may_be_answered,
    parse,
    set_ecn,
    too_big,
)
from sojourn.packet.seal import OVERHEAD_BYTES, Hint, Opened
from sojourn.paft import LEARN_HOLD, FlowKey, Row
from sojourn.upmt.events import FlowMoved, InnerReceived, StrangerReceived
from sojourn.upmt.tunnel import Tunnel

__all__ = ["Association", "Forwarder", "Io"]

_SYN = 2


class Forwarder(Orders):
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
        row = self.paft.rows.get(key)
        if row is None:
            row = self.new_row(key, association, self.place_for(association), now)
        self._use(row, packet, view, now)
        row.packets_out += 1
        row.bytes_out += len(packet)
        self._send_inner(key, row, packet, now, view)
        self.run_due(now)

    def _send_inner(self, key: FlowKey, row: Row, packet: bytes, now: float, view: IpView | None = None) -> None:
        """Send a packet where its row says, or keep it until that can be done."""
        tunnel = self.tunnels.get(row.tunnel) if row.tunnel is not None else None
        if tunnel is None or not tunnel.usable:
            self.waiting.keep(key, row, packet)
            if tunnel is not None:
                tunnel.wanted(now)
            return
        view = view or parse(packet)
        if len(packet) > tunnel.inner_mtu and view.dont_fragment:
            self._answer_too_big(packet, view, tunnel.inner_mtu)
            return
        packet = self._clamped(packet, view, tunnel)
        size = len(packet) + (OVERHEAD_BYTES if tunnel.sealed else 0)
        if not tunnel.spend(size):
            self.waiting.keep(key, row, packet)
            return
        fragment = tunnel.may_fragment or len(packet) > tunnel.inner_mtu
        self._transmit(tunnel, packet, now, fragment, ecn_of(packet))

    def _transmit(self, tunnel: Tunnel, packet: bytes, now: float, fragment: bool, ecn: int) -> None:
        datagram = tunnel.sealer.seal(packet) if tunnel.sealer is not None and tunnel.sealed else packet
        if tunnel.outer is not None:
            tunnel.sent(now, 1, len(datagram))
            self.io.send(tunnel, datagram, tunnel.outer, fragment=fragment, ecn=ecn)

    def _answer_too_big(self, packet: bytes, view: IpView, mtu: int) -> None:
        self.totals["too-big"] += 1
        if may_be_answered(packet):
            self.io.write_inner(too_big(packet, mtu, view.destination))

    def send_inner(self, tunnel: Tunnel, packet: bytes, now: float) -> None:
        """Send control's own packet in this very tunnel, if it has an address and keys."""
        if tunnel.outer is None or (tunnel.sealed and tunnel.sealer is None):
            self.totals["unsent-signals"] += 1
        elif tunnel.spend(len(packet) + OVERHEAD_BYTES):
            self._transmit(tunnel, packet, now, True, 0)

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
        self.run_due(now)

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
        self._opened(tunnel, datagram, source, None, len(datagram), now, ecn)

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
        if kind not in (4, 6):
            raise RemoteProtocolError(f"a plaintext of kind {kind}", reason="plaintext")
        if opened is not None and opened.hint & Hint.PARTIAL:
            whole = bytearray(plaintext)
            complete_checksum(whole)
            plaintext = bytes(whole)
        may_learn = opened is not None and not opened.stale
        self._deliver(tunnel, plaintext, source, may_learn, now, ecn)

    def _deliver(self, tunnel: Tunnel, packet: bytes, source: Endpoint, may_learn: bool, now: float, ecn: int) -> None:
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
            why = self.guard.refuses(key) if self.is_anchor and self.guard is not None else None
            if why is not None:
                raise RemoteProtocolError("a destination that is refused", reason=why)
            # A host answers where its flows go now: the packet may have left before the anchor knew.
            wanted = None if self.is_anchor else association.default
            row = self.new_row(key, association, tunnel.id if wanted is None else wanted, now)
        elif self.is_anchor and may_learn and row.tunnel != tunnel.id:
            self._learn(key, row, tunnel, now)
        self._use(row, packet, view, now)
        row.packets_in += 1
        row.bytes_in += len(packet)
        inner = ecn_of(packet)
        outgoing = decapsulated_ecn(inner, ecn)
        if outgoing is None:
            self.totals["congestion-drops"] += 1
            return
        packet = self._clamped(packet, view, tunnel)
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

    # Both ways.

    def resend(self, key: FlowKey, row: Row, now: float) -> None:
        """Send what is kept for a flow, if its path can be used now."""
        if row.kept is None or row.tunnel is None:
            return
        tunnel = self.tunnels.get(row.tunnel)
        if tunnel is not None and tunnel.usable:
            packet = self.waiting.take(key, row)
            if packet is not None:
                self.totals["resent"] += 1
                self._send_inner(key, row, packet, now)

    def _use(self, row: Row, packet: bytes, view: IpView, now: float) -> None:
        row.last_used = now
        if view.protocol == TCP and view.has_transport and view.total_bytes >= view.header_bytes + 14:
            note_tcp_flags(row, packet[view.header_bytes + 13], now)

    def _clamped(self, packet: bytes, view: IpView, tunnel: Tunnel) -> bytes:
        """Return the packet, with the MSS of a SYN lowered to what the tunnel carries."""
        at = view.header_bytes
        if view.protocol != TCP or view.is_fragment or view.total_bytes < at + 20 or not packet[at + 13] & _SYN:
            return packet
        changed = bytearray(packet)
        return bytes(changed) if clamp_mss(changed, tunnel.inner_mtu - (40 if view.version == 4 else 60)) else packet
