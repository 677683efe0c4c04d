"""What a data path knows, folded from the commands it got and the events it told: enough to start its successor.

Pure: no clock, no socket. What an order does to rows depends on what the data path has seen before it, so
an order is applied when the data path says that it is `done`. Until then it stands in a journal, and a
successor gets the journal as it is (every order may be repeated; a move is known by its number).
Bounded: rows as in the table itself (paft.py), two secrets an association (seal.KeySchedule), the journal,
and everything else by what control ordered.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final

from msgspec import structs

from sojourn.model import AssociationId, Endpoint, Flow, TunnelId
from sojourn.paft import MAX_ROWS_PER_ASSOCIATION
from sojourn.policy.match import covers
from sojourn.upmt.commands import (
    AddAssociation,
    AnyCommand,
    CloseTunnel,
    Everything,
    Exactly,
    InstallSecret,
    Matching,
    Measure,
    MoveFlows,
    OnTunnel,
    OpenTunnel,
    RemoveAssociation,
    Restore,
    Resumed,
    Role,
    RowState,
    Select,
    SendInner,
    SendOutside,
    SetDefault,
    Setup,
)
from sojourn.upmt.events import (
    AnyEvent,
    FlowEnded,
    FlowMoved,
    FlowSeen,
    SecretInUse,
    State,
    TunnelMoved,
)

ROWS_PER_RESTORE: Final = 2048
"""A Restore holds so many rows at most: the packet loop of a successor runs between two of them."""
MAX_JOURNAL: Final = 1 << 16
"""Orders not yet done; beyond it the oldest one counts as done."""


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
        self._journal: deque[AnyCommand] = deque()
        self._replaying = 0
        """Orders of a replay, before the journal's, that are not done yet: they change nothing here."""
        self._max_rows = max_rows_per_association

    # What control ordered.

    def sent(self, command: AnyCommand, now: float) -> None:
        """Take in a command on its way to the data path."""
        self._journal.append(command)
        while len(self._journal) > MAX_JOURNAL:
            self._apply(self._journal.popleft(), now)

    def done(self, count: int, now: float) -> None:
        """Note that the data path has carried out `count` more orders, in the order they were sent."""
        replayed = min(count, self._replaying)
        self._replaying -= replayed
        for _ in range(min(count - replayed, len(self._journal))):
            self._apply(self._journal.popleft(), now)

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
            case OpenTunnel() if command.association in self.associations:
                self.tunnels[command.tunnel] = command
            case CloseTunnel():
                self._close(command.tunnel)
            case SetDefault():
                self._set_default(command)
            case MoveFlows():
                self._move_flows(command, now)
            case Restore():
                self._restore(command, now)
            case _:
                pass  # questions, and what is of the moment

    def _add(self, command: AddAssociation) -> None:
        known = self.associations.get(command.association)
        if known is None:
            self.associations[command.association] = MirrorAssociation(command)
        else:
            known.added = command

    def _remove(self, association: AssociationId) -> None:
        gone = self.associations.pop(association, None)
        mine = {tunnel for tunnel, opened in self.tunnels.items() if opened.association == association}
        for tunnel in mine:
            del self.tunnels[tunnel]
        for tunnel in mine.union(gone.added.tunnels if gone is not None else ()):
            self.outer.pop(tunnel, None)

    def _install(self, command: InstallSecret) -> None:
        known = self.associations.get(command.association)
        if known is None:
            return
        if known.secrets and command.secret.generation <= known.secrets[-1].secret.generation:
            return
        # Which one an anchor seals with is known (SecretInUse): what came after it and was never used gives way
        # (seal.KeySchedule). A host seals with the newest at once, and opens the one before meanwhile.
        anchor = self.setup is not None and self.setup.role is Role.ANCHOR
        known.secrets = [*(known.secrets[:1] if anchor else known.secrets[-1:]), command]

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
            case TunnelMoved():
                self.outer[event.tunnel] = event.outer
            case SecretInUse():
                self._retire(event)
            case State():
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

    def _move_flows(self, command: MoveFlows, now: float) -> None:
        known = self.associations.get(command.association)
        if known is None:
            return
        for move in command.moves:
            if isinstance(move.select, Exactly):
                self._move_exactly(command, move.select, move.tunnel, now)
                continue
            if isinstance(move.select, Everything):
                known.default = SetDefault(command.association, move.tunnel)
            for row in list(_selected(known, move.select)):
                _move(row, move.tunnel, command.number)

    def _move_exactly(self, command: MoveFlows, select: Exactly, tunnel: TunnelId | None, now: float) -> None:
        for flow in select.flows:
            row = self._row(command.association, flow)
            if row is None:
                self._put(command.association, flow, MirrorRow(tunnel, command.number, now))
            else:
                _move(row, tunnel, command.number)

    # What a successor needs.

    def replay(self, now: float, *, rows: bool = True) -> list[AnyCommand]:
        """Return the fewest commands that recreate the state in an empty data path, in their order, and the journal.

        Its `done` counts them all. Without `rows` the flows are left out, and with them what was
        ordered about them: for the successor of one that died of them.
        """
        out: list[AnyCommand] = [] if self.setup is None else [self.setup]
        out += self._wanted()
        if rows:
            out += self._restores(now)
        return out + self._again(len(out), rows)

    def _wanted(self) -> list[AnyCommand]:
        out: list[AnyCommand] = []
        for known in self.associations.values():
            out += [known.added, *known.secrets]
        out += self.tunnels.values()
        out += [known.default for known in self.associations.values() if known.default is not None]
        return out

    def _again(self, before: int, rows: bool = True) -> list[AnyCommand]:
        """Return the journal, to be sent again after `before` other orders."""
        passing = SendInner | SendOutside | Resumed | Measure
        if not rows:
            passing |= MoveFlows
        self._journal = deque(command for command in self._journal if not isinstance(command, passing))
        self._replaying = before
        return list(self._journal)

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

    def difference(self, state: State) -> list[AnyCommand]:
        """Return what brings a living data path from `state` to what was ordered: orders may have been lost.

        The journal comes again in full; some of it may have been carried out before.
        """
        coming = {command.association for command in self._journal if isinstance(command, AddAssociation)}
        opening = {command.tunnel for command in self._journal if isinstance(command, OpenTunnel)}
        there: set[AnyCommand] = {*state.associations, *state.secrets, *state.tunnels, *state.defaults}
        out: list[AnyCommand] = []
        for added in state.associations:
            if added.association in coming:
                self._add(added)  # its rows are believed from now on
            elif added.association not in self.associations:
                out.append(RemoveAssociation(added.association))
        kept = self.tunnels.keys() | opening
        out += [CloseTunnel(opened.tunnel) for opened in state.tunnels if opened.tunnel not in kept]
        if self.setup is not None and self.setup != state.setup:
            out.append(self.setup)
        out += [command for command in self._wanted() if command not in there]
        return out + self._again(len(out))

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
