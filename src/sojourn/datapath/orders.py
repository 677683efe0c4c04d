"""How control's orders change what a data path holds, and how it reports that: see upmt/commands.py for each."""

from collections import Counter

from msgspec import structs

from sojourn.datapath.guard import Guard
from sojourn.datapath.moves import Mover
from sojourn.datapath.registry import Association, Registry
from sojourn.model import AssociationId, Endpoint, Flow, TunnelId
from sojourn.packet.ip import flow_of, key_of, packed
from sojourn.packet.seal import KeySchedule
from sojourn.paft import FlowKey, Row
from sojourn.upmt.commands import (
    AddAssociation,
    AnyCommand,
    CloseTunnel,
    Everything,
    InstallSecret,
    Measure,
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
    Setup,
    Snapshot,
)
from sojourn.upmt.events import Counters, FlowsMoved, State, TunnelTested
from sojourn.upmt.tunnel import Tunnel
from sojourn.upmt.tunnel_alive import Life


class Orders(Registry):
    """A registry that takes commands."""

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
            case SendOutside():
                self.io.send_outside(command.packet, command.destination)
            case Report():
                self._report()
            case Measure(number, seconds):
                if (watched := self.tunnels.get(number)) is not None:
                    watched.watch(seconds, now)
            case Snapshot():
                self.emit(self.state(now))
            case Resumed():
                for tunnel in self.tunnels.values():
                    tunnel.retest(now)
            case Restore():
                self._restore(command, now)
        self.run_due(now)

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
        self.plain_by_source = {at: held for at, held in self.plain_by_source.items() if held is not tunnel}
        if not tunnel.sealed:
            self.plain_by_source[remote] = tunnel

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


def _row_state(key: FlowKey, row: Row, now: float) -> RowState:
    return RowState(
        row.association, flow_of(key), row.tunnel, row.move,
        row.packets_in, row.packets_out, row.bytes_in, row.bytes_out, now - row.created,
    )  # fmt: skip
