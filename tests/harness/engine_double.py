"""A data-path process with an engine that moves no packets but keeps the same books: for tests of what is around it.

Run as a program it takes the arguments of sojourn.datapath.process. `SendInner` makes it do things:

    see N FIRST    emit N FlowSeen in one turn      hang SECONDS    keep the loop from turning
    raise          die of an error                  allocate N      make garbage
"""

import contextlib
import select
import socket
import sys
import time
from collections.abc import Callable, Sequence

from msgspec import Struct, structs

from sojourn.datapath import process
from sojourn.datapath.classify import Classifier
from sojourn.datapath.epochs import EpochStore
from sojourn.datapath.moves import Mover
from sojourn.linux.descriptors import Descriptors, tunnel_name
from sojourn.model import TCP, AssociationId, Endpoint, Flow, TunnelId
from sojourn.packet.ip import flow_of, key_of
from sojourn.paft import Mode, Paft, Row
from sojourn.policy.subject import compile_rules
from sojourn.upmt import commands, events


class BooksKept(Struct):
    """What stands, as State tells it."""

    setup: commands.Setup | None = None
    associations: dict[AssociationId, commands.AddAssociation] = {}
    secrets: dict[AssociationId, list[commands.InstallSecret]] = {}
    tunnels: dict[TunnelId, commands.OpenTunnel] = {}
    defaults: dict[AssociationId, commands.SetDefault] = {}
    rules: dict[AssociationId, commands.SetRules] = {}


def flow_number(number: int) -> Flow:
    """Return one of very many flows."""
    return Flow(TCP, Endpoint("10.201.0.2", number % 60000), Endpoint(f"192.0.2.{number // 60000 + 1}", 80))


def blank(association: AssociationId, flow: Flow, tunnel: TunnelId | None) -> commands.RowState:
    """Return a row of which no more is known."""
    return commands.RowState(association, flow, tunnel, 0, 0, 0, 0, 0, 0.0)


class EngineDouble:
    """Keeps books, opens real UDP sockets, and does what `SendInner` says."""

    def __init__(
        self, emit: Callable[[events.AnyEvent], None], epochs: EpochStore, descriptors: Descriptors, say: process.Say
    ) -> None:
        self._emit = emit
        self._epochs = epochs
        self._descriptors = descriptors
        self.books = BooksKept()
        self.paft = Paft()
        self._sockets: dict[TunnelId, tuple[str, socket.socket]] = {}
        self._poll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._running = True
        self.opens_sockets = True

    def ask(self, owners: Classifier) -> None:
        """Ask nobody: no packet comes."""

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        self._callbacks[fd] = callback
        self._poll.register(fd, select.EPOLLIN)

    def stop(self) -> None:
        self._running = False

    def run(self) -> None:
        while self._running:
            for fd, _ in self._poll.poll(1.0):
                self._callbacks[fd]()

    def close(self) -> None:
        """Give up what is open."""
        for name, udp in self._sockets.values():
            self._descriptors.release(name)
            udp.close()
        self._poll.close()

    def submit(self, orders: Sequence[commands.AnyCommand]) -> None:
        for order in orders:
            self._obey(order)

    def _obey(self, order: commands.AnyCommand) -> None:
        books = self.books
        match order:
            case commands.Setup():
                books.setup = order
            case commands.AddAssociation():
                books.associations[order.association] = order
            case commands.RemoveAssociation():
                self._remove(order.association)
            case commands.InstallSecret() if order.association in books.associations:
                held = books.secrets.setdefault(order.association, [])
                if not held or held[-1].secret.generation < order.secret.generation:
                    books.secrets[order.association] = [*held, order][-2:]
            case commands.OpenTunnel():
                self._open(order)
            case commands.CloseTunnel():
                self._close(order.tunnel)
            case commands.SetDefault() if order.association in books.associations:
                number = max(order.number, self._default_move(order.association))
                books.defaults[order.association] = structs.replace(order, number=number)
            case commands.MoveFlows():
                self._move(order)
            case commands.SetRules() if order.association in books.associations:
                self._set_rules(order)
            case commands.Restore():
                for row in order.rows:
                    if row.association in books.associations:
                        self._add(row)
            case commands.Snapshot():
                self._emit(self.state())
            case commands.SendInner():
                self._perform(order.packet.decode().split())
            case _:
                pass

    def _remove(self, association: AssociationId) -> None:
        books = self.books
        books.associations.pop(association, None)
        books.secrets.pop(association, None)
        books.defaults.pop(association, None)
        books.rules.pop(association, None)
        for tunnel in [tunnel for tunnel, opened in books.tunnels.items() if opened.association == association]:
            self._close(tunnel)
        for key in list(self.paft.of(association)):
            self.paft.remove(key)

    def _open(self, order: commands.OpenTunnel) -> None:
        if order.association not in self.books.associations:
            return
        self.books.tunnels[order.tunnel] = order
        if not self.opens_sockets:
            return
        name = tunnel_name(order)
        had = self._sockets.pop(order.tunnel, None)
        if had is not None:
            self._descriptors.release(had[0])
            had[1].close()
        fd = self._descriptors.take(name)
        if fd is not None:
            self._sockets[order.tunnel] = name, socket.socket(fileno=fd)
            return
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind((order.local.address, order.local.port))
        self._sockets[order.tunnel] = name, udp
        self._descriptors.hold(name, udp.fileno())

    def _close(self, tunnel: TunnelId) -> None:
        self.books.tunnels.pop(tunnel, None)
        had = self._sockets.pop(tunnel, None)
        if had is not None:
            self._descriptors.release(had[0])
            had[1].close()
        for association, default in self.books.defaults.items():
            if default.tunnel == tunnel:
                self.books.defaults[association] = structs.replace(default, tunnel=None)
        for association in self.paft.associations():
            self.paft.leave(association, tunnel, time.monotonic())

    def _set_rules(self, order: commands.SetRules) -> None:
        before, self.books.rules[order.association] = self.books.rules.get(order.association), order
        if [placed.rule for placed in order.rules] == [placed.rule for placed in (before.rules if before else ())]:
            return
        label_of = compile_rules(placed.rule for placed in order.rules)
        for key, row in self.paft.of(order.association).items():
            row.label = label_of(flow_of(key), row.origin)

    def _add(self, row: commands.RowState) -> None:
        made = Row(row.association, row.tunnel, time.monotonic(), row.move)
        made.label, made.origin = row.label, row.origin
        self.paft.place(made, row.tunnel, made.created, row.copies, row.blocked)
        self.paft.add(key_of(row.flow), made)

    def _default_move(self, association: AssociationId) -> int:
        known = self.books.defaults.get(association)
        return known.number if known is not None else 0

    def _move(self, order: commands.MoveFlows) -> None:
        if order.association not in self.books.associations:
            return
        for move in order.moves:
            newest = order.number >= self._default_move(order.association)
            if isinstance(move.select, commands.Everything) and newest:
                default = commands.SetDefault(order.association, move.tunnel, order.number)
                self.books.defaults[order.association] = default

        def add(flow: Flow, move: commands.Move) -> Row:
            self._add(blank(order.association, flow, move.tunnel))
            row = self.paft.rows[key_of(flow)]
            self.paft.place(row, move.tunnel, row.created, move.copies, move.block)
            row.label = move.label or ""
            return row

        tunnels = frozenset(self.books.associations[order.association].tunnels)
        mover = Mover(self.paft, order, tunnels, add)
        mover.step(time.monotonic())
        self._emit(mover.answer())

    def see(
        self,
        association: AssociationId,
        flow: Flow,
        tunnel: TunnelId | None,
        label: str = "",
        copies: tuple[TunnelId, ...] = (),
    ) -> None:
        """Find a new flow."""
        self._add(structs.replace(blank(association, flow, tunnel), label=label, copies=copies))
        self._emit(events.FlowSeen(association, flow, tunnel, None, label, copies))

    def learn(self, association: AssociationId, flow: Flow, tunnel: TunnelId) -> None:
        """Let a flow follow a packet."""
        row = self.paft.get(key_of(flow))
        if row is not None and row.association == association and row.mode is Mode.ONE:
            row.tunnel = tunnel
            self._emit(events.FlowMoved(association, flow, tunnel))

    def end(self, association: AssociationId, flow: Flow) -> None:
        """Forget a flow."""
        if self.paft.remove(key_of(flow)) is not None:
            self._emit(events.FlowEnded(association, flow))

    def state(self) -> events.State:
        """Tell all."""
        books = self.books
        rows = tuple(
            structs.replace(
                blank(row.association, flow_of(key), row.tunnel),
                move=row.move, label=row.label, origin=row.origin, copies=row.copies, blocked=row.blocked,
            )
            for key, row in self.paft.rows.items()
        )  # fmt: skip
        return events.State(
            setup=books.setup,
            associations=tuple(books.associations.values()),
            secrets=tuple(secret for held in books.secrets.values() for secret in held),
            tunnels=tuple(books.tunnels.values()),
            defaults=tuple(books.defaults.values()),
            rows=rows,
            rules=tuple(books.rules.values()),
        )

    def _perform(self, words: list[str]) -> None:
        match words:
            case ["see", count, first]:
                for number in range(int(first), int(first) + int(count)):
                    self.see(AssociationId(1), flow_number(number), TunnelId(7))
            case ["hang", seconds]:
                until = time.monotonic() + float(seconds)
                while time.monotonic() < until:
                    with contextlib.suppress(InterruptedError):
                        time.sleep(0.05)
            case ["raise"]:
                raise RuntimeError("the test said so")
            case ["allocate", count]:
                for _ in range(int(count)):
                    loop: list[object] = []
                    loop.append(loop)
            case _:
                raise ValueError(words)


if __name__ == "__main__":
    sys.exit(process.main(EngineDouble))
