"""The fold, against an engine that keeps books: whatever was said, a successor stands where its predecessor stood."""

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.datapath import mirror as module
from sojourn.datapath.epochs import EpochStore
from sojourn.datapath.mirror import Mirror
from sojourn.linux.descriptors import Descriptors
from sojourn.model import TCP, AssociationId, Endpoint, Flow, TunnelId
from sojourn.packet.seal import Secret
from sojourn.policy.match import parse
from sojourn.policy.rules import Rule, Subject
from sojourn.upmt import commands, events
from sojourn.upmt.peer_events import PeerEvent
from tests.harness.engine_double import EngineDouble, flow_number

HOSTS = (AssociationId(1), AssociationId(2))
TUNNELS = tuple(TunnelId(number) for number in range(1, 5))
TUNNELS_OF = {HOSTS[0]: TUNNELS[:2], HOSTS[1]: TUNNELS[2:]}
SETUP = commands.Setup(commands.Role.HOST, "sojourn0", 1400)
NOW = 1000.0


def added(host: AssociationId) -> commands.AddAssociation:
    return commands.AddAssociation(host, f"10.201.0.{host + 1}", None, TUNNELS_OF[host])


def secret(host: AssociationId, generation: int) -> commands.InstallSecret:
    return commands.InstallSecret(host, Secret(generation, bytes(32), generation))


def opened(host: AssociationId, tunnel: TunnelId) -> commands.OpenTunnel:
    return commands.OpenTunnel(host, tunnel, "lo", Endpoint("127.0.0.1", 0), Endpoint("127.0.0.1", 9))


def moved(host: AssociationId, number: int, select: commands.Select, to: TunnelId | None) -> commands.MoveFlows:
    return commands.MoveFlows(host, number, (commands.Move(select, to),))


def fold(*steps: commands.AnyCommand | events.AnyEvent) -> Mirror:
    """A mirror of a data path that did each thing at once."""
    mirror = Mirror()
    for step in steps:
        if isinstance(step, events.Event | PeerEvent):
            mirror.received(step, NOW)
        else:
            mirror.sent(step, NOW)
            mirror.done(1, NOW)
    return mirror


def seen(host: AssociationId, number: int, tunnel: TunnelId | None = TUNNELS[0]) -> events.FlowSeen:
    return events.FlowSeen(host, flow_number(number), tunnel)


def rows(orders: list[commands.AnyCommand]) -> dict[Flow, tuple[TunnelId | None, int]]:
    return {
        row.flow: (row.tunnel, row.move)
        for order in orders
        if isinstance(order, commands.Restore)
        for row in order.rows
    }


def test_nothing_comes_of_nothing() -> None:
    assert Mirror().replay(NOW) == []


def test_a_successor_gets_the_last_word_on_each_thing_and_no_other() -> None:
    host, tunnel = HOSTS[0], TUNNELS[0]
    moved_there = commands.OpenTunnel(host, tunnel, "wlan0", Endpoint("192.0.2.2", 0), Endpoint("127.0.0.1", 9))
    mirror = fold(
        SETUP, added(host), secret(host, 1), secret(host, 2), secret(host, 3), opened(host, tunnel), moved_there,
        opened(host, TUNNELS[1]), commands.CloseTunnel(TUNNELS[1]), commands.SetDefault(host, None),
        commands.SetDefault(host, tunnel), commands.Report(), commands.Snapshot(), commands.Resumed(3.0),
        commands.SendInner(tunnel, b"x"), commands.SendOutside(Endpoint("192.0.2.9", 4), b"x"),
    )  # fmt: skip
    assert mirror.replay(NOW) == [
        SETUP, added(host), secret(host, 2), secret(host, 3), moved_there, commands.SetDefault(host, tunnel),
    ]  # fmt: skip


def test_a_host_that_was_removed_leaves_nothing() -> None:
    host = HOSTS[0]
    mirror = fold(
        SETUP, added(host), secret(host, 1), opened(host, TUNNELS[0]), seen(host, 1),
        events.TunnelMoved(TUNNELS[1], Endpoint("192.0.2.9", 4)), commands.RemoveAssociation(host), seen(host, 2),
    )  # fmt: skip
    assert mirror.replay(NOW) == [SETUP]


def test_orders_that_are_not_done_are_given_again_as_they_were() -> None:
    mirror = fold(SETUP, added(HOSTS[0]), seen(HOSTS[0], 1))
    order = moved(HOSTS[0], 3, commands.OnTunnel(TUNNELS[0]), TUNNELS[1])
    passing = commands.SendInner(TUNNELS[0], b"x"), commands.SendOutside(Endpoint("192.0.2.9", 4), b"x")
    for command in (order, *passing, commands.CloseTunnel(TUNNELS[0]), commands.Snapshot()):
        mirror.sent(command, NOW)
    replay = mirror.replay(NOW)
    assert replay[-3:] == [order, commands.CloseTunnel(TUNNELS[0]), commands.Snapshot()]
    assert rows(replay) == {flow_number(1): (TUNNELS[0], 0)}
    mirror.done(len(replay), NOW)
    again = mirror.replay(NOW)
    assert rows(again) == {flow_number(1): (TUNNELS[1], 3)}
    assert not any(isinstance(command, commands.MoveFlows | commands.Snapshot) for command in again)


def test_who_waits_for_orders_is_called_when_they_are_done_or_given_to_a_successor() -> None:
    mirror, called = fold(SETUP), []
    mirror.when_done(lambda: called.append("at once"))
    assert called == ["at once"]
    mirror.sent(added(HOSTS[0]), NOW)
    mirror.sent(secret(HOSTS[0], 1), NOW)
    mirror.when_done(lambda: called.append("secret"))
    mirror.sent(secret(HOSTS[0], 2), NOW)
    mirror.when_done(lambda: called.append("next"))
    mirror.done(1, NOW)
    assert called == ["at once"]
    mirror.done(1, NOW)
    assert called == ["at once", "secret"]
    mirror.replay(NOW)
    assert called == ["at once", "secret", "next"]


def test_a_successor_that_dies_of_the_flows_is_followed_by_one_without() -> None:
    mirror = fold(SETUP, added(HOSTS[0]), seen(HOSTS[0], 1))
    mirror.sent(moved(HOSTS[0], 3, commands.Everything(), None), NOW)
    assert mirror.replay(NOW, rows=False) == [SETUP, added(HOSTS[0])]


def test_a_lower_move_number_changes_no_row_that_a_higher_one_has_moved() -> None:
    exactly = commands.Exactly((flow_number(1), flow_number(2)))
    mirror = fold(
        added(HOSTS[0]), seen(HOSTS[0], 1), moved(HOSTS[0], 9, commands.Exactly((flow_number(1),)), TUNNELS[2]),
        moved(HOSTS[0], 4, exactly, TUNNELS[3]),
    )  # fmt: skip
    assert rows(mirror.replay(NOW)) == {flow_number(1): (TUNNELS[2], 9), flow_number(2): (TUNNELS[3], 4)}


def test_a_secret_that_is_in_use_makes_the_older_ones_go() -> None:
    mirror = fold(added(HOSTS[0]), secret(HOSTS[0], 1), secret(HOSTS[0], 2), events.SecretInUse(HOSTS[0], 2))
    assert mirror.replay(NOW) == [added(HOSTS[0]), secret(HOSTS[0], 2)]


def test_an_anchor_keeps_the_secret_in_use_and_the_newest() -> None:
    host, setup = HOSTS[0], commands.Setup(commands.Role.ANCHOR, "sojourn0", 1400)
    mirror = fold(setup, added(host), *(secret(host, generation) for generation in (1, 2, 3)))
    assert mirror.replay(NOW) == [setup, added(host), secret(host, 1), secret(host, 3)]
    mirror.received(events.SecretInUse(host, 3), NOW)
    assert mirror.replay(NOW) == [setup, added(host), secret(host, 3)]


def test_outer_addresses_are_those_last_proved() -> None:
    first, last = Endpoint("192.0.2.1", 1), Endpoint("192.0.2.1", 2)
    mirror = fold(added(HOSTS[0]), events.TunnelMoved(TUNNELS[0], first), events.TunnelMoved(TUNNELS[0], last))
    assert mirror.replay(NOW)[-1] == commands.Restore((), {TUNNELS[0]: last})


def test_a_state_says_which_rows_there_are_but_not_what_was_ordered() -> None:
    mirror = fold(SETUP, added(HOSTS[0]), seen(HOSTS[0], 1), commands.SetDefault(HOSTS[0], TUNNELS[0]))
    row = commands.RowState(HOSTS[0], flow_number(2), TUNNELS[1], 5, 1, 2, 3, 4, 60.0)
    mirror.received(events.State(None, (), (), (), (), (row,)), NOW)
    replay = mirror.replay(NOW + 5.0)
    assert replay[:-1] == [SETUP, added(HOSTS[0]), commands.SetDefault(HOSTS[0], TUNNELS[0])]
    assert replay[-1] == commands.Restore(
        (commands.RowState(HOSTS[0], flow_number(2), TUNNELS[1], 5, 1, 2, 3, 4, 65.0),)
    )


def test_rows_are_bounded_and_come_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS_PER_RESTORE", 100)
    mirror = Mirror(max_rows_per_association=250)
    mirror.sent(added(HOSTS[0]), NOW)
    mirror.done(1, NOW)
    for number in range(1000):
        mirror.received(seen(HOSTS[0], number), NOW)
    restores = [command for command in mirror.replay(NOW) if isinstance(command, commands.Restore)]
    assert [len(restore.rows) for restore in restores] == [100, 100, 50]
    assert restores[0].rows[0].flow == flow_number(750)


def test_the_journal_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_JOURNAL", 10)
    mirror = Mirror()
    mirror.sent(added(HOSTS[0]), NOW)
    for generation in range(1, 30):
        mirror.sent(secret(HOSTS[0], generation), NOW)
    assert mirror.replay(NOW)[0] == added(HOSTS[0])
    assert len(mirror.replay(NOW)) == 1 + 2 + 10


FLOWS_OF = {
    host: tuple(Flow(TCP, Endpoint(f"10.201.0.{host + 1}", port), Endpoint("192.0.2.1", 80)) for port in range(3))
    for host in HOSTS
}
LABELS = ("", "call", "web")
RULES = (
    Rule("call", Subject(match=(parse("-p tcp --sport 0:0"),))),
    Rule("web", Subject(match=(parse("-p tcp --sport 1:2"),))),
)
Step = tuple[str, Any]


def orders_for(host: AssociationId) -> st.SearchStrategy[commands.AnyCommand]:
    """Orders about one host and its own tunnels."""
    tunnel_s, flow_s = st.sampled_from(TUNNELS_OF[host]), st.sampled_from(FLOWS_OF[host])
    select_s: st.SearchStrategy[commands.Select] = st.one_of(
        st.builds(commands.OnTunnel, tunnel_s),
        st.just(commands.Everything()),
        st.builds(lambda flows: commands.Exactly(tuple(flows)), st.lists(flow_s, max_size=3)),
        st.just(commands.Matching(parse("-p tcp --sport 0:1"))),
        st.builds(commands.Labelled, st.sampled_from(LABELS)),
    )
    move_s = st.one_of(
        st.builds(commands.Move, select_s, st.none() | tunnel_s),
        st.builds(commands.Move, select_s, st.just(TUNNELS_OF[host][0]), st.just(TUNNELS_OF[host][1:])),
        st.builds(lambda select: commands.Move(select, None, block=True), select_s),
        st.builds(lambda select, label: commands.Move(select, TUNNELS_OF[host][0], label=label),
                  select_s, st.sampled_from(LABELS)),
    )  # fmt: skip
    moves_s = st.lists(move_s, min_size=1, max_size=3).map(tuple)
    rules_s = st.sampled_from(((), RULES[:1], RULES, RULES[::-1]))
    return st.one_of(
        st.just(added(host)),
        st.just(commands.RemoveAssociation(host)),
        st.builds(secret, st.just(host), st.integers(1, 6)),
        st.builds(opened, st.just(host), tunnel_s),
        st.builds(commands.CloseTunnel, tunnel_s),
        st.builds(commands.SetDefault, st.just(host), st.none() | tunnel_s),
        st.builds(commands.MoveFlows, st.just(host), st.integers(1, 9), moves_s),
        st.builds(
            lambda rules: commands.SetRules(host, tuple(commands.Placed(rule, TUNNELS_OF[host][0]) for rule in rules)),
            rules_s,
        ),
        st.just(commands.Snapshot()),
    )


def happenings(host: AssociationId) -> st.SearchStrategy[Step]:
    """What packets of one host make its data path do."""
    tunnel_s, flow_s = st.sampled_from(TUNNELS_OF[host]), st.sampled_from(FLOWS_OF[host])
    copies_s = st.sampled_from([(), TUNNELS_OF[host][1:]])
    return st.one_of(
        st.tuples(
            st.just("see"), st.tuples(st.just(host), flow_s, st.none() | tunnel_s, st.sampled_from(LABELS), copies_s)
        ),
        st.tuples(st.just("learn"), st.tuples(st.just(host), flow_s, tunnel_s)),
        st.tuples(st.just("end"), st.tuples(st.just(host), flow_s)),
    )


step_s: st.SearchStrategy[Step] = st.one_of(
    *[st.tuples(st.just("order"), orders_for(host)) for host in HOSTS] * 3,
    *[st.tuples(st.just("work"), st.integers(1, 4))] * 2,
    *[happenings(host) for host in HOSTS] * 2,
    st.tuples(st.just("read"), st.integers(1, 6)),
    st.tuples(st.just("die"), st.none()),
    st.tuples(st.just("disconnect"), st.none()),
)


class Pair:
    """A mirror and an engine with a wire of two queues between them."""

    def __init__(self) -> None:
        self.mirror = Mirror()
        self.orders: deque[commands.AnyCommand] = deque()
        self.told: deque[events.AnyEvent | int] = deque()
        self.engine = self._new_engine()

    def _new_engine(self) -> EngineDouble:
        emit: Callable[[events.AnyEvent], None] = lambda event: self.told.append(event)  # noqa: E731
        engine = EngineDouble(emit, EpochStore(), Descriptors(), lambda _level, _text: None)
        engine.opens_sockets = False
        return engine

    def order(self, command: commands.AnyCommand) -> None:
        self.mirror.sent(command, NOW)
        self.orders.append(command)

    def work(self, count: int) -> None:
        for _ in range(min(count, len(self.orders))):
            self.engine.submit([self.orders.popleft()])
            self.told.append(1)

    def read(self, count: int) -> None:
        for _ in range(min(count, len(self.told))):
            said = self.told.popleft()
            if isinstance(said, int):
                self.mirror.done(said, NOW)
            else:
                self.mirror.received(said, NOW)

    def die(self) -> None:
        """What was told is still read (the kernel keeps it); orders that were not read are lost.

        A successor has the whole replay before it looks at a packet.
        """
        self.read(len(self.told))
        self.orders = deque(self.mirror.replay(NOW))
        self.engine.close()
        self.engine = self._new_engine()
        self.work(len(self.orders))

    def disconnect(self) -> None:
        """Orders and what was told are lost, the engine goes on."""
        self.told.clear()
        self.orders.clear()
        state = self.engine.state()
        self.orders = deque(self.mirror.difference(state))
        self.mirror.received(state, NOW)

    def step(self, what: str, argument: Any) -> None:  # noqa: ANN401
        match what, argument:
            case "see", (host, flow, *rest):
                if host in self.engine.books.associations:
                    self.engine.end(host, flow)
                    self.engine.see(host, flow, *rest)
            case (("learn" | "end"), tuple()):
                getattr(self.engine, what)(*argument)
            case (("die" | "disconnect"), _):
                getattr(self, what)()
            case _:
                getattr(self, what)(argument)


def standing(state: events.State) -> object:
    """What must be equal. A default of None is as good as none."""
    return (
        state.setup,
        set(state.associations),
        set(state.secrets),
        set(state.tunnels),
        {default for default in state.defaults if default.tunnel is not None},
        set(state.rules),
        {(row.association, row.flow, row.tunnel, row.move, row.label, row.copies, row.blocked) for row in state.rows},
    )


@settings(max_examples=150, deadline=None)
@given(st.lists(step_s, min_size=15, max_size=60))
def test_a_successor_stands_where_its_predecessor_would_after_all_orders(steps: list[Step]) -> None:
    pair = Pair()
    pair.order(SETUP)
    for host in HOSTS:
        pair.order(added(host))
        for tunnel in TUNNELS_OF[host]:
            pair.order(opened(host, tunnel))
    pair.work(len(pair.orders))
    for host in HOSTS:
        for flow in FLOWS_OF[host]:
            pair.step("see", (host, flow, TUNNELS_OF[host][0]))
    for what, argument in steps:
        pair.step(what, argument)
    pair.read(len(pair.told))
    replay = pair.mirror.replay(NOW)
    pair.work(len(pair.orders))
    successor = EngineDouble(lambda event: None, EpochStore(), Descriptors(), lambda _level, _text: None)
    successor.opens_sockets = False
    successor.submit(replay)
    assert standing(successor.state()) == standing(pair.engine.state())
    for engine in (successor, pair.engine):
        engine.close()
