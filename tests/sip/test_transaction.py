from hypothesis import given
from hypothesis import strategies as st

from sojourn.model import Endpoint
from sojourn.sip import via
from sojourn.sip.message import Address, Request, Response, parse, request, response
from sojourn.sip.transaction import (
    Answered,
    ClientState,
    ClientTransaction,
    GaveUp,
    ServerTransactions,
    Timers,
    Transmit,
)
from tests.sip.test_message import M1, plain_request

OK = response(plain_request(), 200)
TRYING = response(plain_request(), 100)


def run(transaction: ClientTransaction, until: float) -> list[tuple[float, object]]:
    """Tick at each deadline up to `until` and return what was ordered when."""
    ordered: list[tuple[float, object]] = []
    while (at := transaction.deadline()) is not None and at <= until:
        ordered += [(at, command) for command in transaction.tick(at)]
    return ordered


def test_timer_e_doubles_to_t2_and_timer_f_ends_after_32_seconds() -> None:
    transaction = ClientTransaction(plain_request(), reliable=False)
    assert transaction.start(0) == [Transmit(transaction.data)]
    ordered = run(transaction, 100)
    times = [at for at, command in ordered if isinstance(command, Transmit)]
    assert times == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert [at for at, command in ordered if isinstance(command, GaveUp)] == [32.0]
    assert transaction.state is ClientState.TERMINATED
    assert transaction.deadline() is None


def test_nothing_is_retransmitted_on_a_reliable_transport() -> None:
    transaction = ClientTransaction(plain_request(), reliable=True)
    transaction.start(0)
    assert run(transaction, 100) == [(32.0, GaveUp("no answer to OPTIONS within 32 s"))]


def test_after_a_provisional_answer_timer_e_is_t2() -> None:
    transaction = ClientTransaction(plain_request(), reliable=False)
    transaction.start(0)
    assert transaction.received(TRYING, 0.1) == []
    assert transaction.state is ClientState.PROCEEDING
    assert [at for at, _ in run(transaction, 9)] == [4.1, 8.1]


def test_copies_of_the_answer_are_absorbed_until_timer_k() -> None:
    transaction = ClientTransaction(plain_request(), reliable=False)
    transaction.start(0)
    assert transaction.received(OK, 0.2) == [Answered(OK)]
    assert transaction.received(OK, 0.3) == []
    assert transaction.deadline() == 5.2
    assert transaction.tick(5.2) == []
    assert transaction.state is ClientState.TERMINATED
    assert transaction.deadline() is None


def test_on_a_reliable_transport_timer_k_is_zero() -> None:
    transaction = ClientTransaction(plain_request(), reliable=True)
    transaction.start(0)
    assert transaction.received(OK, 0.2) == [Answered(OK)]
    assert transaction.state is ClientState.TERMINATED


def test_signals_may_have_a_shorter_first_interval() -> None:
    transaction = ClientTransaction(plain_request(), reliable=False, timers=Timers(t1=0.05))
    transaction.start(0)
    assert [round(at, 3) for at, _ in run(transaction, 1.0)] == [0.05, 0.15, 0.35, 0.75]


def test_an_abandoned_transaction_does_nothing_more() -> None:
    transaction = ClientTransaction(plain_request(), reliable=False)
    transaction.start(0)
    transaction.abandon()
    assert transaction.deadline() is None
    assert transaction.tick(100) == []
    assert transaction.received(OK, 100) == []


def test_a_response_matches_by_branch_and_method() -> None:
    transaction = ClientTransaction(plain_request(), reliable=False)
    assert transaction.matches(OK)
    other = parse(bytes(OK).replace(b"z9hG4bK1", b"z9hG4bK2"))
    method = parse(bytes(OK).replace(b"7 OPTIONS", b"7 REGISTER"))
    assert isinstance(other, Response)
    assert isinstance(method, Response)
    assert not transaction.matches(other)
    assert not transaction.matches(method)


def test_a_tick_that_is_early_late_or_doubled_is_harmless() -> None:
    transaction = ClientTransaction(plain_request(), reliable=False)
    transaction.start(0)
    assert transaction.tick(0.1) == []
    assert transaction.tick(10) == [Transmit(transaction.data)]
    assert transaction.tick(10) == []


def with_branch(branch: str) -> Request:
    """Return a request of its own transaction."""
    where = via.make("UDP", Endpoint("10.0.0.1", 5060), branch)
    return request(
        "MESSAGE", "sip:b", via=where, from_=Address("sip:a"), to=Address("sip:b"), call_id="c", sequence=1
    )  # fmt: skip


def test_a_retransmitted_request_gets_the_same_answer_until_timer_j() -> None:
    server = ServerTransactions()
    key = server.key(with_branch("z9hG4bKx"), "source")
    assert server.received(key, False, 0) == (True, None)
    assert server.received(key, False, 0.5) == (False, None)
    server.answered(key, b"answer")
    assert server.received(key, False, 31.9) == (False, b"answer")
    assert server.received(key, False, 32.0) == (True, None)


def test_timer_j_is_zero_on_a_reliable_transport() -> None:
    server = ServerTransactions()
    key = server.key(with_branch("z9hG4bKx"), 1)
    assert server.received(key, True, 0) == (True, None)
    server.answered(key, b"answer")
    assert len(server) == 0


def test_an_answer_is_not_repeated_to_another_source() -> None:
    asked = with_branch("z9hG4bKx")
    assert ServerTransactions.key(asked, "one") != ServerTransactions.key(asked, "other")


def test_a_branch_of_rfc_2543_is_told_apart_by_the_other_headers() -> None:
    one = parse(M1)
    other = parse(M1.replace(b"CSeq: 1", b"CSeq: 2"))
    assert isinstance(one, Request)
    assert isinstance(other, Request)
    assert ServerTransactions.key(one, 0) == ServerTransactions.key(one, 0)
    assert ServerTransactions.key(one, 0) != ServerTransactions.key(other, 0)


def test_a_challenge_can_be_forgotten_at_once() -> None:
    server = ServerTransactions()
    key = server.key(with_branch("z9hG4bKx"), 1)
    server.received(key, False, 0)
    server.forget(key)
    assert len(server) == 0
    assert server.received(key, False, 0) == (True, None)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 60), st.booleans()), max_size=60))
def test_memory_is_bounded_in_number_and_bytes(events: list[tuple[int, int, bool]]) -> None:
    server = ServerTransactions(max_transactions=8, max_bytes=200)
    for at, (branch, size, answer) in enumerate(events):
        key = server.key(with_branch(f"z9hG4bK{branch}"), 1)
        server.received(key, False, at)
        if answer:
            server.answered(key, b"x" * size)
        assert len(server) <= 8
        assert 0 <= server._bytes <= 200
        assert server._bytes == sum(len(known.answer or b"") for known in server._known.values())
