"""The outbox of handovers: one MESSAGE pending, batched, repeated, moved to a tunnel that works, never lost."""

from collections.abc import Sequence

from sojourn.model import TCP, Endpoint, Flow, TunnelId
from sojourn.packet import ip
from sojourn.packet.seal import Secret
from sojourn.policy.match import parse
from sojourn.sip import message
from sojourn.upmt import signals
from sojourn.upmt.commands import Everything, Exactly, Matching, Move, SendInner
from sojourn.upmt.handover_sender import (
    ASKED_AGAIN,
    MAX_DATAGRAM_BODY,
    NUMBERS_RESERVED,
    HandoverSender,
    SenderCommand,
    SendSignal,
)
from sojourn.upmt.host_events import HandoverDone
from sojourn.upmt.lease import Lease

WIFI, PHONE = TunnelId(0xA), TunnelId(0xB)
VIPA, ANCHOR = Endpoint("10.201.0.2", 5060), Endpoint("10.201.0.1", 5060)
LEASE = Lease("10.201.0.2", None, 600.0, Secret(1, bytes(32), 4096), (WIFI, PHONE), (), ("10.201.0.1",))
HTTP = Matching(parse("-p tcp --dport 80"))


def sender(first_number: int = 0) -> HandoverSender:
    numbers = iter(range(1, 10**6))
    made = HandoverSender(lambda size: next(numbers).to_bytes(size), first_number)
    made.lease(LEASE, "laptop")
    made.measured(WIFI, 0.02)
    made.measured(PHONE, 0.06)
    return made


def flows(count: int) -> Exactly:
    remote = Endpoint("192.0.2.1", 80)
    return Exactly(tuple(Flow(TCP, Endpoint("10.201.0.2", 10000 + number), remote) for number in range(count)))


def sent(commands: Sequence[SenderCommand]) -> tuple[TunnelId, message.Request]:
    """Return the tunnel and the request of the one datagram that was ordered."""
    (command,) = commands
    assert isinstance(command, SendInner)
    source, destination, payload = ip.udp_parts(command.packet)
    assert (source, destination) == (VIPA, ANCHOR)
    request = message.parse(payload)
    assert isinstance(request, message.Request)
    return command.tunnel, request


def asked(commands: Sequence[SenderCommand]) -> list[tuple[int, list[signals.WireRow]]]:
    """Return the numbers and rows that the one message asks for."""
    _, request = sent(commands)
    found = []
    for part in signals.decode(request.body):
        assert isinstance(part, signals.HandoverRequest)
        found.append((part.move, list(part.rows)))
    return found


def answer(request: message.Request, *parts: signals.AnySignal, status: int = 200) -> bytes:
    body = signals.encode(parts) if parts else b""
    return bytes(message.response(request, status, body=body, content_type=signals.CONTENT_TYPE))


def moved(number: int, count: int = 1) -> signals.HandoverResponse:
    return signals.HandoverResponse(number, (signals.RowResult(WIFI, {"moved": count}),))


def test_a_handover_is_told_in_the_tunnel_that_the_flows_go_to_and_confirmed() -> None:
    machine = sender()
    commands = machine.order(1, [Move(Everything(), PHONE)], 10.0)
    tunnel, request = sent(commands)
    assert tunnel == PHONE
    assert request.method == "MESSAGE"
    assert request.from_.user == "laptop"
    assert request.content_type == "application/json"
    assert asked(commands) == [(1, [signals.WireRow(all=True)])], "told in that tunnel, it is not named"
    assert machine.pending() == 1
    assert machine.received(answer(request, moved(1, 3)), 10.07) == [
        HandoverDone(1, str(PHONE), 10.07 - 10.0, {"moved": 3})
    ]
    assert machine.pending() == 0


def test_it_is_repeated_after_two_round_trips_and_then_ever_more_seldom() -> None:
    machine = sender()
    first = machine.order(1, [Move(Everything(), PHONE)], 10.0)
    times, now = [], 10.0
    for _ in range(4):
        due = machine.deadline()
        assert due is not None
        assert machine.tick(due - 0.001) == []
        assert machine.tick(due) == first
        times.append(round(due - now, 6))
        now = due
    assert times == [0.12, 0.24, 0.48, 0.96]


def test_the_first_repetition_never_comes_before_50_ms() -> None:
    machine = sender()
    machine.measured(WIFI, 0.001)
    machine.order(1, [Move(Everything(), WIFI)], 10.0)
    assert machine.deadline() == 10.05


def test_a_handover_without_answer_is_told_again_for_ever_with_its_number() -> None:
    machine = sender()
    _, first = sent(machine.order(1, [Move(Everything(), PHONE)], 0.0))
    now, last = 0.0, first
    while now < 100.0:
        now = machine.deadline() or 0.0
        commands = machine.tick(now)
        assert asked(commands) == [(1, [signals.WireRow(all=True)])]
        last = sent(commands)[1]
    assert last.via.branch != first.via.branch, "a transaction ends after 32 s (RFC 3261 Timer F)"
    assert len(machine.received(answer(last, moved(1)), now)) == 1


def test_what_comes_while_one_is_pending_waits_and_goes_together() -> None:
    machine = sender()
    _, request = sent(machine.order(1, [Move(HTTP, PHONE)], 0.0))
    assert machine.order(2, [Move(flows(1), WIFI)], 0.001) == []
    assert machine.order(3, [Move(flows(2), PHONE)], 0.002) == []
    done, *rest = machine.received(answer(request, moved(1)), 0.06)
    assert done == HandoverDone(1, str(PHONE), 0.06, {"moved": 1})
    assert [number for number, _ in asked(rest)] == [2, 3]
    tunnel, batch = sent(rest)
    assert tunnel == PHONE, "the newest one's"
    both = machine.received(answer(batch, moved(2), moved(3, 2)), 0.12)
    assert [command.number for command in both if isinstance(command, HandoverDone)] == [2, 3]


def test_an_order_for_everything_makes_those_before_pointless() -> None:
    machine = sender()
    machine.order(1, [Move(HTTP, PHONE)], 0.0)
    machine.order(2, [Move(flows(1), PHONE)], 0.0)
    commands = machine.order(3, [Move(Everything(), WIFI), Move(HTTP, PHONE)], 0.01)
    assert sent(commands)[0] == WIFI
    ((number, rows),) = asked(commands)
    assert number == 3
    assert [row.all for row in rows] == [True, False]
    assert machine.pending() == 1


def test_what_is_pending_on_a_lost_tunnel_goes_at_once_on_one_that_works() -> None:
    machine = sender()
    _, first = sent(machine.order(1, [Move(HTTP, PHONE)], 0.0))
    assert machine.tunnel_lost(PHONE, 0.1) == [], "there is no other one yet"
    commands = machine.order(2, [Move(HTTP, WIFI)], 0.1)
    tunnel, request = sent(commands)
    assert tunnel == WIFI
    assert [number for number, _ in asked(commands)] == [1, 2], "in their order, with their numbers"
    assert request.via.branch != first.via.branch
    assert machine.received(answer(first, moved(1)), 0.11) == [], "the answer to what was given up comes too late"
    assert len(machine.received(answer(request, moved(1), moved(2)), 0.12)) == 2


def test_a_tunnel_lost_while_something_waits_for_another_one_gives_way_to_that() -> None:
    machine = sender()
    machine.order(1, [Move(HTTP, PHONE)], 0.0)
    machine.order(2, [Move(HTTP, WIFI)], 0.05)
    commands = machine.tunnel_lost(PHONE, 0.1)
    assert sent(commands)[0] == WIFI
    assert [number for number, _ in asked(commands)] == [1, 2]
    assert machine.tunnel_lost(PHONE, 0.11) == []


def test_a_tunnel_that_works_again_gets_what_is_pending_at_once() -> None:
    machine = sender()
    machine.order(1, [Move(Everything(), PHONE)], 0.0)
    machine.tunnel_lost(PHONE, 0.5)
    machine.tick(32.0)
    commands = machine.tunnel_works(PHONE, 60.0)
    assert [number for number, _ in asked(commands)] == [1]
    assert machine.tunnel_works(PHONE, 60.1) == []
    assert machine.tunnel_works(WIFI, 60.1) == []


def test_a_message_too_large_for_a_datagram_goes_over_the_connection() -> None:
    machine = sender()
    (command,) = machine.order(1, [Move(flows(200), PHONE)], 0.0)
    assert isinstance(command, SendSignal)
    request = message.parse(command.data)
    assert isinstance(request, message.Request)
    assert len(command.data) > MAX_DATAGRAM_BODY
    assert machine.tick(1.0) == [], "a reliable transport repeats by itself"
    assert machine.received(answer(request, moved(1, 200)), 1.1) == [HandoverDone(1, str(PHONE), 1.1, {"moved": 200})]


def test_a_large_message_goes_again_when_the_association_has_another_connection() -> None:
    machine = sender()
    (first,) = machine.order(1, [Move(flows(200), PHONE)], 0.0)
    assert machine.tunnel_lost(PHONE, 0.1) == []
    (again,) = machine.registered(5.0)
    assert isinstance(first, SendSignal)
    assert isinstance(again, SendSignal)
    assert message.parse(again.data).body == message.parse(first.data).body
    assert machine.pending() == 1


def test_a_new_connection_is_nothing_to_a_message_that_is_in_a_tunnel() -> None:
    machine = sender()
    machine.order(1, [Move(Everything(), PHONE)], 0.0)
    assert machine.registered(0.01) == []


def test_a_refusal_ends_a_handover_and_says_so() -> None:
    machine = sender()
    _, request = sent(machine.order(1, [Move(HTTP, PHONE)], 0.0))
    assert machine.received(answer(request, status=403), 0.1) == [HandoverDone(1, str(PHONE), 0.1, {"refused": 1})]
    _, request = sent(machine.order(2, [Move(HTTP, PHONE)], 1.0))
    done = machine.received(answer(request, signals.Failure("no such match")), 1.5)
    assert done == [HandoverDone(2, str(PHONE), 0.5, {"refused": 1})]
    _, request = sent(machine.order(3, [Move(HTTP, PHONE)], 2.0))
    garbage = answer(request).replace(b"Content-Length: 0\r\n\r\n", b"Content-Length: 2\r\n\r\n{]")
    assert machine.received(garbage, 2.5) == [HandoverDone(3, str(PHONE), 0.5, {"refused": 1})]


def test_a_handover_that_may_succeed_later_is_asked_for_again_a_few_times() -> None:
    machine = sender()
    commands = machine.order(1, [Move(HTTP, PHONE)], 0.0)
    machine.order(2, [Move(HTTP, WIFI)], 0.0)
    later = signals.Failure("the data path did not answer", again=True)
    commands = machine.received(answer(sent(commands)[1], later), 3.0)
    for attempt in range(1, ASKED_AGAIN + 1):
        assert [number for number, _ in asked(commands)] == [1, 2]
        commands = machine.received(answer(sent(commands)[1], later, later), 3.0 * attempt)
    first = commands.pop(0)
    assert first == HandoverDone(1, str(PHONE), 3.0 * ASKED_AGAIN, {"refused": 1})
    assert [number for number, _ in asked(commands)] == [2]


def test_counts_of_all_rows_are_added_up() -> None:
    machine = sender()
    _, request = sent(machine.order(1, [Move(Everything(), PHONE), Move(HTTP, WIFI)], 0.0))
    results = (signals.RowResult(PHONE, {"moved": 3, "stale": 1}), signals.RowResult(WIFI, {"moved": 2}))
    done = machine.received(answer(request, signals.HandoverResponse(1, results)), 0.5)
    assert done == [HandoverDone(1, str(PHONE), 0.5, {"moved": 5, "stale": 1})]


def test_what_is_no_answer_to_the_pending_request_is_ignored() -> None:
    machine = sender()
    _, request = sent(machine.order(1, [Move(HTTP, PHONE)], 0.0))
    other = message.request(
        "MESSAGE", "sip:x", via=message.Via("UDP", "10.201.0.2", 5060, {"branch": message.new_branch(bytes(8))}),
        from_=message.Address("sip:x"), to=message.Address("sip:x"), call_id="c", sequence=1,
    )  # fmt: skip
    for data in (b"", b"\xff", bytes(request), bytes(other), answer(other, moved(1)), b"SIP/2.0 200 OK\r\n\r\n"):
        assert machine.received(data, 0.1) == []
    assert machine.pending() == 1
    assert sender().received(answer(request, moved(1)), 0.1) == []


def test_nothing_is_sent_before_there_is_a_lease_or_to_an_anchor_without_inner_address() -> None:
    machine = HandoverSender(bytes, 0)
    assert machine.order(1, [Move(Everything(), PHONE)], 0.0) == []
    machine.lease(Lease("10.201.0.2", None, 600.0, None, (WIFI, PHONE), (), ()))
    assert machine.order(2, [Move(Everything(), PHONE)], 0.0) == []
    assert machine.deadline() is None


def test_move_numbers_are_reserved_by_the_block_before_the_first_of_it_is_used() -> None:
    machine = HandoverSender(bytes, 5000)
    given = [machine.next_number() for _ in range(2 * NUMBERS_RESERVED)]
    assert [number for number, _ in given] == list(range(5001, 5001 + 2 * NUMBERS_RESERVED))
    reserved = [number for number, is_new in given if is_new]
    assert reserved == [5001, 6001]
    machine = HandoverSender(bytes, 5000)
    for _ in range(3 * NUMBERS_RESERVED):
        number, _ = machine.next_number()
        assert number <= machine.reserved, "a successor starts above every number that was used"
