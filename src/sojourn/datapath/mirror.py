"""What a data path knows, folded from the commands it got and the events it told: enough to start its successor.

Pure: no clock, no socket. Which rows a `MoveFlows` finds depends on the flows that the data path has
seen before it, so it is applied when `FlowsMoved` answers it. Until then it stands in a journal, with all
orders after it, and a successor gets the journal as it is (a repeated move changes nothing, by its number).
What a State says of rows is believed; what was ordered is known better here, but when adopting.
Bounded: rows as in the table itself (paft.py), two secrets an association (seal.KeySchedule),
everything else by what control ordered.
"""

from collections import deque
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
    Resumed,
    Role,
    RowState,
    Select,
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
    TunnelMoved,
)
from sojourn.upmt.match import covers

ROWS_PER_RESTORE: Final = 2048
"""A Restore holds so many rows at most: the packet loop of a successor runs between two of them."""
MAX_JOURNAL: Final = 1024
ANSWER_PATIENCE: Final = 10.0
"""Seconds after which a `MoveFlows` counts as answered, whatever has become of its answer."""
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
        self._journal: deque[tuple[float, AnyCommand]] = deque()
        """Orders from the first `MoveFlows` on that has no answer yet, each with its time."""
        self._snapshot_wanted = False
        self._report_wanted = False
        self._max_rows = max_rows_per_association

    # What control ordered.

    def sent(self, command: AnyCommand, now: float) -> None:
        """Take in a command on its way to the data path."""
        match command:
            case Snapshot():
                self._snapshot_wanted = True
            case Report():
                self._report_wanted = True
            case SendInner() | Resumed():
                pass  # of the moment: they leave no state
            case _ if self._journal or isinstance(command, MoveFlows):
                self._journal.append((now, command))
                self._expire(now)
            case _:
                self._apply(command, now)

    def _expire(self, now: float) -> None:
        journal = self._journal
        while journal and (len(journal) > MAX_JOURNAL or now - journal[0][0] > ANSWER_PATIENCE):
            self._apply(journal.popleft()[1], now)
            self._settle(now)

    def _settle(self, now: float) -> None:
        """Apply what no longer stands behind an unanswered `MoveFlows`."""
        while self._journal and not isinstance(self._journal[0][1], MoveFlows):
            self._apply(self._journal.popleft()[1], now)

    def _apply(self, command: AnyCommand, now: float) -> None:
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
                self._move_flows(command, (), now)
            case Restore():
                self._restore(command, now)
            case _:
                pass

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

    def _restore(self, command: Restore, now: float) -> None:
        self.outer.update(command.outer)
        for row in command.rows:
            self._put(row.association, row.flow, MirrorRow(row.tunnel, row.move, now - row.age, row))

    # What the data path reported.

    def received(self, event: AnyEvent, now: float) -> None:
        """Take in an event that the data path told."""
        match event:
            case FlowSeen():
                self._seen(event, now)
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
                self._believe_rows(event, now)
            case _:
                pass  # measurements: a successor makes its own

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

    def _seen(self, event: FlowSeen, now: float) -> None:
        row = self._row(event.association, event.flow)
        if row is None:
            self._put(event.association, event.flow, MirrorRow(event.tunnel, 0, now))
        else:  # a successor may tell of a row that it was given: it keeps its number
            row.tunnel = event.tunnel

    def _retire(self, event: SecretInUse) -> None:
        known = self.associations.get(event.association)
        if known is not None:
            known.secrets = [held for held in known.secrets if held.secret.generation >= event.generation]

    def _believe_rows(self, state: State, now: float) -> None:
        for known in self.associations.values():
            known.rows.clear()
        self.outer = dict(state.outer)
        self._restore(Restore(state.rows), now)

    # Handovers.

    def _moved(self, event: FlowsMoved, now: float) -> None:
        """Apply the order that this answers; those before it are past being answered."""
        answered = any(
            isinstance(command, MoveFlows)
            and (command.association, command.number) == (event.association, event.number)
            for _, command in self._journal
        )
        while answered:
            _, command = self._journal.popleft()
            if not isinstance(command, MoveFlows):
                self._apply(command, now)
                continue
            answered = (command.association, command.number) != (event.association, event.number)
            self._move_flows(command, () if answered else event.results, now)
        self._settle(now)

    def _move_flows(self, command: MoveFlows, results: Sequence[Sequence[MoveResult]], now: float) -> None:
        known = self.associations.get(command.association)
        if known is None:
            return
        lists = iter(results)
        for move in command.moves:
            if isinstance(move.select, Exactly):
                self._move_exactly(command, move, move.select, next(lists, ()), now)
                continue
            if isinstance(move.select, Everything):
                known.default = SetDefault(command.association, move.tunnel)
            for row in list(_selected(known, move.select)):
                _move(row, move.tunnel, command.number)

    def _move_exactly(
        self, command: MoveFlows, move: Move, select: Exactly, results: Sequence[MoveResult], now: float
    ) -> None:
        for place, flow in enumerate(select.flows):
            if place < len(results) and results[place] is MoveResult.UNKNOWN:
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
        self._expire(now)
        out: list[AnyCommand] = [] if self.setup is None else [self.setup]
        for known in self.associations.values():
            out.append(known.added)
            out.extend(known.secrets)
        out.extend(self.tunnels.values())
        out.extend(known.default for known in self.associations.values() if known.default is not None)
        if rows:
            out.extend(self._restores(now))
        out.extend(command for _, command in self._journal if rows or not isinstance(command, MoveFlows))
        return out + self._questions()

    def _questions(self) -> list[AnyCommand]:
        report: list[AnyCommand] = [Report()] if self._report_wanted else []
        return [*report, Snapshot()] if self._snapshot_wanted else report

    def adopt(self, state: State, now: float) -> None:
        """Start from what a running data path says."""
        self.setup = state.setup
        self.associations = {added.association: MirrorAssociation(added) for added in state.associations}
        for secret in state.secrets:
            self._install(secret)
        self.tunnels = {opened.tunnel: opened for opened in state.tunnels}
        for default in state.defaults:
            self._set_default(default)
        self._believe_rows(state, now)

    def difference(self, state: State, now: float) -> list[AnyCommand]:
        """Return what brings a living data path from `state` to what was ordered: some orders may have been lost."""
        self._expire(now)
        there: set[AnyCommand] = {*state.associations, *state.secrets, *state.tunnels, *state.defaults}
        out: list[AnyCommand] = [
            RemoveAssociation(added.association)
            for added in state.associations
            if added.association not in self.associations
        ]
        out += [CloseTunnel(opened.tunnel) for opened in state.tunnels if opened.tunnel not in self.tunnels]
        if self.setup is not None and self.setup != state.setup:
            out.append(self.setup)
        wanted: list[AnyCommand] = []
        for known in self.associations.values():
            wanted += [known.added, *known.secrets]
        wanted += self.tunnels.values()
        wanted += [known.default for known in self.associations.values() if known.default is not None]
        out += [command for command in wanted if command not in there]
        out += [command for _, command in self._journal]
        return out + self._questions()

    def _restores(self, now: float) -> Iterator[Restore]:
        rows = list(self._row_states(now))
        if rows or self.outer:
            yield Restore(tuple(rows[:ROWS_PER_RESTORE]), dict(self.outer))
        for start in range(ROWS_PER_RESTORE, len(rows), ROWS_PER_RESTORE):
            yield Restore(tuple(rows[start : start + ROWS_PER_RESTORE]))

    def _row_states(self, now: float) -> Iterator[RowState]:
        unopened = self.setup is not None and self.setup.role is Role.ANCHOR
        for association, known in self.associations.items():
            there = {*self.tunnels, *(known.added.tunnels if unopened else ())}
            for flow, row in known.rows.items():
                seen = row.seen
                yield RowState(
                    association=association,
                    flow=flow,
                    # An event may have crossed the order to close its tunnel.
                    tunnel=row.tunnel if row.tunnel in there else None,
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
