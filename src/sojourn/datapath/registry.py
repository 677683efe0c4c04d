"""What a data path holds, and how control's orders change it: the half of the forwarder that sees no packet.

Timers: one a tunnel, in a heap; the sweep of the table; the end of old secrets.
"""

import heapq
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from sojourn.datapath.epochs import EpochStore
from sojourn.datapath.expiry import Sweep
from sojourn.datapath.guard import Guard
from sojourn.datapath.moves import Mover
from sojourn.datapath.waiting import Waiting
from sojourn.model import AssociationId, Endpoint, Flow, TunnelId
from sojourn.packet.ip import flow_of, key_of, packed
from sojourn.packet.seal import OVERHEAD_BYTES, KeySchedule, Opened
from sojourn.paft import FlowKey, Paft, Row
from sojourn.upmt.commands import (
    AddAssociation,
    AnyCommand,
    CloseTunnel,
    Everything,
    InstallSecret,
    MoveFlows,
    OpenTunnel,
    RemoveAssociation,
    Report,
    Restore,
    Resumed,
    Role,
    RowState,
    SendInner,
    SetDefault,
    Setup,
    Snapshot,
)
from sojourn.upmt.events import (
    AnyEvent,
    Counters,
    FlowEnded,
    FlowMoved,
    FlowSeen,
    FlowsMoved,
    SecretInUse,
    State,
)
from sojourn.upmt.tunnel import Ready, SendFrame, Tell, Tunnel, TunnelCommand

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

    def random(self, size: int) -> bytes:
        """Return bytes that nobody can guess."""
        ...


class Association:
    """A mobile host as its anchor's data path (or its own) knows it."""

    def __init__(self, added: AddAssociation) -> None:
        self.id = added.association
        self.added = added
        self.vipas: frozenset[bytes] = frozenset()
        """The packed Vipas, IPv4 and IPv6."""
        self.tunnels: frozenset[TunnelId] = frozenset()
        self.default: TunnelId | None = None
        self.default_move = 0
        """The number of the request that set the default."""
        self.last_heard: TunnelId | None = None
        """Anchor: the tunnel that an authentic packet of the host came on last."""
        self.keys: KeySchedule | None = None
        self.in_use = -1
        """The newest generation that the peer has sealed with."""
        self.update(added)

    def update(self, added: AddAssociation) -> None:
        """Take over what may change."""
        self.added = added
        self.vipas = frozenset(packed(address) for address in (added.vipa, added.vipa6) if address)
        self.tunnels = frozenset(added.tunnels)


class Registry(ABC):
    """Rows, tunnels and associations of one data path."""

    def __init__(self, io: Io, emit: Callable[[AnyEvent], None], epochs: EpochStore) -> None:
        self.io = io
        self.emit = emit
        self.epochs = epochs
        self.setup: Setup | None = None
        self.is_anchor = False
        self.guard: Guard | None = None
        self.inner_addresses: frozenset[bytes] = frozenset()
        self.paft = Paft()
        self.waiting = Waiting(self.paft)
        self.tunnels: dict[TunnelId, Tunnel] = {}
        """Those in use: at the anchor a slot gets its Tunnel with its first packet."""
        self.plain_by_source: dict[Endpoint, Tunnel] = {}
        """Anchor: plain tunnels have no index on the wire."""
        self.associations: dict[AssociationId, Association] = {}
        self.by_vipa: dict[bytes, Association] = {}
        self.refused: Counter[str] = Counter()
        """Packets that were not let through, by reason. The engine counts in it, too."""
        self.totals: Counter[str] = Counter()
        """Further totals for `Counters`. The engine counts in it, too."""
        self._slots: dict[TunnelId, AssociationId] = {}
        self._opens: dict[TunnelId, OpenTunnel] = {}
        self._heap: list[tuple[float, int, Tunnel]] = []
        self._pushed = 0
        self._sweep = Sweep(self.paft)
        self._retire: list[tuple[float, Association]] = []

    # Orders.

    def handle(self, command: AnyCommand, now: float) -> None:
        """Carry out one order."""
        match command:
            case Setup():
                self._set_up(command)
            case AddAssociation():
                self._add(command)
            case RemoveAssociation():
                self._remove(command.association)
            case InstallSecret():
                self._install(command, now)
            case OpenTunnel():
                self._open(command, now)
            case CloseTunnel():
                self._close(command.tunnel, now)
            case SetDefault():
                self._set_default(command, now)
            case MoveFlows():
                self._move(command, now)
            case SendInner():
                if command.tunnel in self.tunnels:
                    self.send_inner(self.tunnels[command.tunnel], command.packet, now)
            case Report():
                self._report()
            case Snapshot():
                self.emit(self.state(now))
            case Resumed():
                for tunnel in self.tunnels.values():
                    tunnel.retest(now)
            case Restore():
                self._restore(command, now)
        self.run_due(now)

    @abstractmethod
    def send_inner(self, tunnel: Tunnel, packet: bytes, now: float) -> None:
        """Send control's own packet in this very tunnel."""

    @abstractmethod
    def resend(self, key: FlowKey, row: Row, now: float) -> None:
        """Send what is kept for a flow, if its path can be used now."""

    def _set_up(self, command: Setup) -> None:
        self.setup = command
        self.is_anchor = command.role is Role.ANCHOR
        self.guard = Guard(command)
        self.inner_addresses = frozenset(packed(address) for address in command.inner_addresses)

    def _add(self, command: AddAssociation) -> None:
        association = self.associations.get(command.association)
        if association is None:
            association = self.associations[command.association] = Association(command)
        else:
            for vipa in association.vipas:
                self.by_vipa.pop(vipa, None)
            for gone in association.tunnels - set(command.tunnels):
                self._forget(gone)
                self._slots.pop(gone, None)
            association.update(command)
        self.by_vipa.update(dict.fromkeys(association.vipas, association))
        self._slots.update(dict.fromkeys(command.tunnels, association.id))

    def _remove(self, number: AssociationId) -> None:
        association = self.associations.pop(number, None)
        if association is None:
            return
        for vipa in association.vipas:
            self.by_vipa.pop(vipa, None)
        for tunnel in association.tunnels:
            self._forget(tunnel)
            self._slots.pop(tunnel, None)
        for key in [key for key, row in self.paft.rows.items() if row.association == number]:
            self.end_row(key, tell=False)

    def _install(self, command: InstallSecret, now: float) -> None:
        association = self.associations.get(command.association)
        if association is None:
            return
        if association.keys is None:
            association.keys = KeySchedule(command.secret)
        else:
            association.keys.install(command.secret)
        for tunnel in self._tunnels_of(association):
            tunnel.install(association.keys, self.epochs, now)

    def _open(self, command: OpenTunnel, now: float) -> None:
        association = self.associations.get(command.association)
        if association is None or command.tunnel not in association.tunnels:
            return
        tunnel = self.tunnels.get(command.tunnel)
        if tunnel is not None and self._opens.get(command.tunnel) == command and tunnel.usable:
            return  # Control took this data path over and said again what stands already.
        if tunnel is None or tunnel.sealed is not command.sealed:
            tunnel = self._new_tunnel(association, command.tunnel, command.sealed, command.keep_alive, now)
        self._opens[command.tunnel] = command
        if self.is_anchor:
            self.plain_by_source = {at: held for at, held in self.plain_by_source.items() if held is not tunnel}
            if not command.sealed:
                self.plain_by_source[command.remote] = tunnel
        else:
            self.io.open_socket(command)
        tunnel.open(command.remote, now)

    def _close(self, number: TunnelId, now: float) -> None:
        tunnel = self.tunnels.get(number)
        if tunnel is not None:
            self.carry_out(tunnel, tunnel.close(), now)
            self._forget(number)
        for key, row in list(self.paft.on_tunnel(number)):
            self.paft.move(key, None, row.move, now)

    def _set_default(self, command: SetDefault, now: float) -> None:
        association = self.associations.get(command.association)
        if association is not None:
            association.default = command.tunnel
            self.send_waiting(now)

    def _move(self, command: MoveFlows, now: float) -> None:
        association = self.associations.get(command.association)
        if association is None:
            self.emit(FlowsMoved(command.association, command.number, tuple({} for _ in command.moves)))
            return

        def add(flow: Flow, tunnel: TunnelId | None) -> Row | None:
            key = key_of(flow)
            if packed(flow.local.address) not in association.vipas:
                return None
            if self.is_anchor and self.guard is not None and self.guard.refuses(key) is not None:
                return None
            return self.new_row(key, association, tunnel, now)

        mover = Mover(self.paft, association.id, association.tunnels)
        counts, results = [], []
        for move in command.moves:
            everything = isinstance(move.select, Everything) and command.number >= association.default_move
            if everything and (move.tunnel is None or move.tunnel in association.tunnels):
                association.default, association.default_move = move.tunnel, command.number
            count, result = mover.move(move, command.number, now, add)
            counts.append(count)
            results.append(result)
        for key, row in mover.moved:
            if row.kept is not None:
                self.resend(key, row, now)
        self.send_waiting(now)
        self.emit(FlowsMoved(association.id, command.number, tuple(counts), tuple(results)))

    def _restore(self, command: Restore, now: float) -> None:
        for state in command.rows:
            association = self.associations.get(state.association)
            if association is None:
                continue
            key = key_of(state.flow)
            row = Row(association.id, state.tunnel, now, state.move)
            row.created = now - state.age
            row.packets_in, row.packets_out = state.packets_in, state.packets_out
            row.bytes_in, row.bytes_out = state.bytes_in, state.bytes_out
            self.paft.remove(key)
            self.paft.add(key, row)
        for number, outer in command.outer.items():
            tunnel = self.tunnels.get(number) or self.slot(number, now)
            if tunnel is not None and self.is_anchor and tunnel.outer is None:
                tunnel.restore(outer, now)

    # Reports.

    def _report(self) -> None:
        totals = self.totals + Counter(
            packets_in=sum(tunnel.packets_in for tunnel in self.tunnels.values()),
            packets_out=sum(tunnel.packets_out for tunnel in self.tunnels.values()),
            bytes_in=sum(tunnel.bytes_in for tunnel in self.tunnels.values()),
            bytes_out=sum(tunnel.bytes_out for tunnel in self.tunnels.values()),
            waiting=len(self.waiting),
        )
        self.emit(Counters(dict(totals), dict(self.refused), len(self.paft)))
        for tunnel in self.tunnels.values():
            self.emit(tunnel.measured())

    def state(self, now: float) -> State:
        """Return everything that stands."""
        associations = self.associations.values()
        return State(
            self.setup,
            tuple(association.added for association in associations),
            tuple(
                InstallSecret(association.id, secret)
                for association in associations
                if association.keys is not None
                for secret in association.keys.secrets
            ),
            tuple(self._opens.values()),
            tuple(SetDefault(association.id, association.default) for association in associations),
            tuple(_row_state(key, row, now) for key, row in self.paft.rows.items()),
            {number: tunnel.path.proved for number, tunnel in self.tunnels.items() if tunnel.path.proved}
            if self.is_anchor
            else {},
        )

    # Rows.

    def new_row(self, key: FlowKey, association: Association, tunnel: TunnelId | None, now: float) -> Row:
        """Give a flow its first row, and tell so."""
        row = Row(association.id, tunnel, now)
        evicted = self.paft.add(key, row)
        if evicted is not None:
            self.waiting.drop(evicted)
            self.emit(FlowEnded(association.id, flow_of(evicted)))
        self.emit(FlowSeen(association.id, flow_of(key), tunnel))
        return row

    def end_row(self, key: FlowKey, *, tell: bool = True) -> None:
        """Forget a flow."""
        row = self.paft.remove(key)
        self.waiting.drop(key)
        if row is not None and tell:
            self.emit(FlowEnded(row.association, flow_of(key)))

    def place_for(self, association: Association) -> TunnelId | None:
        """Return where a flow without a row goes."""
        if association.default is not None or not self.is_anchor:
            return association.default
        return association.last_heard

    def send_waiting(self, now: float) -> None:
        """Send what is kept for flows whose path can be used; flows that never had one get theirs now."""
        for key, row in self.waiting.rows():
            if row.tunnel is None and row.move == 0:
                association = self.associations.get(row.association)
                row.tunnel = self.place_for(association) if association is not None else None
                if row.tunnel is not None:
                    self.emit(FlowMoved(row.association, flow_of(key), row.tunnel))
            self.resend(key, row, now)

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
                case Ready():
                    self.send_waiting(now)

    def _send_frame(self, tunnel: Tunnel, command: SendFrame, now: float) -> None:
        plaintext = bytes(command.frame)
        overhead = 0
        if tunnel.sealed:
            if tunnel.sealer is None:
                return
            overhead = OVERHEAD_BYTES
        plaintext = plaintext.ljust(command.pad_to - overhead, b"\0")
        datagram = tunnel.sealer.seal(plaintext) if tunnel.sealed and tunnel.sealer is not None else plaintext
        tunnel.frame_sent(len(datagram), now)
        self.io.send(tunnel, datagram, command.destination, fragment=command.fragment)

    def _new_tunnel(
        self, association: Association, number: TunnelId, sealed: bool, keep_alive: float, now: float
    ) -> Tunnel:
        role = Role.ANCHOR if self.is_anchor else Role.HOST
        mtu = self.setup.mtu if self.setup is not None else 1280
        tunnel = self.tunnels[number] = Tunnel(
            number, association.id, role,
            sealed=sealed, mtu=mtu, random=self.io.random, wake=self._wake, keep_alive=keep_alive,
        )  # fmt: skip
        if association.keys is not None:
            tunnel.install(association.keys, self.epochs, now)
        return tunnel

    def _forget(self, number: TunnelId) -> None:
        opened = self._opens.pop(number, None)
        tunnel = self.tunnels.pop(number, None)
        if tunnel is not None:
            self.plain_by_source = {at: held for at, held in self.plain_by_source.items() if held is not tunnel}
        if opened is not None and not self.is_anchor:
            self.io.close_socket(number)

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
        """Forgive `gap` seconds in which the process did not run: silence must not count them."""
        for tunnel in self.tunnels.values():
            tunnel.clock_jumped(gap, now)

    def deadline(self) -> float | None:
        """When `tick` is wanted next."""
        heap = self._heap
        while heap and heap[0][2].armed != heap[0][0]:
            heapq.heappop(heap)
        retire = min((at for at, _ in self._retire), default=self._sweep.due)
        return min(self._sweep.due, retire, heap[0][0] if heap else self._sweep.due)

    def tick(self, now: float) -> None:
        """Do what is due. Cheap when nothing is."""
        self.run_due(now)
        for key in self._sweep.expired(now):
            self.end_row(key)
        for item in [item for item in self._retire if now >= item[0]]:
            self._retire.remove(item)
            self._retire_secret(item[1])

    def run_due(self, now: float) -> None:
        """Let the tunnels whose time has come do what they have to, until none is left."""
        heap = self._heap
        for _ in range(3):  # A tick may make another one due at once, but not for ever.
            due: list[Tunnel] = []
            while heap and heap[0][0] <= now:
                at, _, tunnel = heapq.heappop(heap)
                if tunnel.armed == at and self.tunnels.get(tunnel.id) is tunnel:
                    due.append(tunnel)
            if not due:
                return
            for tunnel in due:
                self.carry_out(tunnel, tunnel.tick(now), now)

    def _wake(self, tunnel: Tunnel, at: float) -> None:
        self._pushed += 1
        heapq.heappush(self._heap, (at, self._pushed, tunnel))

    def _retire_secret(self, association: Association) -> None:
        keys = association.keys
        if keys is None or association.in_use != keys.newest().generation:
            return
        keys.retire()
        for tunnel in self._tunnels_of(association):
            if tunnel.opener is not None:
                tunnel.opener.refresh()


def _row_state(key: FlowKey, row: Row, now: float) -> RowState:
    return RowState(
        row.association, flow_of(key), row.tunnel, row.move,
        row.packets_in, row.packets_out, row.bytes_in, row.bytes_out, now - row.created,
    )  # fmt: skip
