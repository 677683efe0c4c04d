"""How an inner packet leaves: in its row's tunnel, in several at once (copies), or not at all (it waits, is refused).

A copied packet is numbered (packet/sequence.py), and each of the row's tunnels that can be used now carries it: a
network that dies loses nothing, and nobody has to notice first.
"""

from collections.abc import Callable
from typing import Final

from sojourn.bucket import Bucket
from sojourn.datapath.epochs import EpochStore
from sojourn.datapath.orders import Orders
from sojourn.datapath.registry import Io
from sojourn.model import TCP
from sojourn.packet import sequence
from sojourn.packet.ip import IpView, clamp_mss, ecn_of, may_be_answered, parse, too_big
from sojourn.packet.path_mtu import MIN_INNER_MTU
from sojourn.packet.refusal import refusal
from sojourn.packet.seal import OVERHEAD_BYTES
from sojourn.paft import FlowKey, Mode, Row
from sojourn.upmt.events import AnyEvent
from sojourn.upmt.tunnel import Tunnel

REFUSALS_PER_SECOND: Final = 1000.0
REFUSALS_BURST: Final = 200.0
"""What refused packets are answered at most (RFC 1812 §4.3.2.8, RFC 4443 §2.4 (f))."""
_SYN = 2


class Sending(Orders):
    """Orders, and the way out."""

    def __init__(self, io: Io, emit: Callable[[AnyEvent], None], epochs: EpochStore) -> None:
        super().__init__(io, emit, epochs)
        self._refusals = Bucket(REFUSALS_PER_SECOND, REFUSALS_BURST)

    def send_packet(self, key: FlowKey, row: Row, packet: bytes, now: float, view: IpView | None = None) -> None:
        """Send a packet where its row says, or keep it until that can be done."""
        if row.mode is Mode.COPIES:
            self._send_copies(key, row, packet, now, view or parse(packet))
            return
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
        packet = self.clamped(packet, view, tunnel.inner_mtu)
        if not self._transmit(tunnel, packet, now, ecn_of(packet)):
            self.waiting.keep(key, row, packet)

    def _send_copies(self, key: FlowKey, row: Row, packet: bytes, now: float, view: IpView) -> None:
        """Send a packet in each of its row's tunnels that can be used, the same number on all."""
        tunnels = self._paths(row)
        usable = [tunnel for tunnel in tunnels if tunnel.usable]
        for tunnel in tunnels:
            if not tunnel.usable:
                tunnel.wanted(now)
        if usable:
            room = min(tunnel.inner_mtu for tunnel in usable) - sequence.OVERHEAD_BYTES
            if len(packet) > max(room, MIN_INNER_MTU) and view.dont_fragment:
                self._answer_too_big(packet, view, max(room, MIN_INNER_MTU))
                return
            packet = self.clamped(packet, view, room)
            row.sequence = sequence.first(now) if row.sequence is None else sequence.following(row.sequence)
            plaintext, ecn = sequence.put(row.sequence, packet), ecn_of(packet)
            sent = sum(self._transmit(tunnel, plaintext, now, ecn) for tunnel in usable)
            if sent:
                self.totals["copies-sent"] += sent - 1
                return
        self.waiting.keep(key, row, packet)

    def _paths(self, row: Row) -> list[Tunnel]:
        """Return the tunnels of a row that are there."""
        wanted = [*row.copies] if row.tunnel is None else [row.tunnel, *row.copies]
        return [tunnel for tunnel in map(self.tunnels.get, wanted) if tunnel is not None]

    def room(self, row: Row, tunnel: Tunnel) -> int:
        """Return the size of the largest packet that a flow's way back carries, as far as is known."""
        if row.mode is not Mode.COPIES:
            return tunnel.inner_mtu
        least = min((each.inner_mtu for each in self._paths(row)), default=tunnel.inner_mtu)
        return least - sequence.OVERHEAD_BYTES

    def _transmit(self, tunnel: Tunnel, plaintext: bytes, now: float, ecn: int, *, whole: bool = False) -> bool:
        """Send one plaintext; False where its outer address may not get so much yet. `whole`: never with DF."""
        if not tunnel.spend(len(plaintext) + (OVERHEAD_BYTES if tunnel.sealed else 0)):
            return False
        fragment = whole or tunnel.may_fragment or len(plaintext) > tunnel.inner_mtu
        datagram = tunnel.sealer.seal(plaintext) if tunnel.sealer is not None and tunnel.sealed else plaintext
        if tunnel.outer is not None:
            tunnel.sent(now, 1, len(datagram))
            self.io.send(tunnel, datagram, tunnel.outer, fragment=fragment, ecn=ecn)
        return True

    def send_inner(self, tunnel: Tunnel, packet: bytes, now: float) -> None:
        """Send control's own packet in this very tunnel, if it has an address and keys."""
        if tunnel.outer is None or (tunnel.sealed and tunnel.sealer is None):
            self.totals["unsent-signals"] += 1
        else:
            self._transmit(tunnel, packet, now, 0, whole=True)

    def resend(self, key: FlowKey, row: Row, now: float) -> None:
        """Send what is kept for a flow, if its path can be used now."""
        if row.kept is None or not any(tunnel.usable for tunnel in self._paths(row)):
            return
        packet = self.waiting.take(key, row)
        if packet is not None:
            self.totals["resent"] += 1
            self.send_packet(key, row, packet, now)

    def refuse(self, packet: bytes, now: float) -> None:
        """Tell an application at once that its packet may not go (policy: block)."""
        self.refused["blocked"] += 1
        answer = refusal(packet)
        if answer is not None and self._refusals.take(now):
            self.io.write_inner(answer)

    def _answer_too_big(self, packet: bytes, view: IpView, mtu: int) -> None:
        self.totals["too-big"] += 1
        if may_be_answered(packet):
            self.io.write_inner(too_big(packet, mtu, view.destination))

    def clamped(self, packet: bytes, view: IpView, room: int) -> bytes:
        """Return the packet, with the MSS of a SYN lowered to what packets of `room` bytes carry."""
        at = view.header_bytes
        if view.protocol != TCP or view.is_fragment or view.total_bytes < at + 20 or not packet[at + 13] & _SYN:
            return packet
        changed = bytearray(packet)
        return bytes(changed) if clamp_mss(changed, room - (40 if view.version == 4 else 60)) else packet
