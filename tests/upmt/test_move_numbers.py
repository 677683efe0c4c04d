"""Move numbers over the anchor's restarts: what was ordered before one never wins over what was ordered later."""

import msgspec

from sojourn.model import TCP, UDP, AssociationId, Endpoint, Flow, TunnelId
from sojourn.paft import MoveResult
from sojourn.upmt import events
from sojourn.upmt.anchor import Keep
from sojourn.upmt.commands import Everything, Exactly, Move, MoveFlows, OnTunnel, RowState
from sojourn.upmt.lease import MAX_MOVE
from sojourn.upmt.move_numbers import MoveNumbers, noted
from sojourn.upmt.records import Subscriber
from tests.harness.registering import anchor
from tests.upmt.test_anchor import HOST, VIPA, associated, handover, in_tunnel, tunnelled

ME, T = AssociationId(1), TunnelId(7)


def flow(port: int) -> Flow:
    return Flow(TCP, Endpoint(VIPA, port), Endpoint("203.0.113.1", 80))


def test_orders_older_than_what_is_on_record_are_stale_flow_by_flow() -> None:
    numbers = MoveNumbers({"laptop": Subscriber("laptop", "Laptop", move=5)})
    old = MoveFlows(ME, 4, (Move(Exactly((flow(1), flow(2))), T), Move(OnTunnel(T), None)))
    again, new, unnumbered = (MoveFlows(ME, number, (Move(Everything(), T),)) for number in (5, 6, 0))
    fresh, late = numbers.sift("laptop", [old, again, new, unnumbered])
    assert fresh == [again, new, unnumbered], "the last one may be repeated; the paper's form has no number"
    both = (MoveResult.STALE, MoveResult.STALE)
    assert late == [events.FlowsMoved(ME, 4, ({MoveResult.STALE: 2}, {}), (both, ()))]
    assert numbers.sift("another", [old]) == ([old], [])


def test_a_record_changes_only_by_a_higher_number_and_never_beyond_the_last_one() -> None:
    record = Subscriber("laptop", "Laptop", move=5)
    assert noted(record, 5) is record
    assert noted(record, 6).move == 6
    assert noted(record, MAX_MOVE).move == MAX_MOVE - 1, "the next one must be a number still"


def test_after_a_crash_what_was_ordered_before_it_is_stale_and_the_newest_may_come_again() -> None:
    machine, phone = associated()
    tunnel = machine.subscribers["laptop"].tunnels[0]
    kept = [command for command in tunnelled(machine, bytes(handover(phone, 6)), tunnel) if isinstance(command, Keep)]
    successor = anchor(*(command.subscriber for command in kept))
    successor.start(fresh_secrets=False)
    (command,) = tunnelled(successor, bytes(handover(phone, 5)), tunnel)
    _, answer = in_tunnel(command)
    assert msgspec.json.decode(answer.body) == {
        "mType": "HandoverResponse", "move": 5, "results": [{"tunnelID": tunnel}],
    }  # fmt: skip
    for number in (6, 7):
        *_, order = tunnelled(successor, bytes(handover(phone, number)), tunnel)
        assert order == MoveFlows(HOST, number, (Move(Everything(), tunnel),))
    assert successor.subscribers["laptop"].move == 7


def test_a_restarted_machine_learns_from_the_rows_what_was_ordered_last() -> None:
    machine, _ = associated()
    successor = anchor(*machine.subscribers.values())
    successor.start(fresh_secrets=False)
    flow = Flow(UDP, Endpoint(VIPA, 1), Endpoint("203.0.113.1", 2))
    rows = tuple(RowState(HOST, flow, None, number, 0, 0, 0, 0, 0.0) for number in (3, 9, 4))
    successor.handle(events.State(None, (), (), (), (), rows), 0.0)
    assert successor.subscribers["laptop"].move == 9
