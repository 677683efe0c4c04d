"""A path is tested, kept open, and found dead only when several questions stayed unanswered."""

from sojourn.i3.packet import Request, parse
from sojourn.i3.probe import ASK_AGAIN, KEEP_ALIVE, MISSING, Prober


def number_of(probe: bytes) -> int:
    message = parse(probe)
    assert isinstance(message, Request)
    return message.number


def works(at: float = 100.0, rtt: float = 0.02) -> Prober:
    prober = Prober(1 << 20, at)
    assert prober.answered(number_of(prober.ask(at)), at + rtt)
    return prober


def test_a_new_path_is_asked_at_once_and_again_ever_more_slowly() -> None:
    prober, at, times = Prober(1, 100.0), 100.0, []
    for _ in range(6):
        assert prober.due == at
        prober.ask(at)
        times.append(round(prober.due - at, 2))
        at = prober.due
    assert times == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0]
    assert not prober.judge(at), "what never worked does not fall silent"


def test_an_answer_tells_the_round_trip_and_a_stranger_nothing() -> None:
    prober = Prober(1 << 20, 100.0)
    asked = number_of(prober.ask(100.0))
    assert not prober.answered(asked + 1, 100.01)
    assert prober.answered(asked, 100.02)
    assert not prober.answered(asked, 100.03), "each answer once"
    assert prober.works
    assert abs((prober.rtt.srtt or 0) - 0.02) < 1e-9
    assert prober.due == 100.02 + KEEP_ALIVE


def test_a_path_that_is_used_and_answers_nothing_is_silent_within_half_a_second() -> None:
    prober, at = works(), 200.0
    prober.hear(at)
    prober.send(at + 0.001)
    while not prober.judge(at):
        assert at < 200.5, "found in time"
        at = max(prober.due, at)
        prober.ask(at)
        at += ASK_AGAIN / 2
    assert at > 200.2, "not by one lost packet"
    assert prober.silent
    assert not prober.judge(at), "told once"


def test_one_sign_of_life_is_enough() -> None:
    prober, at = works(), 200.0
    prober.send(at)
    for step in range(MISSING + 3):
        prober.ask(at + step * ASK_AGAIN)
        if step == MISSING - 2:
            prober.hear(at + step * ASK_AGAIN + 0.01)
    assert not prober.judge(at + (MISSING + 2) * ASK_AGAIN)


def test_what_we_did_not_live_through_is_no_silence() -> None:
    prober = works()
    prober.send(200.0)
    for step in range(MISSING):
        prober.ask(200.0 + step * ASK_AGAIN)
    prober.forgive(201.0)
    assert not prober.judge(201.0)


def test_a_path_with_a_long_way_falls_silent_too_and_not_before_its_answers_are_late() -> None:
    prober, at = works(rtt=0.6), 200.0
    prober.hear(at)
    prober.send(at + 0.001)
    while not prober.judge(at):
        assert at < 202.5
        at = max(prober.due, at)
        prober.ask(at)
        at += ASK_AGAIN / 2
    assert at > 201.8, "a round trip of 0.6 s, and four times its half for doubt"
