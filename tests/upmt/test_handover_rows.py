"""What an anchor is told of a handover by rules."""

from hypothesis import given
from hypothesis import strategies as st

from sojourn.model import TCP, AssociationId, Endpoint, Flow, TunnelId
from sojourn.policy.match import parse
from sojourn.upmt.commands import Everything, Exactly, Labelled, Matching, Move, MoveFlows, OnTunnel, Select
from sojourn.upmt.events import FlowSeen
from sojourn.upmt.flow_table import FlowTable
from sojourn.upmt.handover_rows import MANY, in_parts, rows_for_anchor

A, B, C = TunnelId(1), TunnelId(2), TunnelId(3)
ME = AssociationId(1)
LABELS = ("", "call", "web")


def flow(number: int) -> Flow:
    return Flow(TCP, Endpoint("10.201.0.2", 1000 + number), Endpoint("192.0.2.1", 80))


def table(*flows: tuple[str, TunnelId | None, tuple[TunnelId, ...]]) -> FlowTable:
    made = FlowTable()
    for number, (label, tunnel, copies) in enumerate(flows):
        made.saw(FlowSeen(ME, flow(number), tunnel, None, label, copies), 0.0)
    return made


def flows(*numbers: int) -> Exactly:
    return Exactly(tuple(flow(number) for number in numbers))


def test_a_row_for_a_label_becomes_a_list_of_its_flows() -> None:
    known = table(("call", A, ()), ("web", A, ()), ("call", B, ()))
    assert rows_for_anchor([Move(Labelled("call"), B, (C,))], known) == [Move(flows(0, 2), B, (C,))]
    assert rows_for_anchor([Move(Labelled("call"), B)], known) == [Move(flows(0), B)], "the other one is there"
    assert rows_for_anchor([Move(Labelled("nobody"), B)], known) == []


def test_what_waits_or_is_refused_is_the_hosts_affair() -> None:
    known = table(("call", A, ()), ("web", A, ()))
    assert rows_for_anchor([Move(Labelled("call"), None), Move(Labelled("web"), None, block=True)], known) == []
    assert rows_for_anchor([Move(Everything(), None)], known) == []


def test_everything_is_said_at_once_and_the_exceptions_after_it() -> None:
    known = table(("call", A, ()), ("web", A, ()), ("", A, ()), ("call", B, ()))
    order = [Move(Everything(), B), Move(Labelled("call"), A, (B,)), Move(Labelled("web"), None)]
    assert rows_for_anchor(order, known) == [
        Move(Everything(), B),
        Move(flows(0, 3), A, (B,)),
        Move(flows(1), A),
    ], "the one that waits stays where the anchor has it"


def test_most_of_a_tunnels_flows_are_spoken_of_as_all_that_it_carries() -> None:
    many = [("web", A, ())] * MANY + [("call", A, ())] * 3 + [("web", C, ())]
    known = table(*many, ("other", A, ()))
    order = [Move(Labelled("web"), B), Move(Labelled("call"), C)]
    last = MANY + 4
    assert rows_for_anchor(order, known) == [
        Move(OnTunnel(A), B),
        Move(flows(MANY, MANY + 1, MANY + 2), C),
        Move(flows(MANY + 3), B),
        Move(flows(last), A),
    ]


def test_an_order_without_labels_is_told_as_it_is_but_for_what_waits() -> None:
    order = [Move(Matching(parse("-p tcp")), A), Move(flows(7), None), Move(flows(8), B)]
    assert rows_for_anchor(order, table()) == [order[0], order[2]]


def test_flows_that_nobody_knows_yet_are_named_all_the_same() -> None:
    order = [Move(Labelled("call"), B), Move(flows(9), C)]
    assert rows_for_anchor(order, table(("call", A, ()))) == [Move(flows(0), B), Move(flows(9), C)]


tunnel_s = st.sampled_from([A, B, C])
copies_s = st.sampled_from([(), (C,)])
select_s: st.SearchStrategy[Select] = st.one_of(
    st.sampled_from(LABELS).map(Labelled),
    tunnel_s.map(OnTunnel),
    st.just(Everything()),
    st.just(Matching(parse("-p tcp --sport 1000:1002"))),
    st.lists(st.integers(0, 7), max_size=4).map(lambda numbers: flows(*numbers)),
)
move_s = st.one_of(
    st.builds(Move, select_s, st.none() | tunnel_s),
    st.builds(Move, select_s, st.sampled_from([A, B]), copies_s),
    st.builds(lambda select: Move(select, None, block=True), select_s),
)
flow_s = st.tuples(st.sampled_from(LABELS), st.sampled_from([A, B]), copies_s)


@given(st.lists(flow_s, max_size=8), st.lists(move_s, min_size=1, max_size=4), st.booleans())
def test_an_anchor_that_had_the_same_table_has_it_again_but_for_what_waits(
    known: list[tuple[str, TunnelId, tuple[TunnelId, ...]]], moves: list[Move], many: bool
) -> None:
    known = known * (MANY if many else 1)
    host, anchor = table(*known), table(*known)
    for place in anchor.flows.values():
        place.label = ""
    before = {flow: (place.tunnel, place.copies) for flow, place in anchor.flows.items()}
    if not any(isinstance(move.select, Labelled) for move in moves):
        moves = [*moves, Move(Labelled("call"), C)]
    anchor.apply(MoveFlows(ME, 1, tuple(rows_for_anchor(moves, host))), 0.0)
    host.apply(MoveFlows(ME, 1, tuple(moves)), 0.0)
    for flow_, was in before.items():
        place, there = host.flows[flow_], anchor.flows[flow_]
        wanted = was if place.tunnel is None or place.blocked else (place.tunnel, place.copies)
        assert (there.tunnel, there.copies) == wanted


def test_an_order_is_cut_at_its_long_lists() -> None:
    order = [Move(Everything(), A), Move(flows(*range(5)), B, (C,))]
    assert in_parts(order, 2) == [
        (Move(Everything(), A),),
        (Move(flows(0, 1), B, (C,)),),
        (Move(flows(2, 3), B, (C,)),),
        (Move(flows(4), B, (C,)),),
    ]
    assert in_parts(order, 9) == [tuple(order)]
