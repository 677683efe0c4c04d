"""The flows as control knows them. That orders mean here what they mean to the table: tests/datapath/test_mirror.py."""

from sojourn.model import TCP, AssociationId, Endpoint, Flow, Origin, TunnelId
from sojourn.policy.match import parse
from sojourn.policy.rules import Rule, Subject
from sojourn.upmt.commands import Everything, Exactly, Labelled, Matching, Move, MoveFlows, OnTunnel, RowState
from sojourn.upmt.events import FlowMoved, FlowSeen
from sojourn.upmt.flow_table import FlowTable

A, B, C = TunnelId(1), TunnelId(2), TunnelId(3)
ME = AssociationId(1)
ZOOM = Origin(7, "/opt/zoom/zoom", cgroup="/user.slice")


def flow(number: int) -> Flow:
    return Flow(TCP, Endpoint("10.201.0.2", 1000 + number), Endpoint("192.0.2.1", 80))


def table(count: int = 3, most: int = 100) -> FlowTable:
    flows = FlowTable(most)
    for number in range(count):
        flows.saw(FlowSeen(ME, flow(number), A, ZOOM if number else None, "zoom" if number else ""), 0.0)
    return flows


def places(flows: FlowTable) -> list[TunnelId | None]:
    return [place.tunnel for place in flows.flows.values()]


def test_flows_come_move_and_go_as_the_data_path_says() -> None:
    flows = table()
    flows.followed(FlowMoved(ME, flow(1), B, (C,)))
    flows.followed(FlowMoved(ME, flow(9), B))
    flows.ended(flow(0))
    flows.ended(flow(9))
    assert [(place.tunnel, place.copies) for place in flows.flows.values()] == [(B, (C,)), (A, ())]
    flows.saw(FlowSeen(ME, flow(1), C, None, "other"), 1.0)
    assert flows.flows[flow(1)].label == "other"


def test_the_oldest_flow_makes_room_for_the_newest() -> None:
    assert list(table(5, most=3).flows) == [flow(2), flow(3), flow(4)]


def test_orders_are_entered_when_somebody_looks_and_in_their_order_with_what_comes_between() -> None:
    flows = table(2)
    for number, tunnel in enumerate((B, C, A, B, C, B, C), 1):
        flows.apply(MoveFlows(ME, number, (Move(Matching(parse("-p tcp --dport 80")), tunnel),)), 0.0)
    assert places(flows) == [C, C]
    flows.apply(MoveFlows(ME, 8, (Move(Everything(), B),)), 0.0)
    flows.saw(FlowSeen(ME, flow(7), A), 0.0)
    assert places(flows) == [B, B, A], "it came after the order"
    flows.apply(MoveFlows(ME, 9, (Move(Everything(), C),)), 0.0)
    flows.forget()
    assert places(flows) == []


def test_the_last_move_that_means_a_flow_has_it() -> None:
    flows = table()
    moves = (Move(Everything(), B), Move(Labelled("zoom"), C), Move(Exactly((flow(1), flow(8))), A))
    assert list(flows.meant(moves)) == [moves[0], moves[2], moves[1]]
    assert list(flows.meant((Move(OnTunnel(B), C), Move(Exactly((flow(1),)), A)))) == [
        None,
        Move(Exactly((flow(1),)), A),
        None,
    ]
    assert list(flows.meant((Move(Exactly((flow(1),)), A), Move(OnTunnel(A), C)))) == [Move(OnTunnel(A), C)] * 3
    flows.apply(MoveFlows(ME, 5, moves), 0.0)
    assert places(flows) == [B, A, C, A]
    flows.apply(MoveFlows(ME, 4, (Move(Everything(), C),)), 0.0)
    assert places(flows) == [B, A, C, A]
    flows.apply(MoveFlows(ME, 6, (Move(Exactly((flow(0),)), C), Move(OnTunnel(B), A, (B,)))), 0.0)
    assert (flows.flows[flow(0)].tunnel, flows.flows[flow(0)].copies) == (A, (B,)), "it was on that before"
    flows.apply(MoveFlows(ME, 7, (Move(Matching(parse("--sport 1002")), None, block=True),)), 0.0)
    assert flows.flows[flow(2)].blocked


def test_a_closed_tunnel_leaves_copied_flows_on_the_others() -> None:
    flows = table()
    flows.apply(MoveFlows(ME, 1, (Move(Labelled("zoom"), A, (B, C)),)), 0.0)
    flows.leave(A)
    flows.leave(C)
    assert [(place.tunnel, place.copies) for place in flows.flows.values()] == [(None, ()), (B, ()), (B, ())]


def test_other_rules_give_other_labels_by_the_program_that_is_known() -> None:
    flows = table()
    flows.set_rules((Rule("app", Subject(applications=("zoom",))), Rule("web", Subject(match=(parse("--dport 80"),)))))
    assert [place.label for place in flows.flows.values()] == ["web", "app", "app"]


def test_what_a_data_path_has_is_taken_over() -> None:
    flows = FlowTable()
    flows.restore(RowState(ME, flow(1), A, 9, 0, 0, 0, 0, 5.0, ZOOM, "zoom", (B,)), 10.0)
    place = flows.flows[flow(1)]
    assert (place.tunnel, place.copies, place.label, place.origin, place.move, place.born) == (
        A, (B,), "zoom", ZOOM, 9, 5.0)  # fmt: skip
