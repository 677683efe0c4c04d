"""How control's orders change what a data path holds, and how it reports that: see upmt/commands.py for each.

Handovers of an anchor's many hosts, and what is left of those that went, are worked off a slice at a time, host by
host in turn (`tick`); orders of one host are carried out in the order in which they came. A mobile host's own are
carried out at once.
"""

from abc import abstractmethod
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Final

from msgspec import structs

from sojourn.datapath.epochs import EpochStore
from sojourn.datapath.gaps import Gaps
from sojourn.datapath.guard import Guard
from sojourn.datapath.moves import Mover
from sojourn.datapath.registry import Association, Io, Registry
from sojourn.model import AssociationId, Endpoint, Flow, Origin, TunnelId
from sojourn.packet.ip import flow_of, key_of, packed
from sojourn.packet.seal import KeySchedule
from sojourn.paft import FlowKey, Row
from sojourn.upmt.commands import (
    AddAssociation,
    AnyCommand,
    CloseTunnel,
    DescribeOrigin,
    Everything,
    InstallSecret,
    Measure,
    Move,
    MoveFlows,
    OpenTunnel,
    RemoveAssociation,
    Report,
    Restore,
    Resumed,
    Role,
    RowState,
    SendInner,
    SendOutside,
    SetDefault,
    SetRules,
    Setup,
    Snapshot,
)
from sojourn.upmt.events import AnyEvent, Counters, FlowsMoved, GapMeasured, State, TunnelTested
from sojourn.upmt.peer_commands import CloseRendezvous, OpenRendezvous, PeerCommand, SetHome, UseRendezvous
from sojourn.upmt.tunnel import Tunnel
from sojourn.upmt.tunnel_alive import Life

SLICE: Final = 1024
"""Rows that are asked, moved or forgotten between two turns of the packet loop: a millisecond or two."""


class Orders(Registry):
    """A registry that takes commands."""

    def __init__(self, io: Io, emit: Callable[[AnyEvent], None], epochs: EpochStore) -> None:
        super().__init__(io, emit, epochs)
        self._work: OrderedDict[AssociationId, deque[Iterator[None]]] = OrderedDict()
        """What is not done yet, by host; each step of an iterator is a slice."""
        self._gaps = Gaps(self.tunnels)

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
            case SetRules():
                self._set_rules(command, now)
            case DescribeOrigin():
                self._describe(command.origin, now)
            case SendInner():
                if command.tunnel in self.tunnels:
                    self.send_inner(self.tunnels[command.tunnel], command.packet, now)
            case SendOutside():
                self.io.send_outside(command.packet, command.destination)
            case Report(tunnels):
                self._report(tunnels)
                self.report_peers(now)
            case Measure(number, seconds):
                if (watched := self.tunnels.get(number)) is not None:
                    watched.watch(seconds, now)
            case Snapshot():
                self._finish()  # what was ordered and is not done yet would be missing in it for good
                self.emit(self.state(now))
            case Resumed():
                for tunnel in self.tunnels.values():
                    tunnel.retest(now)
            case Restore():
                self._restore(command, now)
            case SetHome() | OpenRendezvous() | CloseRendezvous() | UseRendezvous():
                self.handle_peers(command, now)
        self.run_due(now)

    @abstractmethod
    def handle_peers(self, command: PeerCommand, now: float) -> None:
        """Carry out an order about peers (peering.py)."""

    @abstractmethod
    def report_peers(self, now: float) -> None:
        """Tell what is known of peers."""

    def _set_up(self, command: Setup) -> None:
        self.setup = command
        self.is_anchor = command.role is Role.ANCHOR
        self.guard = Guard(command)
        self.inner_addresses = frozenset(packed(address) for address in command.inner_addresses)

    def _add(self, command: AddAssociation) -> None:
        self._finish(command.association)
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
        self._work.pop(number, None)
        self._queue(number, self._removing(number))

    def _removing(self, number: AssociationId) -> Iterator[None]:
        """Forget the rows of a host that has gone. No packet finds them any more."""
        for count, key in enumerate(list(self.paft.of(number)), 1):
            self.end_row(key, tell=False)
            if count % SLICE == 0:
                yield

    def _install(self, command: InstallSecret, now: float) -> None:
        association = self.associations.get(command.association)
        if association is None:
            return
        if association.keys is None:
            association.keys = KeySchedule(command.secret)
        else:
            if association.in_use == association.keys.newest().generation:
                association.keys.retire()
            association.keys.install(command.secret)
        for tunnel in self._tunnels_of(association):
            tunnel.install(association.keys, self.epochs, now)

    def _open(self, command: OpenTunnel, now: float) -> None:
        association = self.associations.get(command.association)
        if association is None or command.tunnel not in association.tunnels:
            return
        tunnel = self.tunnels.get(command.tunnel)
        standing = structs.replace(command, ready=True)
        if tunnel is not None and self._opens.get(command.tunnel) == standing and tunnel.usable:
            # Control took this data path over, or only the gateway is another one: what stands goes on.
            if tunnel.live.life is Life.UP and tunnel.rtt.srtt is not None and not self.is_anchor:
                self.emit(TunnelTested(tunnel.id, None, tunnel.rtt.srtt))
            return
        if tunnel is None or tunnel.sealed is not command.sealed:
            tunnel = self._new_tunnel(association, command.tunnel, command.sealed, command.keep_alive, now)
        self._opens[command.tunnel] = command
        if self.is_anchor:
            self._open_at(command.remote, tunnel)
        else:
            self.io.open_socket(command)
        tunnel.open(command.remote, now, ready=command.ready)

    def _open_at(self, remote: Endpoint, tunnel: Tunnel) -> None:
        """Anchor: note that a plain tunnel's host is at `remote` now; whoever was there before is not any more."""
        before = self.plain_by_source.get(remote)
        if before is not None and before is not tunnel:
            self._forget(before.id)
        self._stand(tunnel, None if tunnel.sealed else remote)

    def _close(self, number: TunnelId, now: float) -> None:
        tunnel = self.tunnels.get(number)
        if tunnel is not None:
            self.carry_out(tunnel, tunnel.close(), now)
            self._forget(number)
        if number in self._slots:
            self.paft.leave(self._slots[number], number, now)

    def _set_default(self, command: SetDefault, now: float) -> None:
        association = self.associations.get(command.association)
        if association is not None:
            association.default = command.tunnel
            association.default_move = max(association.default_move, command.number)
            self.send_waiting(association, now)

    def _set_rules(self, command: SetRules, now: float) -> None:
        association = self.associations.get(command.association)
        if association is None:
            return
        if association.book.set(command.rules):
            for key, row in self.paft.of(association.id).items():
                row.label = association.book.label(flow_of(key), row.origin)
        self.send_waiting(association, now)

    def _move(self, command: MoveFlows, now: float) -> None:
        association = self.associations.get(command.association)
        if association is None:
            self.emit(FlowsMoved(command.association, command.number, tuple({} for _ in command.moves)))
            return

        for move in command.moves:
            everything = isinstance(move.select, Everything) and command.number >= association.default_move
            if everything and (move.tunnel is None or move.tunnel in association.tunnels):
                association.default, association.default_move = move.tunnel, command.number
        self._queue(association.id, self._moving(command, association, now))

    def _describe(self, origin: Origin, now: float) -> None:
        keys = self.looks.described(origin)
        if keys:
            self.settle(keys, now)
            return
        for association in self.associations.values():  # the answer was late: its flows went by what was known
            for key, row in list(self.paft.of(association.id).items()):
                if row.origin is not None and row.origin.owner == origin.owner and row.origin != origin:
                    self.known_better(key, row, association, origin, now)

    def _moving(self, command: MoveFlows, association: Association, now: float) -> Iterator[None]:
        """Carry out an order, a slice a step; and answer."""

        def add(flow: Flow, move: Move) -> Row | None:
            key = key_of(flow)
            if packed(flow.local.address) not in association.vipas:
                return None
            if self.is_anchor and self.guard is not None and self.guard.refuses(key) is not None:
                return None
            if self.is_anchor and not self.may_begin(association, now):
                self.refused["flow-rate"] += 1
                return None
            return self.new_row(key, association, move.tunnel, now, move.copies, move.block, move.label or "")

        mover, done = Mover(self.paft, command, association.tunnels, add), False
        effects: list[GapMeasured] = []
        while not done:
            moved, done = mover.step(now, SLICE if self.is_anchor else None)
            if not self.is_anchor:
                effects += self._gaps.begin(command.number, (row for _, row in moved), now)
            for key, row in moved:
                if row.kept is not None:
                    self.resend(key, row, now)
            if not done:
                yield
        self.send_waiting(association, now)
        self.emit(mover.answer())
        for effect in effects:
            self.emit(effect)

    def _queue(self, association: AssociationId, work: Iterator[None]) -> None:
        """Do the first slice at once, if nothing of the same host comes before it."""
        queue = self._work.setdefault(association, deque())
        queue.append(work)
        if len(queue) == 1:
            self._slice(association)

    def _slice(self, association: AssociationId) -> None:
        """Do one slice of what is to be done for a host, and put that host last."""
        queue = self._work.pop(association)
        if next(queue[0], self) is self:  # an iterator that is done gives nothing
            queue.popleft()
        if queue:
            self._work[association] = queue

    def _finish(self, association: AssociationId | None = None) -> None:
        """Do all that is left, of one host or of all."""
        owners = list(self._work) if association is None else [association]
        for owner in owners:
            while owner in self._work:
                self._slice(owner)

    def deadline(self) -> float | None:
        """When `tick` is wanted next: at once while there is work left."""
        if self._work:
            return 0.0
        due, look = super().deadline(), self._gaps.deadline()
        return look if due is None else min(due, look)

    def tick(self, now: float) -> None:
        """Do what is due, and one slice of the work that is left."""
        super().tick(now)
        for effect in self._gaps.tick(now):
            self.emit(effect)
        self.go_on()

    @property
    def busy(self) -> bool:
        """Say whether an order is not carried out whole yet."""
        return bool(self._work)

    def go_on(self) -> None:
        """Do one slice of the work that is left, if there is any."""
        if self._work:
            self._slice(next(iter(self._work)))

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
            row.origin, row.label = state.origin, state.label
            self.paft.place(row, state.tunnel, now, state.copies, state.blocked)
            self.paft.add(key, row)
        for number, outer in command.outer.items():
            tunnel = self.tunnels.get(number) or self.slot(number, now)
            if tunnel is not None and self.is_anchor and tunnel.outer is None:
                tunnel.restore(outer, now)

    # Reports.

    def _report(self, with_tunnels: bool) -> None:
        packets_in = packets_out = bytes_in = bytes_out = 0
        for tunnel in self.tunnels.values():  # once: tens of thousands of them are in no cache
            packets_in += tunnel.packets_in
            packets_out += tunnel.packets_out
            bytes_in += tunnel.bytes_in
            bytes_out += tunnel.bytes_out
        totals = self.totals + Counter(
            packets_in=packets_in, packets_out=packets_out, bytes_in=bytes_in, bytes_out=bytes_out,
            waiting=len(self.waiting),
        )  # fmt: skip
        self.emit(Counters(dict(totals), dict(self.refused), len(self.paft), dict(self.served_by)))
        for tunnel in self.tunnels.values() if with_tunnels else ():
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
            tuple(SetDefault(one.id, one.default, one.default_move) for one in associations),
            tuple(_row_state(key, row, now) for key, row in self.paft.rows.items()),
            {number: tunnel.path.proved for number, tunnel in self.tunnels.items() if tunnel.path.proved}
            if self.is_anchor
            else {},
            tuple(SetRules(each.id, each.book.placed) for each in associations if each.book.placed),
        )


def _row_state(key: FlowKey, row: Row, now: float) -> RowState:
    return RowState(
        row.association, flow_of(key), row.tunnel, row.move,
        row.packets_in, row.packets_out, row.bytes_in, row.bytes_out, now - row.created,
        row.origin, row.label, row.copies, row.blocked,
    )  # fmt: skip
