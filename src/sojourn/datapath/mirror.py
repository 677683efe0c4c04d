"""What a data path knows, folded from the commands it got and the events it told: enough to start its successor.

Pure: no clock, no socket. What an order does to rows depends on what the data path has seen before it, so
an order is applied when the data path says that it is `done`. Until then it stands in a journal, and a
successor gets the journal as it is (every order may be repeated; a move is known by its number).
Bounded: rows as in the table itself (paft.py), two secrets an association (seal.KeySchedule), the journal,
and everything else by what control ordered.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from msgspec import structs

from sojourn.model import AssociationId, Endpoint, TunnelId
from sojourn.paft import MAX_ROWS_PER_ASSOCIATION
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
    Restore,
    Resumed,
    Role,
    RowState,
    SendInner,
    SendOutside,
    SetDefault,
    SetRules,
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
from sojourn.upmt.flow_table import FlowTable
from sojourn.upmt.peer_commands import HOME, CloseRendezvous, OpenRendezvous, SetHome, UseRendezvous

ROWS_PER_RESTORE: Final = 2048
"""A Restore holds so many rows at most: the packet loop of a successor runs between two of them."""
MAX_JOURNAL: Final = 1 << 16
"""Orders not yet done; beyond it the oldest one counts as done."""


class MirrorAssociation:
    """A mobile host with all that hangs on it."""

    def __init__(self, added: AddAssociation, most: int) -> None:
        self.added = added
        self.secrets: list[InstallSecret] = []
        self.default: SetDefault | None = None
        """With the number of the order that it comes from."""
        self.rules: SetRules | None = None
        self.table = FlowTable(most)

    @property
    def default_move(self) -> int:
        """Return the number of the last order for everything."""
        return self.default.number if self.default is not None else 0


class Mirror:
    """A fold over what was ordered (`sent`) and what was reported (`received`)."""

    def __init__(self, max_rows_per_association: int = MAX_ROWS_PER_ASSOCIATION) -> None:
        self.setup: Setup | None = None
        self.associations: dict[AssociationId, MirrorAssociation] = {}
        self.tunnels: dict[TunnelId, OpenTunnel] = {}
        self.outer: dict[TunnelId, Endpoint] = {}
        self.home: SetHome | None = None
        self.rendezvous: dict[str, OpenRendezvous] = {}
        self.use: UseRendezvous | None = None
        self._journal: deque[AnyCommand] = deque()
        self._replaying = 0
        """Orders of a replay, before the journal's, that are not done yet: they change nothing here."""
        self._awaited: deque[tuple[int, Callable[[], None]]] = deque()
        """Who waits until so many orders more are done."""
        self._done = 0
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
        self._done += count
        while self._awaited and self._awaited[0][0] <= self._done:
            self._awaited.popleft()[1]()

    def when_done(self, call: Callable[[], None]) -> None:
        """Call once the data path has carried out all that it was ordered so far; at once if it has."""
        outstanding = self._replaying + len(self._journal)
        if outstanding:
            self._awaited.append((self._done + outstanding, call))
        else:
            call()

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
            case SetRules() if command.association in self.associations:
                known = self.associations[command.association]
                known.rules = command
                known.table.set_rules(tuple(placed.rule for placed in command.rules))
            case MoveFlows() if command.association in self.associations:
                self._move_flows(command, now)
            case Restore():
                self._restore(command, now)
            case SetHome():
                self.home = command
            case OpenRendezvous():
                self.rendezvous[command.network] = command
            case CloseRendezvous():
                self.rendezvous.pop(command.network, None)
            case UseRendezvous():
                self.use = command
            case _:
                pass  # questions, and what is of the moment

    def _add(self, command: AddAssociation) -> None:
        known = self.associations.get(command.association)
        if known is None:
            self.associations[command.association] = MirrorAssociation(command, self._max_rows)
        else:
            known.added = command

    def _remove(self, association: AssociationId) -> None:
        gone = self.associations.pop(association, None)
        if association == HOME:
            self.home, self.use = None, None
            self.rendezvous.clear()
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
            if tunnel in known.added.tunnels:
                known.table.leave(tunnel)

    def _set_default(self, command: SetDefault) -> None:
        known = self.associations.get(command.association)
        if known is not None:
            known.default = structs.replace(command, number=max(command.number, known.default_move))

    def _restore(self, command: Restore, now: float) -> None:
        self.outer.update(command.outer)
        for row in command.rows:
            if row.association in self.associations:
                self.associations[row.association].table.restore(row, now)

    def _move_flows(self, command: MoveFlows, now: float) -> None:
        known = self.associations[command.association]
        for move in command.moves:
            if isinstance(move.select, Everything) and command.number >= known.default_move:
                known.default = SetDefault(command.association, move.tunnel, command.number)
        known.table.apply(command, now)

    # What the data path reported.

    def received(self, event: AnyEvent, now: float) -> None:
        """Take in an event that the data path told."""
        match event:
            case FlowSeen() if event.association in self.associations:
                self.associations[event.association].table.saw(event, now)
            case FlowMoved() if event.association in self.associations:
                self.associations[event.association].table.followed(event)
            case FlowEnded() if event.association in self.associations:
                self.associations[event.association].table.ended(event.flow)
            case TunnelMoved():
                self.outer[event.tunnel] = event.outer
            case SecretInUse():
                self._retire(event)
            case State():
                self._believe_rows(event, now)
            case _:
                pass  # measurements: a successor makes its own

    def _retire(self, event: SecretInUse) -> None:
        known = self.associations.get(event.association)
        if known is not None:
            known.secrets = [held for held in known.secrets if held.secret.generation >= event.generation]

    def _believe_rows(self, state: State, now: float) -> None:
        for known in self.associations.values():
            known.table.forget()
        self.outer = dict(state.outer)
        self._restore(Restore(state.rows), now)

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
        out: list[AnyCommand] = [] if self.home is None else [self.home]
        out += self.rendezvous.values()
        if self.use is not None and self.use.network in self.rendezvous:
            out.append(self.use)
        for known in self.associations.values():
            out += [known.added, *known.secrets]
        out += self.tunnels.values()
        out += [known.default for known in self.associations.values() if known.default is not None]
        out += [known.rules for known in self.associations.values() if known.rules is not None]
        return out

    def _again(self, before: int, rows: bool = True) -> list[AnyCommand]:
        """Return the journal, to be sent again after `before` other orders."""
        passing = SendInner | SendOutside | Resumed | Measure
        if not rows:
            passing |= MoveFlows
        self._journal = deque(command for command in self._journal if not isinstance(command, passing))
        self._replaying = before
        while self._awaited:  # whoever gets this takes all of it in before it looks at a packet
            self._awaited.popleft()[1]()
        return list(self._journal)

    def adopt(self, state: State, now: float) -> None:
        """Start from what a running data path says."""
        self.setup = state.setup
        self.associations = {each.association: MirrorAssociation(each, self._max_rows) for each in state.associations}
        for secret in state.secrets:
            self._install(secret)
        self.tunnels = {opened.tunnel: opened for opened in state.tunnels}
        for default in state.defaults:
            self._set_default(default)
        for rules in state.rules:
            self._apply(rules, now)
        self._believe_rows(state, now)

    def difference(self, state: State) -> list[AnyCommand]:
        """Return what brings a living data path from `state` to what was ordered: orders may have been lost.

        The journal comes again in full; some of it may have been carried out before.
        """
        coming = {command.association for command in self._journal if isinstance(command, AddAssociation)}
        opening = {command.tunnel for command in self._journal if isinstance(command, OpenTunnel)}
        ruling = {command.association for command in self._journal if isinstance(command, SetRules)}
        there: set[AnyCommand] = {
            *state.associations, *state.secrets, *state.tunnels, *state.defaults, *state.rules}  # fmt: skip
        out: list[AnyCommand] = []
        for added in state.associations:
            if added.association in coming:
                self._add(added)  # its rows are believed from now on
            elif added.association not in self.associations:
                out.append(RemoveAssociation(added.association))
        for rules in state.rules:
            if rules.association in ruling:
                self._apply(rules, 0.0)  # so that the same ones, coming again, label nothing anew here either
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
            for flow, row in known.table.flows.items():
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
                    origin=row.origin,
                    label=row.label,
                    copies=row.copies,
                    blocked=row.blocked,
                )
