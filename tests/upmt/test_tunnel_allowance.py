"""However much is asked for, a tunnel's probes stay within bounds; and too late an answer is one still."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.packet.frame import Probe
from sojourn.packet.path_mtu import MTU_CANDIDATES
from sojourn.upmt.constants import PROBE_MEMORY, PROBES_AT_ONCE, PROBES_PER_SECOND, PROBES_PER_SECOND_DEAF
from sojourn.upmt.events import TunnelRecovered, TunnelSilent
from sojourn.upmt.tunnel import SendFrame, Tell, Tunnel
from sojourn.upmt.tunnel_allowance import Allowance
from tests.harness.fakenet import Pair, Wire
from tests.harness.voice import Voice
from tests.upmt.test_tunnel import ANCHOR, answer_to, opened, working_host

ROUND = len(MTU_CANDIDATES) + 2
"""Probes of one round, which may go into debt together."""


def test_a_full_bucket_is_spent_and_filled_faster_while_answers_come() -> None:
    allowance = Allowance()
    for _ in range(PROBES_AT_ONCE):
        assert allowance.ready_at(5.0) == 5.0
        allowance.spend(5.0)
    assert allowance.ready_at(5.0) == pytest.approx(5.0 + 1 / PROBES_PER_SECOND_DEAF)
    allowance.answered(5.0)
    assert allowance.ready_at(5.0) == pytest.approx(5.0 + 1 / PROBES_PER_SECOND)


def test_it_saves_no_more_than_it_began_with() -> None:
    allowance = Allowance()
    allowance.spend(0.0)
    for _ in range(PROBES_AT_ONCE):
        allowance.spend(1000.0)
    assert allowance.ready_at(1000.0) > 1000.0


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(("in", "out", "answer", "jump", "wait")), st.floats(0.0, 0.2)), max_size=400),
    st.floats(0.0, 0.5),
)
def test_no_traffic_and_no_lateness_makes_a_tunnel_ask_more_than_its_allowance(
    steps: list[tuple[str, float]], late: float
) -> None:
    host, now, began = working_host(), 1.0, 1.0
    asked: list[float] = []
    unanswered: list[SendFrame] = []
    for kind, wait in steps:
        now += wait
        match kind:
            case "in":
                host.heard(now, 1, 100)
            case "out":
                host.sent(now, 1, 100)
            case "answer" if unanswered:
                host.on_frame(answer_to(unanswered.pop(0), now - late), ANCHOR, opened(1), 100, now)
            case "jump":
                host.clock_jumped(wait, now)
        for one in due(host, now):
            asked.append(now)
            unanswered.append(one)
    assert len(asked) <= PROBES_AT_ONCE + ROUND + PROBES_PER_SECOND * (now - began)


@pytest.mark.parametrize("answered", [True, False])
def test_a_stream_with_gaps_over_a_path_that_loses_most_answers_is_asked_about_in_bounds(answered: bool) -> None:
    host = working_host()
    asked: list[float] = []
    waiting: list[SendFrame] = []
    for number in range(300):  # each gap is a reason to ask, and each that gets lost one to ask more often
        began = 1.0 + number * 0.095
        host.heard(began, 1, 100)
        host.clock_jumped(0.095, began)
        for step in range(18):
            now = began + 0.005 * step
            waiting += due(host, now)
            asked += [now] * (len(waiting) - len(asked))
        if answered and asked[-1] >= began:
            host.on_frame(answer_to(waiting[-1], now), ANCHOR, opened(1), 100, now)
    late = [now for now in asked if now > 20.0]
    rate = PROBES_PER_SECOND if answered else PROBES_PER_SECOND_DEAF
    assert 0 < len(late) <= rate * (began - 20.0) + 2


def due(host: Tunnel, now: float) -> list[SendFrame]:
    """Return the probes that a tunnel sends now."""
    return [each for each in host.tick(now) if isinstance(each, SendFrame) and isinstance(each.frame, Probe)]


def silent_host() -> tuple[Tunnel, SendFrame, float]:
    """Return a host whose tunnel fell silent, its first probe since, and a time when that is forgotten."""
    host = working_host()
    host.sent(1.0, 1, 100)
    now, first, told = 1.0, None, []
    while now < 2 * PROBE_MEMORY:
        now += 0.02
        commands = host.tick(now)
        told += [each.event for each in commands if isinstance(each, Tell) and isinstance(each.event, TunnelSilent)]
        probes = [each for each in commands if isinstance(each, SendFrame) and isinstance(each.frame, Probe)]
        first = first or next(iter(probes), None) if told else None
    assert first is not None
    return host, first, now


def test_an_answer_that_is_too_late_to_measure_by_still_ends_silence() -> None:
    host, first, now = silent_host()
    before = host.rtt.srtt
    commands = host.on_frame(answer_to(first, now), ANCHOR, opened(1), 100, now)
    assert Tell(TunnelRecovered(host.id)) in commands
    assert host.usable
    assert host.rtt.srtt == before


def test_the_answer_to_a_probe_that_never_was_ends_nothing() -> None:
    host, first, now = silent_host()
    assert isinstance(first.frame, Probe)
    never = SendFrame(Probe(1, 100_000, first.frame.sent_us), ANCHOR)
    assert host.on_frame(answer_to(never, now), ANCHOR, opened(1), 100, now) == []
    assert not host.usable


def test_an_anchor_that_answers_later_than_is_remembered_is_not_asked_for_ever() -> None:
    # What an anchor does that has more to answer than it can: with nothing but timers, nobody would stop asking it.
    pair = Pair(Wire("wifi", delay=0.01))
    pair.open()
    Voice(pair, up=True, down=False).talk(3)
    pair.run(2)
    (wire,) = pair.wires.values()
    wire.delay = 0.6 * PROBE_MEMORY
    pair.run(4 * PROBE_MEMORY)
    assert pair.host_told(TunnelSilent)
    asked = wire.passed_up
    pair.run(20)
    assert wire.passed_up - asked <= 20  # before: 40, and so on
    assert pair.host_told(TunnelRecovered)
