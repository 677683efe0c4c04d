"""What a data path knows, folded from the commands it got and the events it told: enough to start its successor.

Pure: no clock, no socket. Events come in the order in which they took effect, so a `MoveFlows` is
applied when `FlowsMoved` answers it; one without an answer is handed to the successor again
(a repeated one changes nothing, by its number).
Bounded: rows as in the table itself (paft.py), two secrets an association (seal.KeySchedule),
everything else by what control ordered.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import structs

from sojourn.model import AssociationId, Endpoint, Flow, TunnelId
from sojourn.paft import MAX_ROWS_PER_ASSOCIATION, MoveResult
from sojourn.upmt.commands import (
    AddAssociation,
    AnyCommand,
    CloseTunnel,
    Everything,
    Exactly,
    InstallSecret,
    Matching,
    Move,
    MoveFlows,
    OnTunnel,
    OpenTunnel,
    RemoveAssociation,
    Report,
    Restore,
    RowState,
    Select,
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
    TunnelMoved,
)
from sojourn.upmt.match import covers

ROWS_PER_RESTORE: Final = 2048
"""A Restore holds so many rows at most: the packet loop of a successor runs between two of them."""
MAX_PENDING_MOVES: Final = 256
SECRETS_KEPT: Final = 2


class MirrorRow:
    """One flow as the mirror knows it. Packets are not counted here: a successor starts from what State said."""

    __slots__ = ("born", "move", "seen", "tunnel")

    def __init__(self, tunnel: TunnelId | None, move: int, born: float, seen: RowState | None = None) -> None:
        self.tunnel = tunnel
        self.move = move
        self.born = born
        self.seen = seen


class MirrorAssociation:
    """A mobile host with all that hangs on it."""

    def __init__(self, added: AddAssociation) -> None:
        self.added = added
        self.secrets: list[InstallSecret] = []
        self.default: SetDefault | None = None
        self.rows: dict[Flow, MirrorRow] = {}


class Mirror:
    """A fold over what was ordered (`sent`) and what was reported (`received`)."""

    def __init__(self, max_rows_per_association: int = MAX_ROWS_PER_ASSOCIATION) -> None:
        self.setup: Setup | None = None
        self.associations: dict[AssociationId, MirrorAssociation] = {}
        self.tunnels: dict[TunnelId, OpenTunnel] = {}
        self.outer: dict[TunnelId, Endpoint] = {}
        self._pending: dict[tuple[AssociationId, int], MoveFlows] = {}
        self._snapshot_wanted = False
        self._report_wanted = False
        self._max_rows = max_rows_per_association

    # What control ordered.

    def sent(self, command: AnyCommand, now: float) -> None:
        """Take in a command on its way to the data path."""
        match command:
            case Setup():
                self.setup = command
            case AddAssociation():
                self._add(command)
            case RemoveAssociation():
                self._remove(command.association)
            case InstallSecret():
                self._install(command)
            case OpenTunnel():
                self.tunnels[command.tunnel] = command
            case CloseTunnel():
                self._close(command.tunnel)
            case SetDefault():
                self._set_default(command)
            case MoveFlows():
                self._pend(command)
            case Restore():
                self._restore(command, now)
            case Snapshot():
                self._snapshot_wanted = True
            case Report():
                self._report_wanted = True
            case _:
                pass  # SendInner and Resumed are of the moment: they leave no state.

    def _add(self, command: AddAssociation) -> None:
        known = self.associations.get(command.association)
        if known is None:
            self.associations[command.association] = MirrorAssociation(command)
        else:
            known.added = command

    def _remove(self, association: AssociationId) -> None:
        gone = self.associations.pop(association, None)
        mine = set(gone.added.tunnels) if gone is not None else set()
        mine |= {tunnel for tunnel, opened in self.tunnels.items() if opened.association == association}
        for tunnel in mine:
            self.tunnels.pop(tunnel, None)
            self.outer.pop(tunnel, None)
        for key in [key for key in self._pending if key[0] == association]:
            del self._pending[key]

    def _install(self, command: InstallSecret) -> None:
        known = self.associations.get(command.association)
        if known is None:
            return
        if known.secrets and command.secret.generation <= known.secrets[-1].secret.generation:
            return
        known.secrets = [*known.secrets, command][-SECRETS_KEPT:]

    def _close(self, tunnel: TunnelId) -> None:
        self.tunnels.pop(tunnel, None)
        self.outer.pop(tunnel, None)
        for known in self.associations.values():
            if known.default is not None and known.default.tunnel == tunnel:
                known.default = structs.replace(known.default, tunnel=None)
            for row in known.rows.values():
                if row.tunnel == tunnel:
                    row.tunnel = None

    def _set_default(self, command: SetDefault) -> None:
        known = self.associations.get(command.association)
        if known is not None:
            known.default = command

    def _pend(self, command: MoveFlows) -> None:
        if command.association not in self.associations:
            return
        self._pending[command.association, command.number] = command
        while len(self._pending) > MAX_PENDING_MOVES:
            del self._pending[next(iter(self._pending))]

    def _restore(self, command: Restore, now: float) -> None:
        self.outer.update(command.outer)
        for row in command.rows:
            self._put(row.association, row.flow, MirrorRow(row.tunnel, row.move, now - row.age, row))

    # What the data path reported.

    def received(self, event: AnyEvent, now: float) -> None:
        """Take in an event that the data path told."""
        match event:
            case FlowSeen():
                self._put(event.association, event.flow, MirrorRow(event.tunnel, 0, now))
            case FlowMoved():
                row = self._row(event.association, event.flow)
                if row is not None:
                    row.tunnel = event.tunnel
            case FlowEnded():
                known = self.associations.get(event.association)
                if known is not None:
                    known.rows.pop(event.flow, None)
            case FlowsMoved():
                self._moved(event, now)
            case TunnelMoved():
                self.outer[event.tunnel] = event.outer
            case SecretInUse():
                self._retire(event)
            case Counters():
                self._report_wanted = False
            case State():
                self._snapshot_wanted = False
                self._replace(event, now)
            case _:
                pass  # Measurements: a successor makes its own.

    def _row(self, association: AssociationId, flow: Flow) -> MirrorRow | None:
        known = self.associations.get(association)
        return known.rows.get(flow) if known is not None else None

    def _put(self, association: AssociationId, flow: Flow, row: MirrorRow) -> None:
        known = self.associations.get(association)
        if known is None:
            return
        known.rows[flow] = row
        if len(known.rows) > self._max_rows:
            del known.rows[next(iter(known.rows))]

    def _retire(self, event: SecretInUse) -> None:
        known = self.associations.get(event.association)
        if known is not None:
            known.secrets = [held for held in known.secrets if held.secret.generation >= event.generation]

    def _replace(self, state: State, now: float) -> None:
        """Believe a State in everything but the orders that it does not answer yet."""
        self.setup = state.setup
        self.associations = {}
        for added in state.associations:
            self._add(added)
        for secret in state.secrets:
            self._install(secret)
        self.tunnels = {opened.tunnel: opened for opened in state.tunnels}
        for default in state.defaults:
            self._set_default(default)
        self.outer = dict(state.outer)
        self._restore(Restore(state.rows), now)
        for key in [key for key in self._pending if key[0] not in self.associations]:
            del self._pending[key]

    # Handovers.

    def _moved(self, event: FlowsMoved, now: float) -> None:
        command = self._pending.pop((event.association, event.number), None)
        known = self.associations.get(event.association)
        if command is None or known is None:
            return
        lists = iter(event.results)
        for move in command.moves:
            if isinstance(move.select, Exactly):
                self._moved_exactly(command, move, move.select, next(lists, ()), now)
                continue
            if isinstance(move.select, Everything):
                known.default = SetDefault(event.association, move.tunnel)
            for row in list(_selected(known, move.select)):
                _move(row, move.tunnel, command.number)

    def _moved_exactly(
        self, command: MoveFlows, move: Move, select: Exactly, results: Sequence[MoveResult], now: float
    ) -> None:
        for place, flow in enumerate(select.flows):
            result = results[place] if place < len(results) else None
            if result is MoveResult.UNKNOWN:
                continue
            row = self._row(command.association, flow)
            if row is None:
                self._put(command.association, flow, MirrorRow(move.tunnel, command.number, now))
            else:
                _move(row, move.tunnel, command.number)

    # What a successor needs.

    def commands(self, now: float, *, rows: bool = True) -> list[AnyCommand]:
        """Return the fewest commands that recreate the state in an empty data path, in their order.

        Without `rows` the flows are left out, and with them what was ordered about them: for a
        successor that died of them, too.
        """
        out: list[AnyCommand] = [] if self.setup is None else [self.setup]
        for known in self.associations.values():
            out.append(known.added)
            out.extend(known.secrets)
        out.extend(self.tunnels.values())
        out.extend(known.default for known in self.associations.values() if known.default is not None)
        if rows:
            out.extend(self._restores(now))
            out.extend(self._pending.values())
        if self._report_wanted:
            out.append(Report())
        if self._snapshot_wanted:
            out.append(Snapshot())
        return out

    def _restores(self, now: float) -> Iterator[Restore]:
        rows = list(self._row_states(now))
        if rows or self.outer:
            yield Restore(tuple(rows[:ROWS_PER_RESTORE]), dict(self.outer))
        for start in range(ROWS_PER_RESTORE, len(rows), ROWS_PER_RESTORE):
            yield Restore(tuple(rows[start : start + ROWS_PER_RESTORE]))

    def _row_states(self, now: float) -> Iterator[RowState]:
        for association, known in self.associations.items():
            for flow, row in known.rows.items():
                seen = row.seen
                yield RowState(
                    association=association,
                    flow=flow,
                    tunnel=row.tunnel,
                    move=row.move,
                    packets_in=seen.packets_in if seen else 0,
                    packets_out=seen.packets_out if seen else 0,
                    bytes_in=seen.bytes_in if seen else 0,
                    bytes_out=seen.bytes_out if seen else 0,
                    age=max(now - row.born, 0.0),
                )


def _selected(known: MirrorAssociation, select: Select) -> Iterator[MirrorRow]:
    match select:
        case OnTunnel():
            return (row for row in known.rows.values() if row.tunnel == select.tunnel)
        case Matching():
            return (row for flow, row in known.rows.items() if covers(select.match, flow))
        case _:
            return iter(known.rows.values())


def _move(row: MirrorRow, tunnel: TunnelId | None, number: int) -> None:
    """Do as paft.Paft.move does."""
    if number >= row.move:
        row.tunnel, row.move = tunnel, number
