"""What a data path holds: associations, tunnels with their timers, rows (rows.py). No packet is looked at here.

Timers: one a tunnel, in a heap; the sweep of the table; the end of old secrets; new flows whose program is being
looked at (labels.py).
"""

import heapq
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Protocol

from sojourn.datapath.epochs import EpochStore
from sojourn.datapath.expiry import Sweep
from sojourn.datapath.guard import Guard
from sojourn.datapath.rows import Association, Rows
from sojourn.datapath.strangers import Strangers
from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.packet.seal import OVERHEAD_BYTES, Opened
from sojourn.upmt.commands import OpenTunnel, Role, Setup
from sojourn.upmt.events import AnyEvent, SecretInUse
from sojourn.upmt.peer_commands import OpenRendezvous
from sojourn.upmt.tunnel import Ready, SendFrame, Tell, Tunnel, TunnelCommand
from sojourn.upmt.tunnel_keys import Ends

__all__ = ["Association", "Io", "Registry"]

_WAITING_WITHIN = 10.0
"""Seconds: far above the spacing of what asks again while an answer is expected."""
DUE_AT_ONCE = 64
"""Tunnels whose timers are served in one go, some milliseconds."""
DUE_A_PACKET = 2
"""After each packet: what it has made due, and not all that others have waited for, or reading would never end."""
_OLD_SECRET_FOR = 2.0
"""Seconds for which a replaced secret opens late packets after its successor was first used."""


class Io(Protocol):
    """What a forwarder needs of the world."""

    def send(
        self, tunnel: Tunnel, datagram: bytes, destination: Endpoint, *, fragment: bool = False, ecn: int = 0
    ) -> None:
        """Send one UDP payload from the tunnel's socket; `fragment`: without DF; `ecn`: the outer ECN field.

        A refusal of the system is reported to `Forwarder.send_failed`, not raised.
        """
        ...

    def write_inner(self, packet: bytes) -> None:
        """Give one inner IP packet, with full checksums, to the TUN."""
        ...

    def open_socket(self, command: OpenTunnel) -> None:
        """Host: open the UDP socket of a tunnel, in place of the one that it had."""
        ...

    def close_socket(self, tunnel: TunnelId) -> None:
        """Host: close the UDP socket of a tunnel."""
        ...

    def keep_way_back(self, source: Endpoint) -> None:
        """Anchor: control may answer the sender of the datagram that is being worked on, outside of any tunnel."""
        ...

    def send_outside(self, datagram: bytes, destination: Endpoint) -> None:
        """Anchor: send one UDP payload outside of any tunnel."""
        ...

    def open_rendezvous(self, command: OpenRendezvous) -> str:
        """Host: open a network's socket for peers; return why that failed, or nothing."""
        ...

    def rendezvous_local(self, network: str) -> Endpoint | None:
        """Host: return the address of a network's socket for peers."""
        ...

    def close_rendezvous(self, network: str) -> None:
        """Host: close it."""
        ...

    def send_rendezvous(self, network: str, datagram: bytes, node: Endpoint, *, whole: bool = False) -> None:
        """Host: send one datagram to a rendezvous node or a peer; a refusal goes to `Forwarder.rendezvous_failed`.

        `whole`: with DF.
        """
        ...

    def random(self, size: int) -> bytes:
        """Return bytes that nobody can guess."""
        ...


class Registry(Rows):
    """Rows, tunnels and associations of one data path."""

    def __init__(self, io: Io, emit: Callable[[AnyEvent], None], epochs: EpochStore) -> None:
        super().__init__(emit)
        self.io = io
        self.epochs = epochs
        self.setup: Setup | None = None
        self.guard: Guard | None = None
        self.inner_addresses: frozenset[bytes] = frozenset()
        self.tunnels: dict[TunnelId, Tunnel] = {}
        """Those in use: at the anchor a slot gets its Tunnel with its first packet."""
        self.plain_by_source: dict[Endpoint, Tunnel] = {}
        """Anchor: plain tunnels have no index on the wire."""
        self.strangers = Strangers()
        self.by_vipa: dict[bytes, Association] = {}
        self.ends: Ends | None = None
        """Who seals and opens in new tunnels, where that is not Python."""
        self._slots: dict[TunnelId, AssociationId] = {}
        self._opens: dict[TunnelId, OpenTunnel] = {}
        self._heap: list[tuple[float, int, TunnelId]] = []
        self._pushed = 0
        self._sweep = Sweep(self.paft)
        self._retire: deque[tuple[float, Association]] = deque()
        self._plain_at: dict[TunnelId, Endpoint] = {}
        """Where each plain tunnel stands in `plain_by_source`."""

    @abstractmethod
    def send_inner(self, tunnel: Tunnel, packet: bytes, now: float) -> None:
        """Send control's own packet in this very tunnel."""

    # Tunnels.

    def slot(self, number: TunnelId, now: float) -> Tunnel | None:
        """Anchor: return the tunnel of a slot, made when it is first needed."""
        association = self.associations.get(self._slots.get(number, AssociationId(-1)))
        if association is None or association.keys is None or not self.is_anchor:
            return None
        return self.tunnels.get(number) or self._new_tunnel(association, number, True, 0.0, now)

    def note_secret(self, tunnel: Tunnel, opened: Opened, now: float) -> None:
        """Take note that the peer seals with the newest secret: an anchor then does, too, and the old one ends."""
        association = self.associations[tunnel.association]
        keys = association.keys
        if keys is None or association.in_use == keys.newest().generation:
            return
        if tunnel.keys is None or not tunnel.keys.in_use(opened):
            return
        association.in_use = keys.newest().generation
        if self.is_anchor:
            for other in self._tunnels_of(association):
                other.adopt_secret(now)
            self.emit(SecretInUse(association.id, association.in_use))
        self._retire.append((now + _OLD_SECRET_FOR, association))

    def carry_out(self, tunnel: Tunnel, commands: list[TunnelCommand], now: float) -> None:
        """Do what a tunnel's machine wants."""
        for command in commands:
            match command:
                case SendFrame():
                    self._send_frame(tunnel, command, now)
                case Tell():
                    self.emit(command.event)
                case Ready() if tunnel.association in self.associations:
                    self.send_waiting(self.associations[tunnel.association], now)

    def _send_frame(self, tunnel: Tunnel, command: SendFrame, now: float) -> None:
        plaintext = bytes(command.frame)
        overhead = 0
        if tunnel.sealed:
            if tunnel.sealer is None:
                return
            overhead = OVERHEAD_BYTES
        plaintext = plaintext.ljust(command.pad_to - overhead, b"\0")
        datagram = tunnel.sealer.seal(plaintext) if tunnel.sealed and tunnel.sealer is not None else plaintext
        tunnel.frame_sent(len(datagram), now, counts=command.fragment)
        self.io.send(tunnel, datagram, command.destination, fragment=command.fragment)

    def _new_tunnel(
        self, association: Association, number: TunnelId, sealed: bool, keep_alive: float, now: float
    ) -> Tunnel:
        role = Role.ANCHOR if self.is_anchor else Role.HOST
        mtu = self.setup.mtu if self.setup is not None else 1280
        if sealed and self.is_anchor and self.setup is not None and self.setup.plain:
            mtu -= OVERHEAD_BYTES  # the device has room for what plain tunnels carry
        tunnel = self.tunnels[number] = Tunnel(
            number, association.id, role,
            sealed=sealed, mtu=mtu, random=self.io.random, wake=self._wake, keep_alive=keep_alive, ends=self.ends,
        )  # fmt: skip
        if association.keys is not None:
            tunnel.install(association.keys, self.epochs, now)
        return tunnel

    def _forget(self, number: TunnelId) -> None:
        opened = self._opens.pop(number, None)
        tunnel = self.tunnels.pop(number, None)
        if tunnel is not None:
            self._stand(tunnel, None)
        if opened is not None and not self.is_anchor:
            self.io.close_socket(number)

    def _stand(self, tunnel: Tunnel, remote: Endpoint | None) -> None:
        """Anchor: note where the host of a plain tunnel is now."""
        before = self._plain_at.pop(tunnel.id, None)
        if before is not None:
            del self.plain_by_source[before]
        if remote is not None:
            self._plain_at[tunnel.id] = remote
            self.plain_by_source[remote] = tunnel

    def _tunnels_of(self, association: Association) -> list[Tunnel]:
        return [self.tunnels[number] for number in association.added.tunnels if number in self.tunnels]

    def send_failed(self, tunnel: TunnelId, why: str, now: float, *, too_big: bool = False) -> None:
        """Note that the system refused to send, or to open the socket (`too_big`: EMSGSIZE)."""
        self.totals["send-too-big" if too_big else "send-failed"] += 1
        failed = self.tunnels.get(tunnel)
        if failed is not None and not too_big:
            self.carry_out(failed, failed.failed(why, now), now)

    # Time.

    def clock_jumped(self, gap: float, now: float) -> None:
        """Forgive `gap` seconds in which the process did not run: silence must not count them.

        Whoever waits for an answer has a timer that rings soon. The others have nothing to be forgiven, and an anchor
        with ten thousand of them would be late by asking each.
        """
        heap, waiting, places = self._heap, [], [0]
        while places:
            place = places.pop()
            if place < len(heap) and heap[place][0] <= now + _WAITING_WITHIN:
                places += (2 * place + 1, 2 * place + 2)
                if self._armed(*heap[place]):
                    waiting.append(self.tunnels[heap[place][2]])
        for tunnel in waiting:
            tunnel.clock_jumped(gap, now)

    def deadline(self) -> float | None:
        """When `tick` is wanted next."""
        heap = self._heap
        while heap and not self._armed(*heap[0]):
            heapq.heappop(heap)
        times = [self._sweep.due, heap[0][0] if heap else self._sweep.due]
        times += [self._retire[0][0]] if self._retire else []
        look = self.looks.deadline()
        return min(times) if look is None else min(*times, look)

    def tick(self, now: float) -> None:
        """Do what is due. Cheap when nothing is."""
        self.run_due(now)
        for key in self._sweep.expired(now):
            self.end_row(key)
        self.settle(self.looks.overdue(now), now)
        while self._retire and now >= self._retire[0][0]:
            self._retire_secret(self._retire.popleft()[1])

    def run_due(self, now: float, most: int = DUE_AT_ONCE) -> None:
        """Let tunnels whose time has come do what they have to: `most` of them; `deadline` tells of the others.

        Between the slices sockets are read: an answer that waits is not asked for again.
        """
        heap, left = self._heap, most
        for _ in range(3):  # A tick may make another one due at once, but not for ever.
            due: list[Tunnel] = []
            while heap and heap[0][0] <= now and len(due) < left:
                entry = heapq.heappop(heap)
                if self._armed(*entry):
                    due.append(self.tunnels[entry[2]])
            if not due:
                return
            left -= len(due)
            for tunnel in due:
                self.carry_out(tunnel, tunnel.tick(now), now)

    def _armed(self, at: float, _count: int, number: TunnelId) -> bool:
        tunnel = self.tunnels.get(number)
        return tunnel is not None and tunnel.armed == at

    def _wake(self, number: TunnelId, at: float) -> None:
        self._pushed += 1
        heapq.heappush(self._heap, (at, self._pushed, number))

    def _retire_secret(self, association: Association) -> None:
        keys = association.keys
        if keys is None or association.in_use != keys.newest().generation:
            return
        keys.retire()
        for tunnel in self._tunnels_of(association):
            if tunnel.opener is not None:
                tunnel.opener.refresh()
