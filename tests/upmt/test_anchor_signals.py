"""The anchor's half of the signals: bodies in, orders and answers out."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sojourn.errors import RemoteProtocolError
from sojourn.model import TCP, AssociationId, Endpoint, Flow, TunnelId
from sojourn.paft import MoveResult
from sojourn.policy.match import parse
from sojourn.upmt import signals
from sojourn.upmt.anchor_signals import (
    FLOWS_PER_PART,
    MAX_WAITING,
    MAX_WAITING_EACH,
    PATIENCE,
    AnchorSignals,
    Answer,
    Sender,
)
from sojourn.upmt.commands import Everything, Exactly, Labelled, Matching, Move, MoveFlows, OnTunnel
from sojourn.upmt.events import FlowsMoved

HOST = AssociationId(7)
A, B, C = TunnelId(0xA), TunnelId(0xB), TunnelId(0xC)
SENDER = Sender(HOST, (A, B, C), A, Endpoint("198.51.100.1", 40001), frozenset({A, B}))
OUTSIDE = Sender(HOST, (A, B, C), None, None, frozenset({A, B}))
FLOW = Flow(TCP, Endpoint("10.201.0.2", 40000), Endpoint("192.0.2.1", 80))


def body(*parts: object) -> bytes:
    return msgspec.json.encode(parts[0] if len(parts) == 1 else parts)


def request(move: int, **row: object) -> dict[str, object]:
    return {"mType": "HandoverRequest", "move": move, "rows": [row]}


def answers(answer: Answer | None) -> list[signals.AnySignal]:
    assert answer is not None
    return signals.decode(answer.body)


def ordered(sender: Sender = SENDER, **row: object) -> Move:
    """Return the one move that a one-row request becomes."""
    orders, answer = AnchorSignals().received("k", sender, body(request(3, **row)), 0.0)
    assert answer is None
    (order,) = orders
    assert (order.association, order.number) == (HOST, 3)
    (move,) = order.moves
    return move


def refused(sender: Sender = SENDER, **row: object) -> str:
    """Return why a one-row request is not carried out."""
    orders, answer = AnchorSignals().received("k", sender, body(request(3, **row)), 0.0)
    assert orders == []
    (failure,) = answers(answer)
    assert isinstance(failure, signals.Failure)
    return failure.reason


def test_a_tunnel_request_is_answered_with_the_tunnel_and_the_address_it_came_from() -> None:
    orders, answer = AnchorSignals().received("k", SENDER, body({"mType": "TunnelRequest"}), 0.0)
    assert orders == []
    assert answers(answer) == [signals.TunnelResponse(A, "198.51.100.1", 40001)]


def test_a_tunnel_request_outside_of_a_tunnel_means_nothing() -> None:
    _, answer = AnchorSignals().received("k", OUTSIDE, body({"mType": "TunnelRequest"}), 0.0)
    assert answers(answer) == [signals.Failure("a tunnel request comes in its tunnel")]


def test_a_keep_alive_is_answered_by_itself() -> None:
    _, answer = AnchorSignals().received("k", SENDER, body({"mType": "KeepAlive", "sequence": 9}), 0.0)
    assert answers(answer) == [signals.KeepAlive(9)]


def test_a_handover_is_answered_when_the_data_path_has_said_what_became_of_it() -> None:
    machine = AnchorSignals()
    wanted = body({"mType": "HandoverRequest", "move": 3, "rows": [{"all": True, "tunnelID": [0xB]}]})
    orders, answer = machine.received("k", SENDER, wanted, 0.0)
    assert orders == [MoveFlows(HOST, 3, (Move(Everything(), B),))]
    assert answer is None
    done = machine.moved(FlowsMoved(HOST, 3, ({MoveResult.MOVED: 2, MoveResult.STALE: 1},)))
    assert done is not None
    assert done.key == "k"
    assert answers(done) == [signals.HandoverResponse(3, (signals.RowResult(0xB, {"moved": 2, "stale": 1}),))]
    assert machine.deadline() is None


def test_every_kind_of_row_becomes_its_selector() -> None:
    flows = [[6, "10.201.0.2", 40000, "192.0.2.1", 80]]
    assert ordered(flows=flows, tunnelID=[B]) == Move(Exactly((FLOW,)), B)
    assert ordered(all=True, tunnelID=[B]) == Move(Everything(), B)
    assert ordered(on=A, tunnelID=[B]) == Move(OnTunnel(A), B)
    match = {"syntax": "IPtables", "match": "-p tcp --dport 80"}
    assert ordered(match=match, tunnelID=[B]) == Move(Matching(parse("-p tcp --dport 80")), B)


@pytest.mark.parametrize(
    ("sender", "wanted", "chosen"),
    [
        (SENDER, [], A),
        (SENDER, [B], B),
        (SENDER, ["11"], B),
        (SENDER, [C, B], B),
        (SENDER, [C], C),
        (SENDER, [C, "any"], A),
        (SENDER, ["any", B], A),
        (SENDER, [99, B], B),
        (OUTSIDE, [B, A], B),
        (OUTSIDE, [C, A], A),
        (OUTSIDE, ["any"], A),
        (Sender(HOST, (A, B), None, None), [B], B),
    ],
)
def test_the_first_tunnel_of_a_preference_list_that_is_alive_is_taken(
    sender: Sender, wanted: list[object], chosen: TunnelId
) -> None:
    assert ordered(sender, all=True, tunnelID=wanted).tunnel == chosen


def test_a_tunnel_of_another_host_is_refused() -> None:
    assert refused(all=True, tunnelID=[99]) == "none of these tunnels is this host's"
    assert refused(Sender(HOST, (A,), None, None), all=True, tunnelID=["any"]) == "none of these tunnels is this host's"
    assert "tunnelID is a number or any" in refused(all=True, tunnelID=["wifi"])


def test_rows_that_select_nothing_or_two_things_are_refused() -> None:
    assert "exactly one" in refused(tunnelID=[B])
    assert "exactly one" in refused(all=True, on=A)
    assert "IPtables is" in refused(match={"syntax": "bpf", "match": "x"})
    orders, answer = AnchorSignals().received("k", SENDER, body({"mType": "HandoverRequest", "move": 1}), 0.0)
    assert orders == []
    assert answers(answer) == [signals.Failure("a handover without rows")]


def test_answers_stand_at_the_positions_of_their_signals() -> None:
    machine = AnchorSignals()
    parts = (
        request(1, all=True, tunnelID=[B]), {"mType": "KeepAlive", "sequence": 5}, {"mType": "Nonsense"},
        request(2, on=A, tunnelID=[99]), request(3, on=A, tunnelID=[C]),
    )  # fmt: skip
    orders, answer = machine.received("k", SENDER, body(*parts), 0.0)
    assert answer is None
    assert [order.number for order in orders] == [1, 3]
    assert machine.moved(FlowsMoved(HOST, 3, ({},))) is None
    done = answers(machine.moved(FlowsMoved(HOST, 1, ({MoveResult.MOVED: 1},))))
    assert [type(part).__name__ for part in done] == [
        "HandoverResponse", "KeepAlive", "Failure", "Failure", "HandoverResponse",
    ]  # fmt: skip
    assert isinstance(done[0], signals.HandoverResponse)
    assert done[0].move == 1


def test_a_request_that_is_asked_twice_is_carried_out_twice_and_each_answer_goes_to_its_own() -> None:
    """The host gave the first message up with its tunnel; the number is the same."""
    machine = AnchorSignals()
    for key in ("first", "second"):
        machine.received(key, SENDER, body(request(3, all=True, tunnelID=[B])), 0.0)
    first = machine.moved(FlowsMoved(HOST, 3, ({MoveResult.MOVED: 1},)))
    second = machine.moved(FlowsMoved(HOST, 3, ({MoveResult.UNCHANGED: 1},)))
    assert first is not None
    assert second is not None
    assert (first.key, second.key) == ("first", "second")
    assert b"moved" in first.body
    assert b"unchanged" in second.body


def test_what_nobody_asked_for_is_no_answer() -> None:
    assert AnchorSignals().moved(FlowsMoved(HOST, 3, ({},))) is None


def test_a_data_path_that_does_not_answer_is_said_so_and_the_host_may_ask_again() -> None:
    machine = AnchorSignals()
    parts = ({"mType": "KeepAlive", "sequence": 5}, request(3, all=True, tunnelID=[B]))
    machine.received("k", SENDER, body(*parts), 10.0)
    assert machine.deadline() == 10.0 + PATIENCE
    assert machine.tick(12.9) == []
    (late,) = machine.tick(10.0 + PATIENCE)
    assert late.key == "k"
    assert answers(late) == [signals.KeepAlive(5), signals.Failure("the data path did not answer", again=True)]
    assert machine.deadline() is None
    assert machine.moved(FlowsMoved(HOST, 3, ({},))) is None, "too late"


def test_what_waits_is_bounded_for_each_host_and_for_all() -> None:
    machine = AnchorSignals()
    for host in range(MAX_WAITING // MAX_WAITING_EACH):
        sender = replace(SENDER, association=AssociationId(host))
        for number in range(MAX_WAITING_EACH):
            machine.received(number, sender, body(request(number, all=True, tunnelID=[B])), 0.0)
        with pytest.raises(RemoteProtocolError, match="too many"):
            machine.received("one more", sender, body(request(9, all=True, tunnelID=[B])), 0.0)
    with pytest.raises(RemoteProtocolError, match="too many"):
        machine.received("k", replace(SENDER, association=AssociationId(10**6)), body(request(9, all=True)), 0.0)
    assert len(machine.tick(PATIENCE)) == MAX_WAITING
    machine.received("later", SENDER, body(request(9, all=True, tunnelID=[B])), 0.0)


def test_copies_go_to_further_tunnels_of_the_host_and_to_no_others() -> None:
    assert ordered(all=True, tunnelID=[A], copies=[B, A, B, 77, C]) == Move(Everything(), A, (B, C))
    assert ordered(all=True, copies=[A, C]) == Move(Everything(), A, (C,)), "the tunnel it came on is the first"


def test_flows_get_the_label_that_stands_beside_them_and_are_found_by_it() -> None:
    wire = [6, "10.201.0.2", 40000, "192.0.2.1", 80]
    assert ordered(flows=[wire], tunnelID=[B], application="call") == Move(Exactly((FLOW,)), B, label="call")
    assert ordered(application="call", tunnelID=[B]) == Move(Labelled("call"), B)
    assert ordered(flows=[wire], application="x" * 100).label == "x" * signals.MAX_LABEL


def test_a_long_list_is_carried_out_in_parts_and_answered_as_one() -> None:
    machine, count = AnchorSignals(), 2 * FLOWS_PER_PART + 10
    wire = [[6, "10.201.0.2", port, "192.0.2.1", 80] for port in range(1, count + 1)]
    rows = [{"all": True, "tunnelID": [A]}, {"flows": wire, "tunnelID": [B]}, {"flows": wire[:3], "tunnelID": [C]}]
    orders, answer = machine.received("k", SENDER, body({"mType": "HandoverRequest", "move": 3, "rows": rows}), 0.0)
    assert answer is None
    assert [[type(move.select).__name__ for move in order.moves] for order in orders] == [
        ["Everything", "Exactly"], ["Exactly"], ["Exactly", "Exactly"]]  # fmt: skip
    sizes = [[len(move.select.flows) for move in order.moves if isinstance(move.select, Exactly)] for order in orders]
    assert sizes == [[FLOWS_PER_PART], [FLOWS_PER_PART], [10, 3]]
    moved, stale = MoveResult.MOVED, MoveResult.STALE
    first = FlowsMoved(HOST, 3, ({moved: 9}, {moved: FLOWS_PER_PART}), ((), (moved,) * FLOWS_PER_PART))
    second = FlowsMoved(HOST, 3, ({moved: FLOWS_PER_PART},), ((moved,) * FLOWS_PER_PART,))
    third = FlowsMoved(HOST, 3, ({moved: 9, stale: 1}, {moved: 3}), ((moved,) * 9 + (stale,), (moved,) * 3))
    assert machine.moved(first) is None
    assert machine.moved(second) is None
    (response,) = answers(machine.moved(third))
    assert response == signals.HandoverResponse(3, (
        signals.RowResult(A, {"moved": 9}),
        signals.RowResult(B, {"moved": count - 1, "stale": 1}, stale=(count - 1,)),
        signals.RowResult(C, {"moved": 3}),
    ))  # fmt: skip


@given(st.binary(max_size=200))
def test_any_body_gets_orders_or_an_answer_or_a_refusal(data: bytes) -> None:
    try:
        orders, answer = AnchorSignals().received("k", SENDER, data, 0.0)
    except RemoteProtocolError:
        return
    assert bool(orders) is not bool(answer)


@pytest.mark.parametrize("move", [-1, 1 << 53, 1 << 64, 10**30])
def test_a_move_number_that_no_host_counts_to_is_refused(move: int) -> None:
    orders, answer = AnchorSignals().received("k", SENDER, body(request(move, all=True)), 0.0)
    assert orders == []
    assert isinstance(answers(answer)[0], signals.Failure)
