"""The agent of a direct path alone: events in, orders out."""

import pytest

from sojourn.errors import RemoteProtocolError
from sojourn.i3.direct import Agent
from sojourn.i3.direct_message import Answer, Candidate, Check, Kind, Message, Offer, parse
from sojourn.i3.direct_orders import Say, SendTo, Told
from sojourn.i3.direct_pairs import Place
from sojourn.model import Endpoint
from tests.i3.world import seeded

HERE = Place("wifi", Endpoint("198.51.100.1", 4000), Endpoint("198.51.100.1", 4000))
THERE = Endpoint("198.51.100.2", 4000)
ELSEWHERE = Endpoint("203.0.113.66", 5000)


def agent(*, controlling: bool = True) -> Agent:
    made = Agent(seeded("agent"), 100.0, controlling=controlling)
    made.move(HERE, 100.0)
    return made


def run(made: Agent, until: float) -> list[tuple[float, Endpoint | None, Message]]:
    """Let time pass; return what was sent: when, where (None: by the node), what."""
    sent: list[tuple[float, Endpoint | None, Message]] = []
    now = 100.0
    while True:
        for order in made.out:
            match order:
                case Say(plaintext):
                    sent.append((now, None, parse(plaintext)))
                case SendTo(_, remote, plaintext):
                    sent.append((now, remote, parse(plaintext)))
        made.out.clear()
        due = made.deadline()
        if due is None or due > until:
            return sent
        now = max(due, now)
        made.tick(now)


def offer(*places: Endpoint, number: int = 1 << 32 | 1, had: int = 0, lost: bool = False) -> Offer:
    return Offer(True, number, had, tuple(Candidate(Kind.HOST, 2130706431, place) for place in places), lost)


def checks(sent: list[tuple[float, Endpoint | None, Message]], to: Endpoint) -> list[float]:
    return [at for at, where, message in sent if where == to and isinstance(message, Check)]


def direct(made: Agent, now: float = 100.0) -> None:
    """Bring an agent to where its pair is in use."""
    made.offered(offer(THERE), now)
    for _ in range(3):
        for _, where, message in run(made, now + 0.3):
            if isinstance(message, Check):
                assert where == THERE
                made.answered(Answer(message.transaction, HERE.seen), "wifi", THERE, now + 0.02)
    assert made.selected is not None
    run(made, now + 0.3)


def test_addresses_are_told_only_to_who_has_said_that_it_wants_a_direct_path() -> None:
    made = agent()
    made.wake(100.0)
    first = run(made, 100.1)
    assert [(where, message.wants, message.candidates) for _, where, message in first] == [(None, True, ())]  # type: ignore[union-attr]
    made.offered(offer(), 100.1)
    ((_, where, told),) = run(made, 100.2)
    assert where is None
    assert isinstance(told, Offer)
    assert [each.endpoint for each in told.candidates] == [HERE.local]


def test_a_peer_that_does_not_answer_is_asked_six_times_and_one_that_refuses_no_more() -> None:
    made = agent()
    made.wake(100.0)
    assert len(run(made, 200.0)) == 6
    made.wake(200.0)
    made.offered(Offer(False, 7 << 32 | 1, 0), 200.0)
    assert run(made, 300.0) == []
    assert made.why == "the peer does not allow it"


def test_an_offer_that_is_had_is_not_repeated_and_ends_with_one_answer_each() -> None:
    one, two = agent(), Agent(seeded("other"), 100.0, controlling=False)
    two.move(Place("wifi", THERE, THERE), 100.0)
    one.wake(100.0)
    two.wake(100.0)
    said = 0
    for _ in range(20):
        for sender, receiver in ((one, two), (two, one)):
            for _, _, message in run(sender, 100.3):
                if isinstance(message, Offer):
                    said += 1
                    receiver.offered(message, 100.1)
    assert said <= 8
    assert one.theirs is not None
    assert two.theirs is not None
    assert one.theirs.candidates[0].endpoint == THERE


def test_an_address_that_does_not_answer_gets_six_checks_a_round_and_rounds_become_rare() -> None:
    made = agent()
    made.offered(offer(ELSEWHERE), 100.0)
    sent = checks(run(made, 160.0), ELSEWHERE)
    assert len([at for at in sent if at < 103.5]) == 6
    assert len(sent) <= 40
    assert "none of 1 addresses" in made.why


def test_a_hostile_peer_has_us_check_others_at_six_a_second_whatever_it_offers() -> None:
    made = agent()
    now, sent = 100.0, 0
    for number in range(600):
        victims = tuple(Endpoint(f"203.0.{number % 200}.{last}", 5000) for last in range(1, 9))
        made.offered(offer(*victims, number=1 << 32 | number + 1), now)
        now += 0.1
        made.tick(now)
        while (due := made.deadline()) is not None and due <= now:
            made.tick(now)
        sent += sum(isinstance(order, SendTo) for order in made.out)
        made.out.clear()
        assert len(made.pairs) <= 8
    assert sent <= 48 + 6 * 61


def test_a_flood_of_checks_is_answered_fifty_times_a_second_and_finds_four_addresses() -> None:
    made = agent()
    made.offered(offer(THERE), 100.0)
    refused = 0
    for number in range(1000):
        try:
            made.checked(Check(number.to_bytes(8), 1), "wifi", Endpoint("203.0.113.9", 2000 + number), 100.0)
        except RemoteProtocolError:
            refused += 1
    answers = sum(isinstance(order, SendTo) for order in made.out)
    assert answers == 100
    assert refused == 900
    assert len(made.pairs) == 1 + 4


def test_an_answer_to_nothing_one_twice_and_one_from_elsewhere_select_nothing() -> None:
    made = agent()
    made.offered(offer(THERE), 100.0)
    (check,) = [message for _, _, message in run(made, 100.05) if isinstance(message, Check)]
    for transaction, source in ((bytes(8), THERE), (check.transaction, ELSEWHERE), (check.transaction, THERE)):
        with pytest.raises(RemoteProtocolError) as refused:
            made.answered(Answer(transaction, HERE.seen), "wifi", source, 100.05)
        assert refused.value.reason == "no-check"
    assert made.selected is None


def test_the_controlled_end_uses_what_the_other_one_wants() -> None:
    made = agent(controlling=False)
    made.offered(offer(THERE), 100.0)
    for _, _, message in run(made, 100.05):
        if isinstance(message, Check):
            made.answered(Answer(message.transaction, HERE.seen), "wifi", THERE, 100.05)
    assert made.selected is None
    made.checked(Check(b"12345678", 1, True), "wifi", THERE, 100.1)
    assert made.selected is not None
    assert any(isinstance(order, Told) for order in made.out)


def test_what_was_sent_since_the_last_answer_goes_by_the_node_when_the_path_dies() -> None:
    made = agent()
    direct(made)
    for number in range(40):
        now = 101.0 + number * 0.02
        pair = made.use(b"packet %d" % number, now)
        if pair is None:
            break
        while (due := made.deadline()) is not None and due <= now:
            made.tick(now)
    again = [order.datagram for order in made.out if hasattr(order, "datagram")]
    assert again == [b"packet %d" % number for number in range(len(again))]
    assert len(again) >= 10
    assert made.selected is None
    assert "no answer for" in made.why


def test_after_a_move_the_old_pair_serves_until_the_new_one_is_nominated_or_four_seconds() -> None:
    made = agent()
    direct(made)
    made.move(Place("cell", Endpoint("10.0.0.2", 4000), Endpoint("198.51.100.9", 4000)), 101.0)
    pair = made.use(b"x", 101.0)
    assert pair is not None
    assert pair.path == "wifi"
    said: list[Say] = []
    due = 101.0
    while made.selected is not None:
        orders, made.out = made.out, []
        said += [order for order in orders if isinstance(order, Say)]
        for order in orders:
            if isinstance(order, SendTo) and order.path == "wifi":
                check = parse(order.plaintext)
                assert isinstance(check, Check)
                made.answered(Answer(check.transaction, HERE.seen), "wifi", THERE, due)
        due = made.deadline() or 200.0
        made.tick(due)
        assert due <= 105.1
    assert due >= 104.9
    offers = [parse(order.plaintext) for order in (*said, *made.out) if isinstance(order, Say)]
    assert any(isinstance(each, Offer) and each.lost for each in offers), "the peer sends there no more"


def test_a_peer_that_was_started_anew_is_asked_anew() -> None:
    made = agent()
    direct(made)
    made.offered(offer(THERE, number=9 << 32 | 1), 101.0)
    assert made.theirs is not None
    assert made.theirs.number == 9 << 32 | 1
    offers = [message for _, where, message in run(made, 101.2) if where is None]
    assert offers
